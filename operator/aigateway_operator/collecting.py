"""The garbage collector, told once what will never be garbage: modules and classes, two thirds of all objects of a process.

A full collection walks every object that is tracked: 40 ms with what is imported alone, in which no review is answered and no
lease renewed. Frozen, these are walked never again. A leaf, called by `serving` and `webhook` when their parts have
started.
Source: CPython `gc.freeze`; measured: see docs/decisions.md.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 700
"""Objects that stay until those since the last collection are looked at: Python's own until 3.12; 3.13 has 2,000."""
MIDDLE_EVERY: Final = 1
"""Collections of the youngest that one of those older waits for, where Python waits for ten. kopf's views of an object refer to
each other and outlive the first of them: until the second a burst takes that memory from the system."""
FULL_EVERY: Final = 1
"""Such collections that a full one waits for, where Python waits for ten. A full one also empties the lists of tuples kept for
use again, which take half a megabyte in a burst; of a large heap it comes as seldom as ever, since Python waits until it has
grown by a quarter."""
NEVER: Final = 1_000_000
"""Until the start is over nearly everything that is made stays: full collections took 0.6 s of a start with 10,000 models."""


def freeze_what_is_there(*, starting: bool = False) -> None:
    """Collect, then leave everything that is there now out of later collections.

    What an earlier call froze is looked at again: of a former composition nothing must stay. `starting`: much is still to come
    that stays; no full collection until the next call.
    """
    gc.set_threshold(YOUNG, MIDDLE_EVERY, NEVER if starting else FULL_EVERY)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.collect()  # of nothing: Python counts that quarter from what the last one found, which was all that is frozen now
