"""A coroutine in a thread with an event loop of its own, beside a test that blocks: watches and listeners of tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self


class LoopThread:
    """Runs `main()` as long as the context lasts, then cancels it; what it raised fails the test."""

    def __init__(self, main: Callable[[], Awaitable[Any]], name: str) -> None:
        self._main = main
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        loop, task = self._loop, self._task
        if loop is not None and task is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive(), f"{self._thread.name} does not end"
        if self._failure is not None and error is None:
            raise self._failure

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a plain function in the loop and return its result."""
        assert self._loop is not None

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._failure = error
        self._started.set()

    async def _keep(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        try:
            await self._main()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # TLS connections need some turns to end
