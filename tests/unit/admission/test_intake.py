"""The budget of bytes: what is at work at once is bounded, who waits gets in by turn, and nothing is lost when one gives up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway_operator.admission.intake import LEAST_BYTES, Busy, Intake

UNIT = LEAST_BYTES


async def enter(intake: Intake, length: int, leave: asyncio.Event, order: list[int]) -> None:
    """Hold room until `leave` is set; writes its length down when it got in."""
    async with intake.room_for(length):
        order.append(length)
        await leave.wait()


async def turns() -> None:
    """Let every task run until it waits for something else than its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_room_is_bounded_and_given_in_order() -> None:
    """A small one that came later does not overtake a large one that waits."""
    intake, leave, order = Intake(4 * UNIT), asyncio.Event(), list[int]()
    lengths = [3 * UNIT, 2 * UNIT, UNIT]
    tasks = [asyncio.create_task(enter(intake, length, leave, order)) for length in lengths]
    await turns()
    assert (order, intake.waiting, intake.used_bytes) == ([3 * UNIT], 2, 3 * UNIT)
    leave.set()
    await asyncio.gather(*tasks)
    assert (order, intake.used_bytes, intake.waiting) == (lengths, 0, 0)


async def test_small_requests_are_charged_a_minimum() -> None:
    """So the number at work is bounded too."""
    intake, leave, order = Intake(2 * UNIT), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(enter(intake, 0, leave, order)) for _ in range(3)]
    await turns()
    assert (len(order), intake.waiting) == (2, 1)
    leave.set()
    await asyncio.gather(*tasks)


async def test_who_waits_too_long_or_finds_too_many_waiting_is_told() -> None:
    """And leaves no trace: the room that comes later goes to others."""
    intake, leave, order = Intake(UNIT, most_waiting=1, wait_seconds=0.05), asyncio.Event(), list[int]()
    first = asyncio.create_task(enter(intake, UNIT, leave, order))
    await turns()
    waiting = asyncio.create_task(enter(intake, UNIT, leave, order))
    await turns()
    with pytest.raises(Busy):
        await enter(intake, UNIT, leave, order)
    with pytest.raises(Busy):
        await waiting
    leave.set()
    await first
    await enter(intake, UNIT, leave, order)
    assert (len(order), intake.used_bytes, intake.waiting) == (2, 0, 0)


async def test_cancelled_waiter_makes_way() -> None:
    """A large one that gives up lets the small one behind it in at once."""
    intake, leave, order = Intake(4 * UNIT), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(enter(intake, length, leave, order)) for length in (3 * UNIT, 4 * UNIT, UNIT)]
    await turns()
    tasks[1].cancel()
    await turns()
    assert order == [3 * UNIT, UNIT]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert intake.used_bytes == 0


async def test_room_given_at_the_moment_of_cancellation_is_given_back() -> None:
    """The charge of a waiter that was let in and cancelled in the same turn does not stay for ever."""
    intake, leave, order = Intake(UNIT), asyncio.Event(), list[int]()
    first = intake.room_for(UNIT)
    await first.__aenter__()
    second = asyncio.create_task(enter(intake, UNIT, leave, order))
    await turns()
    await first.__aexit__(None, None, None)  # gives the room to the second, which has had no turn since
    assert (intake.used_bytes, intake.waiting) == (UNIT, 0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert (order, intake.used_bytes, intake.waiting) == ([], 0, 0)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6 * UNIT), st.booleans()), max_size=20))
def test_whatever_happens_the_bound_holds_and_all_is_given_back(plan: list[tuple[int, bool]]) -> None:
    """Random lengths, some cancelled: never more than the budget, and nothing left at the end."""

    async def run() -> None:
        intake, most = Intake(6 * UNIT), 0

        async def work(length: int) -> None:
            nonlocal most
            async with intake.room_for(length):
                most = max(most, intake.used_bytes)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(work(length)) for length, _ in plan]
        await asyncio.sleep(0)
        for task, (_, cancelled) in zip(tasks, plan, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 6 * UNIT
        assert (intake.used_bytes, intake.waiting) == (0, 0)

    asyncio.run(run())
