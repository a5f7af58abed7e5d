"""Files of a volume, swapped at once as a kubelet swaps them, so that readers never see half a set.

    <volume>/..2026_11_21_12_00_00.1234/config.yml      the files themselves
    <volume>/..data -> ..2026_11_21_12_00_00.1234       renamed over the old one: the one moment of change
    <volume>/config.yml -> ..data/config.yml            what programs open; made after the swap, removed after it

Nothing is written when nothing differs; what a process that died has left behind is removed by the next swap. Knows nothing
of gateways. Called by `rendered`. Source: kubelet pkg/volume/util/atomic_writer.go.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

DATA: Final = "..data"
_NEW_DATA: Final = "..data_tmp"
_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600

Files = Mapping[str, bytes]
"""File name → content. Names are those of documents and credentials, never paths."""


def read_volume(folder: Path) -> dict[str, bytes]:
    """Return the files of a volume, {} where there is none. Raises OSError for one that is there and cannot be read."""
    current = _current(folder)
    if current is None:
        return {}
    return {path.name: path.read_bytes() for path in sorted(current.iterdir()) if path.is_file()}


def swap_volume(folder: Path, files: Files) -> bool:
    """Make `folder` hold exactly `files`, readable by their owner alone; return whether anything was written.

    Raises OSError; the files from before are then all still there.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
    old = _current(folder)
    if old is not None and read_volume(folder) == dict(files):
        return False
    new = _write_beside(folder, files)
    link = folder / _NEW_DATA
    link.unlink(missing_ok=True)
    link.symlink_to(new.name)
    link.replace(folder / DATA)
    _show(folder, files)
    _clear(folder, files, new)
    return True


def _current(folder: Path) -> Path | None:
    try:
        target = folder / (folder / DATA).readlink()
    except FileNotFoundError:
        return None
    return target if target.is_dir() else None


def _write_beside(folder: Path, files: Files) -> Path:
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.")
    new = Path(tempfile.mkdtemp(prefix=stamp, dir=folder))  # made with 0700
    for name, content in files.items():
        # Made with its final rights: written first and narrowed later, it could be opened in between.
        with os.fdopen(os.open(new / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE), "wb") as file:
            file.write(content)
    return new


def _show(folder: Path, files: Files) -> None:
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")


def _clear(folder: Path, files: Files, current: Path) -> None:
    """Remove links to files that are gone, and every older folder."""
    for entry in folder.iterdir():
        if entry.is_symlink():
            if entry.name != DATA and entry.name not in files:
                entry.unlink()
        elif entry.name.startswith("..") and entry.name != current.name and entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
