"""The coalescing queue: when rounds start, how many there are, and how failures hold them back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway_operator.reconcile.queue import (
    BURST_QUIET_SECONDS,
    FIRST_BACKOFF_SECONDS,
    MAX_BACKOFF_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_QUIET_SECONDS,
    MAX_REST_SECONDS,
    QUIET_SECONDS,
    QUIET_SHARE,
    REST_FACTOR,
    CoalescingQueue,
)
from tests.virtual_time import now, run, virtual

SMALL = 1e-6


class Rounds:
    """A worker that takes keys, spends `seconds` on each and notes when it took them; `failing` rounds are given back so."""

    def __init__(self, queue: CoalescingQueue[str], seconds: float = 0.0) -> None:
        self.queue = queue
        self.seconds = seconds
        self.failing = 0
        self.retry_after_seconds: float | None = None
        self.began: list[tuple[str, float]] = []

    async def work(self) -> None:
        while True:
            key = await self.queue.take()
            self.began.append((key, now()))
            await asyncio.sleep(self.seconds)
            if self.failing > 0:
                self.failing -= 1
                self.queue.failed(key, self.retry_after_seconds)
            else:
                self.queue.done(key)

    def times(self, key: str = "a") -> list[float]:
        return [time for name, time in self.began if name == key]


def with_rounds(
    test: Callable[[CoalescingQueue[str], Rounds], Coroutine[Any, Any, None]], workers: int = 1, seconds: float = 0.0
) -> None:
    """Run `test` beside workers."""

    async def main() -> None:
        queue: CoalescingQueue[str] = CoalescingQueue(now, Random(7))
        rounds = Rounds(queue, seconds)
        tasks = [asyncio.create_task(rounds.work()) for _ in range(workers)]
        await asyncio.sleep(SMALL)
        try:
            await test(queue, rounds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_a_mark_of_an_idle_key_is_due_at_once() -> None:
    """A single edit does not wait for the quiet time."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        marked = now()
        queue.mark("a")
        await asyncio.sleep(5)
        assert rounds.times() == [pytest.approx(marked, abs=SMALL)]
        queue.mark("a")
        await asyncio.sleep(5)
        assert len(rounds.times()) == 2

    with_rounds(check)


def test_two_marks_in_one_breath_are_one_round_after_the_quiet_time() -> None:
    """What arrives together is done together."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        marked = now()
        for _ in range(10):
            queue.mark("a")
        await asyncio.sleep(5)
        assert rounds.times() == [pytest.approx(marked + QUIET_SECONDS, abs=SMALL)]

    with_rounds(check)


def test_a_short_pause_in_a_burst_begins_no_round() -> None:
    """A thousand creates pause for 40 ms now and then; each such pause would cost a write of every shard."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(4):
            for _ in range(60):
                queue.mark("a")
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.04 - 0.005)
        last = now()
        await asyncio.sleep(2)
        assert len([time for time in rounds.times() if time < last]) <= 3, "the first, and those of the maximum delay"
        assert rounds.times()[-1] <= last + BURST_QUIET_SECONDS

    with_rounds(check)


def test_a_stream_of_single_edits_is_no_burst() -> None:
    """Twenty edits a second, each with the five marks it causes itself, are served one by one."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(40):
            marked = now()
            for _ in range(5):
                queue.mark("a")
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.04)
            assert rounds.times()[-1] >= marked
            assert rounds.times()[-1] <= marked + 0.008 + QUIET_SECONDS + SMALL

    with_rounds(check)


def test_marks_that_never_pause_are_not_held_up_longer_than_the_maximum_delay() -> None:
    """A burst of ten seconds gives a round a second, not one at its end."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(1000):
            queue.mark("a")
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        times = rounds.times()
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert 10 <= len(times) <= 12, times
        assert max(gaps) <= MAX_DELAY_SECONDS + 0.01 + SMALL

    with_rounds(check)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0])
