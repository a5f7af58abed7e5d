"""Exit codes of every command, and nothing else. Documented for scripts in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command ended with."""

    FINE = 0
    """It did what it was asked, or nothing differs."""
    REFUSED = 1
    """Rules are broken, something differs, or what was waited for was not reached. A manifest that cannot be read counts
    where each is judged for itself (`check`, `apply`, `render`, `local`), and so does `doctor`'s row on the API server."""
    USAGE = 2
    """Wrong arguments or settings, or files that the whole command rests on and that cannot be used."""
    CLUSTER = 3
    """The API server cannot be reached, or does not let us read."""
    INTERRUPTED = 130
    """Ctrl-C."""
