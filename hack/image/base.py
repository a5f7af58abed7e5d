"""A base image from Debian's packages, for where none can be pulled: Debian's Python on Debian's minimal system.

Not what is published (that is the image which the Dockerfile names), but good enough to build and check all else. Needs
root and debootstrap. Called by `hack.image.build`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from hack import cache
from hack.image.engine import Engine, EngineError

SUITE: Final = "bookworm"
TAG: Final = "localhost/aigateway-python:bookworm"
PACKAGES: Final = ("python3", "python3-venv", "python3-pip", "ca-certificates", "tzdata", "netbase")
"""What the published base holds beside the minimal system. pip is for the build; the Dockerfile takes it out again."""
_LIMIT_SECONDS: Final = 900
_OF_NO_USE: Final = (
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)


def make_base(engine: Engine) -> str:
    """Give the engine a base image and return its name; what was made once is taken from the cache. EngineError if not."""
    archive = cache.cache_root() / "image" / f"base-{SUITE}.tar"
    if not archive.exists():
        _make_archive(archive)
    with tempfile.TemporaryDirectory(prefix="aigateway-base-") as folder:
        context = Path(folder)
        _link(archive, context / "root.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        engine.build(context, TAG)
    return TAG


def _make_archive(archive: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise EngineError("A base image needs debootstrap, which is not in PATH.\nRemedy: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise EngineError(
            "A base image needs root, for debootstrap.\nRemedy: run the same command with sudo, or name one: --base"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    with cache.workspace() as waiting:
        root = waiting / "root"
        packages = ",".join(PACKAGES)
        _run(["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root)])
        for name in _OF_NO_USE:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        made = waiting / "root.tar"
        _run(["tar", "--create", "--numeric-owner", "--one-file-system", f"--directory={root}", f"--file={made}", "."])
        made.rename(archive)


def _link(archive: Path, to: Path) -> None:
    """Bring the archive into the build's folder without copying it, where both are on one file system."""
    try:
        to.hardlink_to(archive)
    except OSError:
        shutil.copyfile(archive, to)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{command[0]} was not done after {_LIMIT_SECONDS} s") from error
    if done.returncode:
        tail = (done.stdout + done.stderr).strip()[-1500:]
        raise EngineError(f"{command[0]} ended with {done.returncode}; the end of what it said:\n{tail}")
