"""What is refused first when room runs out: new records by worth, never ones that were accepted. Pure.

Under pressure the newest DEBUG and INFO say least, and what was accepted has a number already: dropping it would leave a
gap that no reader could tell from a loss. So each kind of record has a share of the bound, and operations have all of it.
Called by `writer` under its lock.
"""

from __future__ import annotations

from typing import Final

_WARNING: Final = 30
_ERROR: Final = 40


def share(stream: str, level: int) -> float:
    """How full the spool may be (0..1) for a record of that stream and level (number) to be accepted."""
    if stream == "operation":
        return 1.0
    if level < _WARNING:
        return 0.7
    return 0.8 if level < _ERROR else 0.9
