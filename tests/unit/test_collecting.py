"""What is there at the start is left out of garbage collection; what comes later is not."""

from __future__ import annotations

import gc
import weakref

from aigateway_operator.collecting import freeze_what_is_there


class _Ring:
    """An object that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def test_modules_are_walked_no_more_and_later_garbage_is_still_found() -> None:
    """A full collection of what is imported alone takes as long as a slow review; a cycle made later must still go."""
    old = weakref.ref(_Ring())
    freeze_what_is_there()
    try:
        assert old() is None, "garbage must not be frozen with the rest"
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
        later = weakref.ref(_Ring())
        gc.collect()
        assert later() is None
    finally:
        gc.unfreeze()
