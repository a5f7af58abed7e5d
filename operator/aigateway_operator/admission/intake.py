"""How much the server takes in at a time: bytes of large bodies that may be in memory at once, and who waits for how long.

A body of more than `LEAST_BYTES` is charged its declared length once that many bytes have come. Who finds no room waits in
turn, briefly; beyond that the server says 503 at once, which the API server reports as a failed call (and under failurePolicy
Fail as a refusal). Called by `server`; knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

LEAST_BYTES: Final = 64 * 1024
"""Reviews up to this size need no room: the server holds as much of a connection anyway, and bounds their number."""


class Busy(Exception):
    """There is no room, and waiting would take too long."""


@dataclass(slots=True)
class Intake:
    """A budget of bytes, shared in order of arrival. Used in one event loop only."""

    total_bytes: int = 32 * 1024 * 1024
    """Bytes of bodies at once; more than the largest single body."""
    most_waiting: int = 256
    """Requests that may wait."""
    wait_seconds: float = 2.0
    """How long one waits at most; less than the webhook's timeoutSeconds, so that the caller hears why."""
    used_bytes: int = field(default=0, init=False)
    _waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque, init=False)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def room_for(self, length: int) -> _Room:
        """Return a context that holds room for `length` bytes. Entering it raises Busy if there is none in time."""
        return _Room(self, max(length, LEAST_BYTES))

    async def take(self, charge: int) -> None:
        """Take room, waiting for it in turn. Raises Busy."""
        if self._waiting or self.used_bytes + charge > self.total_bytes:
            await self._wait(charge)
        else:
            self.used_bytes += charge

    def give_back(self, charge: int) -> None:
        """Give room back, to those who wait."""
        self.used_bytes -= charge
        if self._waiting:
            self._wake()

    async def _wait(self, charge: int) -> None:
        if len(self._waiting) >= self.most_waiting:
            raise Busy
        ticket = (charge, asyncio.get_running_loop().create_future())
        self._waiting.append(ticket)
        try:
            async with asyncio.timeout(self.wait_seconds):
                await ticket[1]
        except BaseException as error:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if not ticket[1].cancelled():  # the room was given in the moment in which it was given up
                self.used_bytes -= charge
            self._wake()
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise

    def _wake(self) -> None:
        """Give room to those who wait, in order; whoever gets it has been charged already."""
        while self._waiting and self.used_bytes + self._waiting[0][0] <= self.total_bytes:
            charge, future = self._waiting.popleft()
            if not future.done():
                self.used_bytes += charge
                future.set_result(None)


class _Room:
    """What `room_for` returns. A class: contexts made of generators cost three times as much, and each review enters one."""

    __slots__ = ("_charge", "_intake")

    def __init__(self, intake: Intake, charge: int) -> None:
        self._intake, self._charge = intake, charge

    async def __aenter__(self) -> None:
        await self._intake.take(self._charge)

    async def __aexit__(self, *_: object) -> None:
        self._intake.give_back(self._charge)
