"""Those who wait until their record is written or durable, in event loops and in threads, woken a whole group at a time.

Called by `writer` and `syncer` (release) and `dual` (wait). Must not block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress


class Waiter:
    """One that waits. Its answer: True, it is as asked; False, it could not be (the spool said why on standard error)."""

    __slots__ = ("future", "loop", "when_written")

    def __init__(self, future: asyncio.Future[bool] | Future[bool], *, when_written: bool) -> None:
        self.future = future
        self.loop = future.get_loop() if isinstance(future, asyncio.Future) else None
        self.when_written = when_written
        """True: in the page cache is enough (it survives the process); False: on disk (it survives the machine)."""


def release(waiters: Iterable[Waiter], answer: bool) -> None:
    """Answer all; those of one loop cost one wake-up. A loop that is closed has nobody who waits."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
    for waiter in waiters:
        if isinstance(waiter.future, asyncio.Future) and waiter.loop is not None:
            by_loop.setdefault(waiter.loop, []).append(waiter.future)
        elif isinstance(waiter.future, Future):
            with suppress(InvalidStateError):
                waiter.future.set_result(answer)
    for loop, futures in by_loop.items():
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer, futures, answer)


def _answer(futures: list[asyncio.Future[bool]], answer: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(answer)
