"""The user's cache of binaries: `<cache>/aigateway/bin/<tool>-<version>/`, each beside a marker that vouches for it.

A binary is written to a temporary name and renamed, its marker last; an entry without a valid marker does not exist. So
whatever interrupts a download or a build, what is found later is whole. It must not know where binaries come from.
Called by `hack.binaries` and its sources.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.process import REAPER
from hack.tools import platform_name

_MARKER = "verified.json"


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/aigateway`, or `~/.cache/aigateway`; not made here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "aigateway"


def entry(name: str, version: str) -> Path:
    """Folder of one version of one tool; the binary in it has the tool's name."""
    return cache_root() / "bin" / f"{name}-{version}"


def versions(name: str) -> list[str]:
    """Versions of a tool that have a folder, newest first; whether they are whole is for `find` to say."""
    names = [path.name.removeprefix(f"{name}-") for path in (cache_root() / "bin").glob(f"{name}-[0-9]*")]
    return sorted(names, key=lambda text: [int(part) for part in re.findall(r"\d+", text)], reverse=True)


def find(name: str, version: str, *, inputs: str = "") -> Path | None:
    """The verified binary, or None when there is none, or it is not what was put there.

    A file whose size and time are still those of its last verification is trusted; any other is hashed. `inputs`
    identifies the sources of something of our own; an entry made from others does not count.
    """
    folder = entry(name, version)
    binary = folder / name
    try:
        marker = json.loads((folder / _MARKER).read_text())
        stat = binary.stat()
    except (OSError, ValueError):
        return None
    if marker.get("platform") != list(platform_name()) or marker.get("inputs", "") != inputs:
        return None
    if (marker.get("size"), marker.get("mtime_ns")) != (stat.st_size, stat.st_mtime_ns):
        if marker.get("sha256") != sha256(binary):
            return None
        _write_marker(folder, {**marker, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns})
    return binary


def install(name: str, version: str, made: Path, *, origin: str, inputs: str = "") -> Path:
    """Move the file `made` into the cache and vouch for it; `origin` says in words where it came from."""
    folder = entry(name, version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).unlink(missing_ok=True)
    waiting = folder / f".{name}.{os.getpid()}"
    try:
        shutil.copyfile(made, waiting)
        waiting.chmod(0o755)
        with waiting.open("rb") as stream:
            os.fsync(stream.fileno())
        waiting.replace(folder / name)
    finally:
        waiting.unlink(missing_ok=True)
    made.unlink(missing_ok=True)
    binary = folder / name
    stat = binary.stat()
    _write_marker(folder, {
        "version": version, "platform": list(platform_name()), "origin": origin, "inputs": inputs,
        "sha256": sha256(binary), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns,
    })  # fmt: skip
    return binary


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder inside the cache, so that moving out of it is a rename; removed afterwards, even after SIGKILL."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="working-", dir=root) as folder:
        REAPER.tell("+folder", folder)
        try:
            yield Path(folder)
        finally:
            REAPER.tell("-folder", folder)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache's only lock, so that two processes do not fetch the same thing. `waiting` is called once with the
    holder's process id when it is taken. The kernel frees it when its holder dies.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            waiting(lock.read().strip() or "unknown")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def _write_marker(folder: Path, marker: dict[str, object]) -> None:
    waiting = folder / f".{_MARKER}.{os.getpid()}"
    with contextlib.suppress(PermissionError):  # a read-only cache is as good; it is hashed each time
        waiting.write_text(json.dumps(marker, indent=1) + "\n")
        waiting.replace(folder / _MARKER)
