"""Wait for an event or for a time, whichever comes first, in a task that may be cancelled at any moment.

A leaf: knows nothing of the operator. Called by the loops of `reconcile` and `rollout`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until the event is set, at most `seconds` (None: for ever), and clear it.

    Not by `asyncio.wait_for`: before Python 3.12 it swallows a cancellation that comes together with the event, and the task
    lives for ever.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
