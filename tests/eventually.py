"""Waiting for something to become true, instead of sleeping: used by every test that watches a running system.

A check asserts, and what it asserts last is what a failure shows. It must not hide any other error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], *, within_seconds: float, every_seconds: float = 0.05) -> T:
    """Call `check` until it raises no AssertionError; returns what it returned.

    It is tried at least once, and once more at the deadline. A failure is the last AssertionError, with the time and
    the number of tries added. Any other exception passes through at once.
    """
    started, tries = time.monotonic(), 0
    while True:
        late = time.monotonic() - started >= within_seconds
        tries += 1
        try:
            return check()
        except AssertionError as error:
            if late:
                _fail(error, tries, within_seconds)
        time.sleep(every_seconds)


async def eventually_async(check: Callable[[], Awaitable[T]], *, within_seconds: float, every_seconds: float = 0.05) -> T:
    """As `eventually`, for a check that is awaited; a check that hangs counts as late after `within_seconds`."""
    started, tries = time.monotonic(), 0
    while True:
        late = time.monotonic() - started >= within_seconds
        tries += 1
        try:
            async with asyncio.timeout(within_seconds):
                return await check()
        except AssertionError as error:
            if late:
                _fail(error, tries, within_seconds)
        except TimeoutError:
            raise AssertionError(f"the check itself hung for {within_seconds} s (try {tries})") from None
        await asyncio.sleep(every_seconds)


def _fail(error: AssertionError, tries: int, within_seconds: float) -> NoReturn:
    error.add_note(f"still so after {within_seconds} s and {tries} tries; the above is the last state seen")
    raise error
