"""Files of a mounted volume, swapped at once as a kubelet swaps them, in its order of steps.

    <volume>/..2026_11_21_12_00_00.1234/config.yml      the files themselves
    <volume>/..data -> ..2026_11_21_12_00_00.1234       renamed over the old one: the one moment of change
    <volume>/config.yml -> ..data/config.yml            what programs open; made after the swap, removed after it

Nothing is written when nothing differs. Knows no Kubernetes object. Called by `hack.kubelet.volumes`.
Source: kubelet pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

DATA: Final = "..data"
_NEW_DATA: Final = "..data_tmp"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    content: bytes
    mode: int = 0o644

    def __repr__(self) -> str:
        return f"File({len(self.content)} bytes, {self.mode:o})"  # the content may be a secret


Payload = Mapping[str, File]
"""Path inside the volume → file."""


def write_volume(folder: Path, payload: Payload) -> bool:
    """Make `folder` hold exactly `payload`; return whether anything was written. ValueError for a path that leads out."""
    for path in payload:
        _check_path(path)
    folder.mkdir(parents=True, exist_ok=True)
    old = _current(folder)
    if old is not None and _files_in(old) == dict(payload):
        return False
    new = _write_beside(folder, payload)
    _point_at(folder, new)
    _show(folder, payload)
    _hide(folder, payload)
    if old is not None:
        shutil.rmtree(old)
    return True


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ValueError(f"'{path}' is no path inside a volume: it must be relative, without '..' at its start or as a part")


def _current(folder: Path) -> Path | None:
    try:
        return folder / (folder / DATA).readlink()
    except FileNotFoundError:
        return None


def _files_in(directory: Path) -> dict[str, File]:
    found = {}
    for path in directory.rglob("*"):
        if path.is_file():
            found[path.relative_to(directory).as_posix()] = File(path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def _write_beside(folder: Path, payload: Payload) -> Path:
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
    new = Path(tempfile.mkdtemp(prefix=stamp, dir=folder))
    new.chmod(0o755)
    for path, file in payload.items():
        target = new / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    return new


def _point_at(folder: Path, new: Path) -> None:
    link = folder / _NEW_DATA
    link.unlink(missing_ok=True)  # left by one that died between the two steps
    link.symlink_to(new.name)
    link.replace(folder / DATA)


def _show(folder: Path, payload: Payload) -> None:
    for name in {PurePosixPath(path).parts[0] for path in payload}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")


def _hide(folder: Path, payload: Payload) -> None:
    shown = {PurePosixPath(path).parts[0] for path in payload}
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in shown:
            entry.unlink()
