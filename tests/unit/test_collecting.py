"""What is there at the start is left out of garbage collection; what comes later is not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from aigateway_operator.collecting import freeze_what_is_there


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    """The process' own ones, given back to the tests that follow."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


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


def test_what_was_frozen_and_is_used_no_more_goes_with_the_next_call() -> None:
    """The controller starts anew when its namespaces change: each former one kept its whole store for ever."""
    former = _Ring()
    seen = weakref.ref(former)
    freeze_what_is_there()
    try:
        del former
        gc.collect()
        assert seen() is not None, "frozen: the next call has to look at it"
        freeze_what_is_there()
        assert seen() is None
    finally:
        gc.unfreeze()


def test_thirty_thousand_objects_that_stay_cause_a_full_collection() -> None:
    """Only that empties Python's lists of free tuples. By itself it comes after seventy thousand, and a burst has fewer."""
    seen: list[int] = []

    def note(phase: str, found: dict[str, int]) -> None:
        seen.extend([found["generation"]] if phase == "stop" else [])

    freeze_what_is_there()
    gc.callbacks.append(note)
    try:
        kept = [[number] for number in range(30_000)]
        assert 2 in seen, (len(kept), seen)
    finally:
        gc.callbacks.remove(note)
        gc.unfreeze()


def test_no_full_collection_while_the_start_lasts() -> None:
    """What is listed stays: walking all of it again with every quarter more took 0.6 s of a start with 10,000 models."""
    seen: list[int] = []

    def note(phase: str, found: dict[str, int]) -> None:
        seen.extend([found["generation"]] if phase == "stop" else [])

    freeze_what_is_there(starting=True)
    gc.callbacks.append(note)
    try:
        kept = [[number] for number in range(60_000)]
        assert 1 in seen, "what is young and refers to itself is still found"
        assert 2 not in seen, len(kept)
        freeze_what_is_there()
        seen.clear()
        more = [[number] for number in range(10_000)]
        assert 2 in seen, (len(more), "what is there now is counted as what was there at the start")
    finally:
        gc.callbacks.remove(note)
        gc.unfreeze()
