"""Write requirements/*.txt from pyproject.toml: pinned, hashed, valid for every supported Python.

Called by `make requirements` inside `.venv`, which holds uv. It must not install anything, and what it writes must not
name a package registry's host: whoever installs chooses the registry. tests/unit/test_repository.py holds the files
to pyproject.toml by the digest in their first lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
OLDEST_PYTHON: Final = "3.11"
FILES: Final[dict[str, tuple[str, ...]]] = {
    "runtime": ("operator",),
    "gateway": ("gateway",),
    "dev": ("operator", "gateway", "dev"),
    "docs": ("docs",),
}
"""File name without suffix -> extras whose needs, beside the base, it pins. In order: each agrees with those before it."""
BUILD: Final = "build"
"""The file that pins the build backend, with which the image makes our wheel; it agrees with all of FILES."""


def inputs_digest(extras: Sequence[str]) -> str:
    """Return the SHA-256 of what pyproject.toml asks for in the base and in these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [project["requires-python"], project["dependencies"]]
    asked += [project["optional-dependencies"][extra] for extra in extras]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def build_needs() -> list[str]:
    """Return what building the wheel asks for: `build-system.requires` of pyproject.toml."""
    needs: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return needs


def build_digest() -> str:
    """Return the SHA-256 of what building the wheel asks for."""
    return hashlib.sha256(json.dumps(build_needs()).encode()).hexdigest()


def _compile(name: str, upgrade: bool) -> None:
    """Resolve one file; versions already in it stay unless `upgrade`. Raises CalledProcessError."""
    extras = FILES.get(name, ())
    source, given = ("-", "\n".join(build_needs())) if name == BUILD else ("pyproject.toml", "")
    target = ROOT / "requirements" / f"{name}.txt"
    draft = target.with_suffix(".txt.draft")
    if target.exists():
        draft.write_text(target.read_text())  # uv keeps the pins it finds in its output file
    command = [sys.executable, "-m", "uv", "pip", "compile", source, "--quiet", "--universal", "--no-header"]
    command += ["--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
    command += [f"--extra={extra}" for extra in extras] + ["--output-file", str(draft)]
    command += ["--upgrade"] if upgrade else []
    order = [*FILES, BUILD]
    for earlier in order[: order.index(name)]:
        command += ["--constraint", f"requirements/{earlier}.txt"]
    try:
        subprocess.run(command, cwd=ROOT, check=True, timeout=600, env=_environment(), input=given, text=True)
        what = f"the base and extras {', '.join(extras)}" if extras else "the build backend"
        header = (
            f"# Pinned and hashed: {what} of pyproject.toml.\n"
            "# Written by `make requirements`; not to be edited.\n"
            f"# inputs: {inputs_digest(extras) if extras else build_digest()}\n"
        )
        draft.write_text(header + draft.read_text())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    print(f"requirements: wrote {target.relative_to(ROOT)}")


def _environment() -> dict[str, str]:
    """Hand pip's own settings to uv, which does not read them: mirror and certificates stay the user's choice."""
    environment = dict(os.environ)
    for theirs, ours in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if theirs in environment:
            environment.setdefault(ours, environment[theirs])
    return environment


def main(arguments: Sequence[str]) -> int:
    """Write every file; `--upgrade` takes the newest versions that pyproject.toml allows."""
    for name in (*FILES, BUILD):
        try:
            _compile(name, upgrade="--upgrade" in arguments)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"requirements: {name}.txt was not written: {error}; what failed is above", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
