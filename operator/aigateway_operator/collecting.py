"""The garbage collector, told once what will never be garbage: modules and classes, two thirds of all objects of a process.

A full collection walks every object that is tracked: 40 ms with what is imported alone, in which no review is answered and no
lease renewed. Frozen, these are walked never again. A leaf, called by `serving` and `webhook` when their parts have
started.
Source: CPython `gc.freeze`; measured: see docs/decisions.md.
"""

from __future__ import annotations

import gc
from typing import Final

FULL_EVERY: Final = 2
"""Collections of what is young that a full one waits for, where Python waits for ten. A full one also empties the lists of
tuples kept for use again, which take half a megabyte in a burst; of a large heap it comes as seldom as ever, since Python waits
until it has grown by a quarter."""


def freeze_what_is_there() -> None:
    """Collect, then leave everything that is there now out of later collections.

    What an earlier call froze is looked at again: of a former composition nothing must stay.
    """
    gc.set_threshold(*gc.get_threshold()[:2], FULL_EVERY)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
