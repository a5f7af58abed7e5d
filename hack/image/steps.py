"""Run the steps of the Dockerfile without a container engine, in a sandbox on this machine's own system.

The RUN lines are run as they stand; what the base image would bring is borrowed, so nothing is learnt about the base
(`slim` is tested apart, and the engines build the real thing). Lines without a secret have no network, which shows that
they need none. What a stage `…-needs` made is kept in the user's cache, by the digest of all it was made from. Called by
`python -m hack image --engine none` and tests/image.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hack import cache
from hack.image.dockerfile import Dockerfile, Instruction, Stage, parse_arguments, parse_dockerfile
from hack.image.sandbox import Sandbox, SandboxError

ROOT: Final = Path(__file__).resolve().parents[2]
TARGETS: Final = ("operator", "gateway")
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.py[cod]")


class Steps:
    """Makes stages into folders below `folder`; each stage once."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """`folder` is empty and stays the caller's; `say` is told what is being done."""
        self._folder = folder
        self._say = say
        self._file: Dockerfile = parse_dockerfile((ROOT / "Dockerfile").read_text())
        self._made: dict[str, Path] = {}

    def make(self, name: str) -> Path:
        """Return the folder with what this stage wrote, and the stages it stands on. SandboxError when a step fails."""
        if name not in self._made:
            stage = self._file.stages[name]
            kept = _kept(stage) if name.endswith("-needs") else None
            if kept is None:
                self._made[name] = self._run(stage, self._folder / name)
            else:
                self._made[name] = kept if kept.exists() else self._keep(stage, kept)
        return self._made[name]

    def _keep(self, stage: Stage, kept: Path) -> Path:
        for older in kept.parent.glob(f"{stage.name}-*"):
            shutil.rmtree(older, ignore_errors=True)
        with cache.workspace() as waiting:
            made = self._run(stage, waiting / stage.name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            made.rename(kept)
        return kept

    def _run(self, stage: Stage, tree: Path) -> Path:
        if stage.base in self._file.stages:
            shutil.copytree(self.make(stage.base), tree, symlinks=True, copy_function=_link_or_copy)
        else:
            tree.mkdir(parents=True)
            _lend_pip(tree)
        folder, values = "/", dict[str, str]()
        for instruction in stage.instructions:
            match instruction.keyword:
                case "WORKDIR":
                    folder = instruction.text
                    (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "ARG" | "ENV":
                    values |= parse_arguments(instruction.text)
                case "COPY":
                    source = self.make(origin) if (origin := instruction.flag("from")) else ROOT
                    _copy(instruction, source, tree, folder)
                case "RUN":
                    self._say(f"{stage.name}: {instruction.text[:100]}")
                    _execute(instruction, tree, folder, values)
                case other:
                    raise SandboxError(f"stage {stage.name}: {other} cannot be done without an engine")
        return tree


def _execute(instruction: Instruction, tree: Path, folder: str, values: dict[str, str]) -> None:
    reaches_out = any("type=secret" in value for name, value in instruction.flags if name == "mount")
    found = [f"{sys.base_prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin"]
    environment = {"PATH": ":".join(found), "PYTHONPATH": "/borrowed", "HOME": "/tmp", "LC_ALL": "C.UTF-8"}  # noqa: S108 - inside
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") and name != "PIP_FIND_LINKS"}
    environment |= {**values, "PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = Sandbox(tree).run(
        ["sh", "-ec", instruction.text], environment=environment, folder=folder, network=reaches_out, as_user=False
    )
    if done.returncode:
        raise SandboxError(f"RUN {instruction.text}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _copy(instruction: Instruction, source: Path, tree: Path, folder: str) -> None:
    *names, to = instruction.text.split()
    target = tree / (Path(folder) / to).as_posix().lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True, ignore=_IGNORED)
        elif to.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _lend_pip(tree: Path) -> None:
    """Put the pip of this environment where the steps find it: the system's Python may have none."""
    spec = importlib.util.find_spec("pip")
    if spec is None or spec.origin is None:
        raise SandboxError(f"{sys.executable} has no pip; run it with .venv/bin/python (make venv)")
    shutil.copytree(Path(spec.origin).parent, tree / "borrowed" / "pip", ignore=_IGNORED)


def _link_or_copy(source: str, target: str) -> None:
    """A hard link where one can be: what later steps do to a stage adds and renames files, and writes into none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _kept(stage: Stage) -> Path:
    """Where the result of a stage that installs packages is kept: whatever it is made from is in the name."""
    digest = hashlib.sha256(f"{sys.base_prefix} {sys.version} {platform.machine()} {stage}".encode())
    for instruction in stage.instructions:
        if instruction.keyword == "COPY":
            for name in instruction.text.split()[:-1]:
                digest.update((ROOT / name).read_bytes())
    return cache.cache_root() / "image" / f"{stage.name}-{digest.hexdigest()[:16]}"
