"""What is said of a mirror comes late, stays a while and changes seldom, whatever Redis does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.rollout.mirror_health import CLEAR_AFTER_SECONDS, SHOW_AFTER_SECONDS, MirrorHealth


class Clock:
    """Seconds that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_success_is_told_at_once() -> None:
    """Whoever starts wants to know; nothing was said before that could flap."""
    health = MirrorHealth(Clock())
    told = [health.trouble, health.worked(), health.trouble, health.worked()]
    assert told == [None, True, "", False]


def test_a_restart_of_redis_is_not_told() -> None:
    """Failures for less than the time, however many."""
    clock = Clock()
    health = MirrorHealth(clock)
    health.worked()
    for _ in range(10):
        assert not health.failed("away")
        clock.now += SHOW_AFTER_SECONDS / 11
    assert not health.worked()
    clock.now += SHOW_AFTER_SECONDS
    assert not health.failed("away"), "the time began anew"


def test_a_lasting_failure_is_told_once_and_ends_after_a_while() -> None:
    """Not before it has worked for the time without a failure in between."""
    clock = Clock()
    health = MirrorHealth(clock)
    health.failed("away")
    clock.now += SHOW_AFTER_SECONDS
    assert health.failed("away")
    assert health.trouble == "away"
    assert not health.failed("away")
    health.worked()
    clock.now += CLEAR_AFTER_SECONDS - 0.1
    assert not health.worked()
    health.failed("away")
    health.worked()
    clock.now += CLEAR_AFTER_SECONDS - 0.1
    assert not health.worked()
    clock.now += 0.1
    assert health.worked()
    assert health.trouble == ""


def test_another_reason_is_told_once_it_lasts() -> None:
    """First it was away, then it is back and refuses the password: the remedy is another."""
    clock = Clock()
    health = MirrorHealth(clock)
    health.failed("away")
    clock.now += SHOW_AFTER_SECONDS
    health.failed("away")
    assert not health.failed("denied")
    clock.now += CLEAR_AFTER_SECONDS
    assert health.failed("denied")
    assert health.trouble == "denied"


@given(st.lists(st.tuples(st.sampled_from(["", "away", "denied"]), st.floats(0.01, 20)), max_size=200))
def test_at_most_one_change_in_the_shorter_of_both_times(events: list[tuple[str, float]]) -> None:
    """Whatever happens, a status is not written more often than this."""
    clock = Clock()
    health = MirrorHealth(clock)
    changes: list[float] = []
    for reason, pause in events:
        if health.failed(reason) if reason else health.worked():
            changes.append(clock.now)
        clock.now += pause
    gaps = [after - before for before, after in pairwise(changes)]
    assert all(gap >= SHOW_AFTER_SECONDS for gap in gaps)
    assert len(changes) <= 2 + 2 * (clock.now - 1000.0) / (SHOW_AFTER_SECONDS + CLEAR_AFTER_SECONDS)
