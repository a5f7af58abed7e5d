"""Tells subscribers of new configurations, each at its own pace.

Called by the reader. A subscriber that raises is logged, one that hangs waits for itself alone: neither stops the others
nor the reader. One that is slow skips what is out of date: it is told the newest, with the one it was told before.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable

from aigateway_config.configuration import Configuration

log = logging.getLogger("aigateway_config")

Callback = Callable[[Configuration, Configuration | None], Awaitable[None] | None]


class Subscriber:
    """One callback and the task that serves it. Coroutine functions run in the loop, plain ones in a thread of their own."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._told: Configuration | None = None
        self._newest: Configuration | None = None
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._serve(), name="aigateway-config-subscriber")

    def tell(self, configuration: Configuration) -> None:
        """Note the newest configuration; the callback hears of it as soon as it is free."""
        self._newest = configuration
        self._wake.set()

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            new, old = self._newest, self._told
            if new is None or new is old:
                continue
            self._told = new
            try:
                await self._call(new, old)
            except Exception:
                log.exception("a subscriber of the configuration failed")

    async def _call(self, new: Configuration, old: Configuration | None) -> None:
        if inspect.iscoroutinefunction(self._callback) or inspect.iscoroutinefunction(
            getattr(self._callback, "__call__", None)  # noqa: B004  an object with an async __call__
        ):
            made = self._callback(new, old)
        else:
            made = await _in_thread(lambda: self._callback(new, old))
        if inspect.isawaitable(made):
            await made


async def _in_thread(call: Callable[[], Awaitable[None] | None]) -> Awaitable[None] | None:
    """Call in a daemon thread, so that one that hangs does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Awaitable[None] | None] = loop.create_future()

    def finish(result: Awaitable[None] | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001  carried over to the waiting task
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=work, name="aigateway-config-callback", daemon=True).start()
    return await done
