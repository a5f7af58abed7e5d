"""Waiting for an event or a time in a task that may be cancelled: waiting.py."""

from __future__ import annotations

import asyncio

import pytest

from aigateway_operator.waiting import wait
from tests.virtual_time import now, virtual


@virtual
async def test_cancellation_that_comes_together_with_the_event_is_not_swallowed() -> None:
    """A loop that is told to end and to look at something in the same turn ends (asyncio.wait_for of 3.11 goes on)."""
    event = asyncio.Event()
    task = asyncio.create_task(wait(event, 10))
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_wait_ends_by_the_event_or_by_the_time_and_leaves_the_event_clear() -> None:
    """Whichever comes first; None waits for ever."""
    event, began = asyncio.Event(), now()
    await wait(event, 2)
    assert now() - began == pytest.approx(2)
    asyncio.get_running_loop().call_later(3, event.set)
    await wait(event, None)
    assert now() - began == pytest.approx(5)
    assert not event.is_set()
