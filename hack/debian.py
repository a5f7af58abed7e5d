"""Redis and promtool from Debian's or Ubuntu's packages, unpacked into the cache without touching the system.

Installing a package would start a service and needs root; unpacking it and what it depends on does neither. A small
wrapper beside Redis sets the library path; promtool needs nothing beside it. Called by `hack.binaries`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hack import cache
from hack.progress import Progress, Step
from hack.tools import PROMETHEUS, REDIS, TOOLS, ask_version

_PACKAGE = "redis-server"
_PROMETHEUS_PACKAGE = "prometheus"
_LIMIT_SECONDS = 300


class PackageError(RuntimeError):
    """The package could not be had; the text says why."""


def get_redis(progress: Progress) -> Path:
    """Put redis-server into the cache and return the wrapper that starts it. PackageError when that fails."""
    _require_debian()
    with progress.step(f"{_PACKAGE}: unpacking Debian's package into the cache", "10 s") as step:
        folder = cache.entry(_PACKAGE, REDIS)
        with cache.workspace() as waiting:
            root = _unpack(waiting, step, _PACKAGE)
            wrapper = waiting / "wrapper"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            root.rename(folder / "root")
            wrapper.write_text(_wrapper(folder / "root"))
            wrapper.chmod(0o755)
            if isinstance(said := ask_version(TOOLS[_PACKAGE], wrapper), str):
                raise PackageError(f"the unpacked redis-server {said}")
            return cache.install(_PACKAGE, REDIS, wrapper, origin="Debian's package, unpacked")


def get_promtool(progress: Progress) -> Path:
    """Put promtool into the cache, of whichever version Debian has, and return it. PackageError when that fails."""
    _require_debian()
    with progress.step(f"promtool: unpacking Debian's package {_PROMETHEUS_PACKAGE} into the cache", "10 s") as step:
        with cache.workspace() as waiting:
            made = _unpack(waiting, step, _PROMETHEUS_PACKAGE, alone=True) / "usr" / "bin" / "promtool"
            if isinstance(said := ask_version(TOOLS["promtool"], made), str):
                raise PackageError(f"the unpacked promtool {said}")
            return cache.install("promtool", PROMETHEUS, made, origin="Debian's package, unpacked")


GET: Final[Mapping[str, Callable[[Progress], Path]]] = {"redis-server": get_redis, "promtool": get_promtool}
"""What packages give, and how."""


def _require_debian() -> None:
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise PackageError(f"no Debian or Ubuntu here: {' and '.join(missing)} not in PATH")
    if os.environ.get("AIGATEWAY_OFFLINE"):
        raise PackageError("switched off by AIGATEWAY_OFFLINE")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpack(folder: Path, step: Step, package: str, *, alone: bool = False) -> Path:
    """Download a package and, unless `alone`, what it depends on, and unpack all of it into one root."""
    options: list[str] = []
    try:
        names = _packages(options, package)
    except PackageError:
        step.note("the system has no package lists: fetching some of our own")
        options = _own_lists(folder)
        _run(["apt-get", *options, "update"], folder)
        names = _packages(options, package)
    names = [package] if alone else names
    downloads, root = _made(folder / "deb"), _made(folder / "root")
    _run(["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", *names], downloads)
    for archive in sorted(downloads.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(root)], folder)
    return root


def _packages(options: Sequence[str], package: str) -> list[str]:
    """What apt would install for it here: the package and those of its dependencies that are not installed."""
    said = _run(["apt-get", *options, "-s", "--no-install-recommends", "install", package], Path("/"))
    return re.findall(r"^Inst (\S+)", said, flags=re.MULTILINE)


def _own_lists(folder: Path) -> list[str]:
    """Options that make apt keep its lists in `folder`, which needs no root."""
    lists, archives = _made(folder / "lists" / "partial"), _made(folder / "archives" / "partial")
    return ["-o", f"Dir::State::lists={lists.parent}", "-o", f"Dir::Cache={archives.parent}", "-o", "APT::Sandbox::User=root"]


def _wrapper(root: Path) -> str:
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    server = root / "usr" / "bin" / _PACKAGE
    return f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(":".join(libraries))} exec {shlex.quote(str(server))} "$@"\n'


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"{command[0]} did not end within {_LIMIT_SECONDS} s") from error
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no reason given"]
        raise PackageError(f"{' '.join(command[:1])}: {reason[0]}")
    return done.stdout
