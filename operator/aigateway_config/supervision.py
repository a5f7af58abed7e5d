"""Keeps something running that ought not to end: logged, counted down, started again.

Called by the reader for its sources and services. One that fails never takes the others or the program along.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

log = logging.getLogger("aigateway_config")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
CALM_SECONDS = 30.0
"""Having run for so long, the next failure starts with the first pause again."""


async def keep_running(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Await `run()` again and again until cancelled, with pauses that double up to ten seconds, spread by a third."""
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE_SECONDS
    while True:
        started = loop.time()
        try:
            await run()
            log.warning("%s ended and is started again", what)
        except Exception:  # the loop's edge: one that fails must not take the others along
            log.warning("%s failed and is started again", what, exc_info=True)
        if loop.time() - started > CALM_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause * random.uniform(0.67, 1.33))  # noqa: S311  spreads restarts, no secret
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