def test_in_a_burst_of_patient_marks_rounds_take_a_share_of_the_time(seconds: float) -> None:
    """Rounds that write every shard of ten thousand models are not done back to back; no model waits without limit."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(3000):
            queue.mark("a", patient=True)
            await asyncio.sleep(0.005)
        last = now()
        await asyncio.sleep(10)
        gaps = [later - earlier for earlier, later in pairwise(rounds.times()[:-1])][2:]
        rest = min(MAX_REST_SECONDS, REST_FACTOR * seconds)
        assert min(gaps) >= seconds + rest
        assert max(gaps) <= max(seconds + rest, MAX_DELAY_SECONDS) + 0.005 + SMALL
        assert rounds.times()[-1] <= last + BURST_QUIET_SECONDS + seconds, "the end of a burst is waited for by nobody"

    with_rounds(check, seconds=seconds)


async def burst(queue: CoalescingQueue[str], marks: int) -> None:
    """Mark as creates of several clients do."""
    for _ in range(marks):
        queue.mark("a", patient=True)
        await asyncio.sleep(0.005)


def test_pauses_that_a_long_round_makes_do_not_end_the_rest_after_it() -> None:
    """The writes of 64 shards hold creates up for 50 ms and more; each pause would cost those writes again."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(50):
            await burst(queue, 40)
            await asyncio.sleep(0.9 * MAX_QUIET_SECONDS - 0.005)
        gaps = [later - earlier for earlier, later in pairwise(rounds.times())][2:]
        assert min(gaps) >= rounds.seconds + MAX_REST_SECONDS

    with_rounds(check, seconds=1.1 * MAX_QUIET_SECONDS / QUIET_SHARE)


def test_what_a_round_kept_from_being_heard_is_heard_before_the_next() -> None:
    """A round that ends with the statuses of thousands blocks its loop: nothing comes in meanwhile, and that is no pause."""

    async def main() -> None:
        heard, blocked = 0.0, 0.0
        queue: CoalescingQueue[str] = CoalescingQueue(lambda: now() + blocked)
        await burst(queue, 100)
        await queue.take()
        await burst(queue, 100)
        blocked += 0.4  # nobody's turn came for so long
        queue.done("a")
        taken = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        for _ in range(80):  # what had to wait, all at once
            queue.mark("a", patient=True)
        heard = now()
        await burst(queue, 100)
        assert not taken.done(), "the burst goes on"
        await taken
        assert now() <= heard + 0.5 + MAX_QUIET_SECONDS + SMALL, "its end is the end of the rest"

    run(main())


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0, 3.0])
def test_the_end_of_a_burst_costs_little_wherever_in_a_round_it_comes(seconds: float) -> None:
    """Of a small gateway no more than ever, of a large one a tenth of a second."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for marks in range(900, 1700, 50):
            await burst(queue, marks)
            last = now() - 0.005
            await asyncio.sleep(20)
            *_, before, final = (-seconds, *rounds.times())
            quiet = max(BURST_QUIET_SECONDS, min(MAX_QUIET_SECONDS, QUIET_SHARE * seconds))
            assert last <= final <= max(last + quiet, before + seconds + QUIET_SECONDS) + SMALL

    with_rounds(check, seconds=seconds)


def test_after_a_burst_of_long_rounds_a_lone_mark_is_due_at_once() -> None:
    """And two that come together, after the quiet time that they have always had."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        await burst(queue, 1000)
        await asyncio.sleep(10)
        for pair in (False, True):
            marked = now()
            queue.mark("a")
            if pair:
                queue.mark("a")
            await asyncio.sleep(10)
            assert rounds.times()[-1] == pytest.approx(marked + pair * QUIET_SECONDS, abs=SMALL)

    with_rounds(check, seconds=1.0)


def test_one_impatient_mark_in_a_burst_of_patient_ones_waits_no_longer_than_ever() -> None:
    """An edit of a model that is served does not wait for ten thousand others to be created."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        edited = []
        for number in range(3000):
            queue.mark("a", patient=number % 900 != 899)
            if number % 900 == 899:
                edited.append(now())
            await asyncio.sleep(0.005)
        for edit in edited:
            served = min(began for began in rounds.times() if began >= edit)
            assert served <= edit + MAX_DELAY_SECONDS + 0.005 + SMALL

    with_rounds(check, seconds=0.8)


def test_patience_costs_nothing_where_rounds_are_cheap_or_marks_pause() -> None:
    """Whoever applies a manifest, or a stream of them to a small gateway, is served as always."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        for _ in range(500):
            queue.mark("a", patient=True)
            await asyncio.sleep(0.01)
        gaps = [later - earlier for earlier, later in pairwise(rounds.times())]
        assert max(gaps) <= MAX_DELAY_SECONDS + 0.01 + SMALL
        rounds.seconds = 2.0
        for _ in range(3):
            await asyncio.sleep(5)
            marked = now()
            queue.mark("a", patient=True)
            await asyncio.sleep(SMALL)
            assert rounds.times()[-1] == pytest.approx(marked, abs=SMALL)

    with_rounds(check, seconds=0.8 * MAX_DELAY_SECONDS / REST_FACTOR)


