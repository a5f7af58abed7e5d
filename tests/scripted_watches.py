"""An API server that ends its watches as told and remembers when it was asked, in virtual time: for tests of who watches it.

The base of fakes of two clients, the operator's and the pods', which add the methods that theirs has.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

from tests.virtual_time import now

Event = TypeVar("Event")


@dataclass
class ScriptedWatches(Generic[Event]):
    """Answers each watch by the next of `watches`, the last one again and again: what it delivers, how many seconds it lasts,
    and the error it ends with. list_error: how lists end. lists, opened: when it was asked, and from which resourceVersion on.
    """

    watches: list[tuple[list[Event], float, Exception | None]]
    list_error: Exception | None = None
    lists: list[float] = field(default_factory=list)
    opened: list[tuple[float, str]] = field(default_factory=list)

    def list_once(self) -> None:
        """Note a list. Raises `list_error`."""
        self.lists.append(now())
        if self.list_error is not None:
            raise self.list_error

    def open_watch(self, version: str) -> tuple[list[Event], Ending]:
        """Note a watch; return what it delivers, and its end, which is to be awaited after that."""
        self.opened.append((now(), version))
        events, seconds, error = self.watches.pop(0) if len(self.watches) > 1 else self.watches[0]
        return events, Ending(seconds, error)

    @property
    def pauses(self) -> list[float]:
        """Seconds between attempts to watch, that of the watch itself included."""
        return [later - earlier for (earlier, _), (later, _) in pairwise(self.opened)]


@dataclass(frozen=True)
class Ending:
    """How a watch goes on after its events."""

    seconds: float
    error: Exception | None

    async def come(self) -> None:
        """Wait for it. Raises the error."""
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
