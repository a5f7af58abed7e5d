"""An event loop whose clock jumps: a test of minutes takes milliseconds and never depends on the machine's speed.

    @virtual
    async def test_something() -> None:
        await asyncio.sleep(120)        # returns at once, 120 virtual seconds later

Time moves when nothing is ready (and by a nanosecond a turn). When nothing will ever become ready, the
test fails instead of hanging. No I/O and no threads.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

START_SECONDS = 1000.0


class Deadlock(AssertionError):
    """Every task waits for something that nobody will ever do."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: moves the loop's clock by what it should have waited."""

    now = START_SECONDS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready and timeout is None:
            raise Deadlock("every task waits for something that nobody will ever do")
        # Each turn of the loop takes a nanosecond: a wait that is too short to be told apart from none would spin for ever.
        self.now += 1e-9 if ready or timeout is None else max(timeout, 1e-9)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` is its virtual clock, which is also to be handed to what is tested."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def now() -> float:
    """Return the virtual time, in seconds, of the running loop: a clock for what is tested."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine in a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test a plain one that runs in virtual time."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return wrapper