def test_a_mark_during_a_round_causes_exactly_one_more() -> None:
    """What changed after the snapshot was taken is seen by another round, however often it changed."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        queue.mark("a")
        await asyncio.sleep(0.1)
        for _ in range(3):
            queue.mark("a")
            await asyncio.sleep(0.05)
        assert len(rounds.times()) == 1, "one key is never in two rounds at once"
        await asyncio.sleep(20)
        assert len(rounds.times()) == 2
        assert queue.idle

    with_rounds(check, workers=3, seconds=1.0)


def test_keys_do_not_wait_for_each_other() -> None:
    """A burst or a slow round of one gateway delays no other."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        queue.mark("a")
        for _ in range(20):
            queue.mark("b")
            await asyncio.sleep(0.01)
        marked = now()
        queue.mark("c")
        await asyncio.sleep(SMALL)
        assert rounds.times("c") == [pytest.approx(marked, abs=SMALL)]
        await asyncio.sleep(10)
        assert len(rounds.times("a")) == 1
        assert len(rounds.times("b")) <= 2

    with_rounds(check, workers=3, seconds=1.0)


def test_back_off_grows_is_kept_under_new_marks_and_ends_with_success() -> None:
    """Marks do not hammer a server that fails; one success makes the key quick again."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        rounds.failing = 8
        queue.mark("a")
        while rounds.failing:
            queue.mark("a")
            await asyncio.sleep(0.01)
        await asyncio.sleep(60)
        times = rounds.times()
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) == 8
        for count, gap in enumerate(gaps):
            wanted = FIRST_BACKOFF_SECONDS * 2**count
            assert 0.5 * wanted - SMALL <= gap <= max(1.5 * wanted, MAX_DELAY_SECONDS) + 2 * QUIET_SECONDS, (count, gap)
        marked = now()
        queue.mark("a")
        await asyncio.sleep(SMALL)
        assert rounds.times()[-1] == pytest.approx(marked, abs=SMALL)
        rounds.failing = 1
        queue.mark("a")
        await asyncio.sleep(5)
        assert len(rounds.times()) == 12, "the failed round and its repetition"
        assert rounds.times()[-1] - rounds.times()[-2] <= 1.5 * FIRST_BACKOFF_SECONDS + SMALL

    with_rounds(check)


def test_marks_that_come_during_a_round_that_fails_wait_for_the_back_off_too() -> None:
    """In a stream of edits there is one in every round: they must not hammer a server that refuses."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        rounds.failing = 9
        while rounds.failing:
            queue.mark("a")
            await asyncio.sleep(0.01)
        for count, (earlier, later) in enumerate(pairwise(rounds.times())):
            assert later - earlier >= rounds.seconds + 0.5 * FIRST_BACKOFF_SECONDS * 2**count - SMALL, count

    with_rounds(check, seconds=0.1)


@virtual
async def test_a_key_that_is_held_back_after_a_failure_is_not_at_work() -> None:
    """Statuses give way to rounds; a gateway whose rounds fail for ever must not slow down those of all others."""
    queue: CoalescingQueue[str] = CoalescingQueue(now, Random(1))
    seen = [queue.at_work]
    queue.mark("a")
    seen.append(queue.at_work)
    await queue.take()
    seen.append(queue.at_work)
    queue.failed("a")
    queue.mark("a")
    seen.append(queue.at_work)
    assert not queue.idle
    queue.mark("b")
    seen.append(queue.at_work)
    assert seen == [False, True, True, False, True]


