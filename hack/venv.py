"""The Python environment of this clone: `.venv`, made from the hashed requirements.

Called by `make venv` and by hack/check.py, before anything is installed: standard library only. It must not resolve
versions (hack/requirements.py does) and never installs what has no hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".venv"
PYTHON: Final = FOLDER / "bin" / "python"
REQUIREMENTS: Final = ROOT / "requirements" / "dev.txt"
INSTALL_SECONDS: Final = 1200
"""Longest time one pip run may take; a first one downloads about 120 MB."""

_SOURCE_REMEDY: Final = (
    "a source of Python packages must be in reach: the network, or a mirror or folder named by pip's own settings "
    "(PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT). Then run the same command again."
)
_PROJECT_REMEDY: Final = "mend pyproject.toml or a file it names (README.md, LICENSE): the project does not build."


class VenvError(Exception):
    """The environment could not be made; the text names what failed and the remedy."""


def ensure() -> Path:
    """Make `.venv` current and return its interpreter; does nothing when it is current already.

    New pins make a new environment, so that nothing stays that is no longer asked for; a changed pyproject.toml only
    installs the project again (its console scripts). Two callers at once wait for each other. Raises VenvError.
    """
    with _locked():
        pins, project = _stamps()
        if not _is_stamped("pins", pins):
            _announce(f"making {FOLDER.relative_to(ROOT)} from {REQUIREMENTS.relative_to(ROOT)} (a minute or two, once)")
            _create()
            _pip(_SOURCE_REMEDY, "install", "--require-hashes", "-r", str(REQUIREMENTS))
            _stamp("pins", pins)
        if not _is_stamped("project", project):
            _pip(_PROJECT_REMEDY, "install", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT))
            _stamp("project", project)
    return PYTHON


def _stamps() -> tuple[str, str]:
    """What the environment was made from: digests of (interpreter, place, pins) and of the project's own metadata."""
    where = f"{sys.version_info[:3]} {ROOT}"
    pins = hashlib.sha256(where.encode() + REQUIREMENTS.read_bytes()).hexdigest()
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return pins, project


def _is_stamped(name: str, value: str) -> bool:
    marker = FOLDER / f"aigateway-{name}.sha256"
    return PYTHON.exists() and marker.exists() and marker.read_text() == value


def _stamp(name: str, value: str) -> None:
    (FOLDER / f"aigateway-{name}.sha256").write_text(value)


def _create() -> None:
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(FOLDER)
    except (subprocess.CalledProcessError, ModuleNotFoundError) as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise VenvError(
            f"{sys.executable} cannot make an environment with pip ({error}).\n"
            f"Remedy: install its venv module, on Debian and Ubuntu `apt-get install python{version}-venv`, "
            "or name another interpreter: `make PYTHON=/path/to/python3 …`."
        ) from error


def _pip(remedy: str, *arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PYTHONWARNINGS": ""}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, timeout=INSTALL_SECONDS, env=environment, cwd=ROOT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VenvError(f"pip was not done after {INSTALL_SECONDS} s.\nRemedy: {remedy}") from error
    if done.returncode:
        raise VenvError(f"`pip {' '.join(arguments)}` ended with {done.returncode}; its message is above.\nRemedy: {remedy}")


@contextmanager
def _locked() -> Iterator[None]:
    """One maker at a time; the lock ends with the process, so that nothing is left to clean up by hand."""
    with (ROOT / "requirements" / "dev.txt").open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _announce(text: str) -> None:
    print(f"venv: {text}", flush=True)


def main() -> int:
    """Make the environment and say where it is; 1 with the remedy when it cannot be made."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what a too old interpreter meets first
        print(f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    started = time.monotonic()
    try:
        ensure()
    except VenvError as error:
        print(f"venv: {error}", file=sys.stderr)
        return 1
    _announce(f"{FOLDER.relative_to(ROOT)} is current ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
