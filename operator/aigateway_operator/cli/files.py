"""Writing files: for everybody, or for their owner alone. Every failure is a sentence. Called by `render` and `import`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from aigateway_operator.errors import SettingsError

_PUBLIC: Final = 0o666
_PRIVATE: Final = 0o600


def write_public(path: Path, content: bytes) -> None:
    """Write a file as the user's umask says, with the folders above it. Raises SettingsError."""
    _write(path, content, _PUBLIC)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, also if it was there with wider rights. Raises SettingsError."""
    _write(path, content, _PRIVATE)


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made with its final rights: written first and narrowed later, it could be opened in between.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode), "wb") as file:
            if mode == _PRIVATE:
                os.fchmod(file.fileno(), mode)
            file.truncate(0)
            file.write(content)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name another folder.") from None
