"""What is held to be true follows the outcomes, not the noise."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.datastores.probe import Outcome
from aigateway_operator.datastores.tracker import FLAP_SECONDS, MAX_SUCCESSES, Tracker
from aigateway_operator.plan.health import HealthState, Schedule
from tests.unit.datastores.outcomes import DENIED, LOADING, REFUSED, TIMEOUT, UP

PERIOD = 10.0


class Watch:
    """A tracker that is fed one outcome a period. `changes`: (time, state) of each."""

    def __init__(self, threshold: int = 3) -> None:
        self.tracker = Tracker(Schedule(PERIOD, 2.0, threshold))
        self.now = 1000.0
        self.changes: list[tuple[float, str]] = []

    def feed(self, *outcomes: Outcome) -> str:
        """Return the state after them, "" for none."""
        for outcome in outcomes:
            if self.tracker.take(outcome, self.now, f"at {self.now:g}"):
                assert self.tracker.health is not None
                self.changes.append((self.now, self.tracker.health.state))
            self.now += PERIOD
        return self.tracker.health.state if self.tracker.health is not None else ""


def test_the_first_good_outcome_counts_and_the_first_bad_one_does_not() -> None:
    """A new gateway whose store is fine is told so at once; one whose store is just starting is not alarmed."""
    assert Watch().feed(UP) == "Up"
    assert Watch().feed(REFUSED, REFUSED) == ""
    assert Watch().feed(REFUSED, REFUSED, REFUSED) == "Down"


def test_a_bad_state_takes_the_threshold_in_a_row() -> None:
    """Two failures and a success are nothing."""
    watch = Watch()
    assert watch.feed(UP, REFUSED, REFUSED, UP, REFUSED, REFUSED) == "Up"
    assert watch.feed(REFUSED) == "Down"
    assert Watch(threshold=1).feed(UP, REFUSED) == "Down"


def test_any_bad_outcomes_in_a_row_count_and_the_last_one_is_told() -> None:
    """A Redis that is restarted refuses, then loads: it is not up, and loading is what it does."""
    watch = Watch()
    assert watch.feed(UP, REFUSED, TIMEOUT, LOADING) == "NotReady"
    assert watch.tracker.health is not None
    assert watch.tracker.health.reason == "Loading"


def test_one_bad_state_becomes_another_after_the_threshold_of_that_very_one() -> None:
    """Down, then denied: the remedy is another one, so it is told, but not for one odd outcome."""
    watch = Watch()
    assert watch.feed(REFUSED, REFUSED, REFUSED, DENIED, DENIED, LOADING, DENIED, DENIED) == "Down"
    assert watch.feed(DENIED) == "Denied"


def test_since_moves_with_the_state_and_not_with_its_reason() -> None:
    """Down is down, whether it refuses or does not answer."""
    watch = Watch()
    watch.feed(REFUSED, REFUSED, REFUSED)
    assert watch.tracker.health is not None
    assert watch.tracker.health.since == "at 1020"
    watch.feed(TIMEOUT, TIMEOUT, TIMEOUT)
    assert (watch.tracker.health.reason, watch.tracker.health.since) == ("Timeout", "at 1020")
    watch.feed(UP)
    assert watch.tracker.health.since == "at 1060"


def test_the_first_return_counts_at_once_and_later_ones_ever_later() -> None:
    """A store that comes and goes is told as bad: the second return takes two good outcomes, the next ones four and eight."""
    watch = Watch()
    watch.feed(UP)
    for needed in (1, 2, 4, MAX_SUCCESSES, MAX_SUCCESSES):
        assert watch.feed(*[REFUSED] * 3) == "Down"
        assert watch.feed(*[UP] * (needed - 1)) == "Down"
        assert watch.feed(UP) == "Up"


def test_flapping_is_forgotten() -> None:
    """A store that was up for ten minutes, or down for as long, is trusted again."""
    watch = Watch()
    watch.feed(UP, *[REFUSED] * 3, UP, *[REFUSED] * 3)
    assert watch.feed(UP) == "Down"
    watch.feed(UP)
    watch.now += FLAP_SECONDS
    assert watch.feed(*[REFUSED] * 3, UP) == "Up"


@pytest.mark.parametrize(
    ("outcomes", "wavering"),
    [
        ((), False),
        ((REFUSED,), True),
        ((UP,), False),
        ((UP, REFUSED), True),
        ((UP, REFUSED, UP), False),
        ((REFUSED,) * 3, False),
    ],
)
def test_doubt_is_only_while_a_bad_outcome_waits_to_be_confirmed(outcomes: Iterable[Outcome], *, wavering: bool) -> None:
    """Then the next check comes soon; a store that is down is not asked more often than one that is up."""
    watch = Watch()
    watch.feed(*outcomes)
    assert watch.tracker.wavering is wavering


@given(st.lists(st.sampled_from([UP, REFUSED, TIMEOUT, DENIED, LOADING]), min_size=400, max_size=400))
def test_whatever_comes_changes_are_few_and_the_truth_prevails(outcomes: list[Outcome]) -> None:
    """Any hour costs at most one change per three checks, and what stays the same for long enough is told."""
    watch = Watch()
    watch.feed(*outcomes)
    assert len(watch.changes) <= 400 / 2
    assert watch.feed(*[DENIED] * MAX_SUCCESSES) == "Denied"
    assert watch.feed(*[UP] * MAX_SUCCESSES) == HealthState.UP
