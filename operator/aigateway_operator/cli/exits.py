"""Exit codes of every command, and nothing else. Documented for scripts in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command ended with."""

    FINE = 0
    """It did what it was asked, or nothing differs."""
    REFUSED = 1
    """Rules are broken, something differs, or what was waited for was not reached."""
    USAGE = 2
    """Wrong arguments or settings, or files that cannot be read as manifests."""
    CLUSTER = 3
    """The API server cannot be reached, or does not let us read."""
    INTERRUPTED = 130
    """Ctrl-C."""
