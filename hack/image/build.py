"""`python -m hack image`: build both images, look inside, say what is wrong and how large they are.

With `--engine none` nothing is built: the Dockerfile's steps are run and checked on this machine's own system. Standard
library only, as all that `hack.__main__` imports. Called by it, `make image`, the workflows and `hack.kind`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hack.image.base import make_base
from hack.image.engine import ENGINES, Engine, EngineError, find_engine
from hack.image.sandbox import Sandbox, SandboxError, why_not
from hack.image.steps import ROOT, TARGETS, Steps
from hack.image.verdict import INSIDE, faults, parse_found

SIZE_LIMIT_MB: Final = {"operator": 260, "gateway": 230}
"""Largest size of our own layer (/opt/aigateway), in MB of 10^6 bytes: a new dependency that is heavy is noticed."""
_INSIDE_PIP: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_TIMEOUT", "PIP_RETRIES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"only these; there are {', '.join(TARGETS)}")
    parser.add_argument("--engine", choices=[*ENGINES, "none"], default="", help="default: the first one that answers")
    parser.add_argument("--base", default="", metavar="IMAGE", help="base image in place of the one the Dockerfile names")
    parser.add_argument("--local-base", action="store_true", help="make a base image from Debian's packages (root)")
    parser.add_argument("--look", default="", metavar="IMAGE", help="build nothing, look inside this image of the one target")
    parser.add_argument("--tag", default=version(), help="tag of both images (default: %(default)s)")


def image(given: argparse.Namespace) -> int:
    """Run the command; 0 if all is built and as it must be, 1 with the reason otherwise."""
    targets: Sequence[str] = given.targets or TARGETS
    if unknown := [name for name in targets if name not in TARGETS]:
        print(f"There is no image {', '.join(unknown)}; there are {', '.join(TARGETS)}.", file=sys.stderr)
        return 1
    try:
        if given.look:
            return _look(find_engine(given.engine), targets, given.look)
        if given.engine == "none":
            return _without_engine(targets)
        engine = find_engine(given.engine)
        base = make_base(engine) if given.local_base else given.base
        return max([_with_engine(engine, target, name_of(target, given.tag), base) for target in targets])
    except (EngineError, SandboxError) as error:
        print(error, file=sys.stderr)
        return 1


def version() -> str:
    """The project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def name_of(target: str, tag: str) -> str:
    """Name of an image without a registry, as the chart's values have it."""
    return f"aigateway-{target}:{tag}"


def _with_engine(engine: Engine, target: str, tag: str, base: str) -> int:
    started = time.monotonic()
    print(f"{tag}: building with {engine.name}", flush=True)
    arguments = {**({"PYTHON_IMAGE": base} if base else {}), "VERSION": version(), "REVISION": _revision()}
    with pip_secrets() as secrets:
        engine.build(ROOT, tag, target=target, arguments=arguments, secrets=secrets, show=_show)
    code = _look(engine, [target], tag)
    print(f"{tag}: done in {time.monotonic() - started:.0f} s", flush=True)
    return code


def _look(engine: Engine, targets: Sequence[str], tag: str) -> int:
    """Look inside an image that is there, or can be pulled."""
    if len(targets) != 1:
        raise EngineError("--look needs one target: python -m hack image operator --look IMAGE")
    told = faults(found := parse_found(engine.look_inside(tag, targets[0])))
    size = engine.size_bytes(tag) / 1e6
    print(f"{tag}: {size:.0f} MB unpacked, Python {found['python']}, {found['modules']} modules of ours import", flush=True)
    return _judge(tag, told)


def _without_engine(targets: Sequence[str]) -> int:
    """Make and check the contents on this machine's own system."""
    if reason := why_not():
        raise SandboxError(f"Without an engine the steps need namespaces: {reason}.\nRemedy: an engine, or root.")
    worst = 0
    with tempfile.TemporaryDirectory(prefix="aigateway-image-") as folder:
        steps = Steps(Path(folder), lambda text: print(text, flush=True))
        for target in targets:
            told, size_mb = check_contents(steps, target)
            print(f"{target}: /opt/aigateway has {size_mb:.0f} MB")
            worst = max(worst, _judge(target, told))
    return worst


def check_contents(steps: Steps, target: str) -> tuple[list[str], float]:
    """Make what an image of ours adds to its base; what is wrong with it, and its size in MB. SandboxError if it fails."""
    tree = steps.make(f"{target}-build")
    settings = {"PATH": "/opt/aigateway/bin:/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108 - inside
    done = Sandbox(tree).run(["/opt/aigateway/bin/python3", "-", target, "--borrowed"], environment=settings, stdin=INSIDE)
    if done.returncode:
        raise SandboxError(f"Python in {target} ended with {done.returncode}: {done.stderr[-2000:]}")
    told = faults(parse_found(done.stdout))
    size_mb = sum(path.lstat().st_size for path in (tree / "opt").rglob("*")) / 1e6
    if size_mb > SIZE_LIMIT_MB[target]:
        told.append(f"/opt/aigateway has {size_mb:.0f} MB, more than {SIZE_LIMIT_MB[target]}")
    return told, size_mb


def _judge(name: str, told: list[str]) -> int:
    for fault in told:
        print(f"{name}: {fault}", file=sys.stderr)
    print(f"{name}: {'NOT as it must be' if told else 'as it must be (docs/image.md says what that is)'}", flush=True)
    return 1 if told else 0


@contextmanager
def pip_secrets() -> Iterator[dict[str, Path]]:
    """pip's settings of this machine and its certificates as secrets of the build: they reach no layer.

    Settings of the environment are written down as a pip.conf; certificates are handed on when somebody has named them.
    """
    with tempfile.TemporaryDirectory(prefix="aigateway-pip-") as folder:
        lines = [
            f"{name.removeprefix('PIP_').lower().replace('_', '-')} = {os.environ[name]}"
            for name in _INSIDE_PIP
            if name in os.environ
        ]
        certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or ""
        secrets = {}
        if certificates and Path(certificates).exists():
            lines.append("cert = /run/secrets/ca.pem")
            secrets["ca"] = Path(certificates)
        path = Path(folder) / "pip.conf"
        path.write_text("\n".join(["[global]", *lines, ""]))
        path.chmod(0o600)
        yield {"pip": path, **secrets}


def _revision() -> str:
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    return said.stdout.strip() or "unknown"


def _show(line: str) -> None:
    """Show an engine's steps; what runs inside them is told only when it fails."""
    if line.startswith(("STEP", "[")) or " RUN " in line or " COPY " in line:
        print(f"  {line[:160]}", flush=True)