def test_keys_that_fail_together_are_not_tried_again_together() -> None:
    """After an outage hundreds of gateways would come at the same moment, again and again."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        rounds.failing = 20
        began = now()
        for number in range(20):
            queue.mark(str(number))
        await asyncio.sleep(1)
        again = [time - began for _, time in rounds.began[20:]]
        assert len(again) == 20
        assert max(again) - min(again) > 0.5 * FIRST_BACKOFF_SECONDS

    with_rounds(check)


def test_a_gateway_that_is_made_again_does_not_wait_for_the_failures_of_the_one_before() -> None:
    """It may be the remedy."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        rounds.failing = 8
        queue.mark("a")
        while rounds.failing:
            await asyncio.sleep(0.01)
        queue.forget("a")
        marked = now()
        queue.mark("a")
        await asyncio.sleep(SMALL)
        assert rounds.times()[-1] == pytest.approx(marked, abs=SMALL)

    with_rounds(check)


@virtual
async def test_back_off_has_a_limit_and_obeys_the_server() -> None:
    """It never exceeds its maximum with jitter, unless the server asks for more."""
    queue: CoalescingQueue[str] = CoalescingQueue(now, Random(7))
    delays = []
    for _ in range(60):
        queue.mark("a")
        delays.append(queue.failed(await queue.take()))
    assert max(delays) <= 1.5 * MAX_BACKOFF_SECONDS
    assert min(delays[20:]) >= 0.5 * MAX_BACKOFF_SECONDS
    assert queue.failed(await queue.take(), 120.0) == 120.0
    began = now()
    await queue.take()
    assert now() - began == pytest.approx(120.0)


def test_a_wish_for_later_comes_then_or_with_an_earlier_mark() -> None:
    """mark_later is an alarm clock: the latest setting counts, and a round that comes before it silences it."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        began = now()
        queue.mark_later("a", 5)
        assert queue.idle, "what is wished for later is nothing to wait for"
        await asyncio.sleep(10)
        assert rounds.times() == [pytest.approx(began + 5)]
        queue.mark_later("a", 5)
        queue.mark_later("a", 1)
        await asyncio.sleep(2)
        assert rounds.times()[1:] == [pytest.approx(began + 11)]
        queue.mark_later("a", 5)
        queue.mark("a")
        await asyncio.sleep(20)
        assert len(rounds.times()) == 3

    with_rounds(check)


def test_a_forgotten_key_has_no_round() -> None:
    """A gateway that is gone leaves nothing behind: no mark, no alarm, no back-off."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        rounds.failing = 1
        queue.mark("a")
        await asyncio.sleep(SMALL)
        queue.mark_later("a", 1)
        queue.forget("a")
        await asyncio.sleep(60)
        assert len(rounds.times()) == 1
        assert queue.idle
        marked = now()
        queue.mark("a")
        await asyncio.sleep(SMALL)
        assert rounds.times()[-1] == pytest.approx(marked, abs=SMALL)

    with_rounds(check)


@settings(max_examples=150, deadline=None)
@given(gaps=st.lists(st.floats(0, 0.2) | st.floats(0, 3), max_size=60), seconds=st.sampled_from([0.0, 0.01, 0.3, 2.0]))
def test_any_marks_give_a_round_after_the_last_and_at_most_the_bound(gaps: list[float], seconds: float) -> None:
    """n marks: a round begins after the last; there is at most one a mark, and two a burst and one a maximum delay in it."""

    async def check(queue: CoalescingQueue[str], rounds: Rounds) -> None:
        began = last = now()
        bursts, before = 0, float("-inf")
        for gap in gaps:
            await asyncio.sleep(gap)
            last = now()
            bursts += last - before >= QUIET_SECONDS
            before = last
            queue.mark("a")
        await asyncio.sleep(20)
        times = rounds.times()
        if not gaps:
            assert times == []
            return
        assert times[-1] >= last, "the last change was not seen"
        assert times[-1] <= last + max(BURST_QUIET_SECONDS, seconds) + MAX_DELAY_SECONDS + SMALL, (
            "the last change waited too long"
        )
        assert len(times) <= len(gaps)
        assert len(times) <= 2 * bursts + (last - began) / MAX_DELAY_SECONDS
        assert queue.idle

    with_rounds(check, seconds=seconds)
