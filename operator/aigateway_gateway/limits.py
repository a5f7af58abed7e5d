"""Back-pressure: so many requests to one backend at once, so many waiting for it, the rest refused at once.

A backend that hangs fills its own gate and nobody else's. Gates belong to one worker process and one event loop. Called by
`serving` (which gate is whose) and `calls`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection

from aigateway_gateway.openai_errors import ApiError, Kind


class Gate:
    """Admits `limit` at once, in the order of arrival; `async with gate` waits or raises ApiError (429)."""

    __slots__ = ("_limit", "_max_waiting", "_timeout_seconds", "_waiting", "active")

    def __init__(self, limit: int, max_waiting: int, timeout_seconds: float) -> None:
        self._limit, self._max_waiting, self._timeout_seconds = limit, max_waiting, timeout_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.active = 0

    @property
    def idle(self) -> bool:
        """Whether nobody is inside and nobody waits."""
        return self.active == 0 and not self._waiting

    async def __aenter__(self) -> None:
        """Enter, or wait for a place."""
        if self.active < self._limit and not self._waiting:
            self.active += 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise _full(f"{self._max_waiting} requests already wait for this backend")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._leave()  # the place was given in the same moment: pass it on
            elif place in self._waiting:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise _full(f"no place became free within {self._timeout_seconds:g} seconds") from None
            raise

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        self._leave()

    def _leave(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)  # `active` stays: the place goes to the next
                return
        self.active -= 1


class Gates:
    """The gate of each backend, by model and backend name; it outlives changes of the configuration."""

    def __init__(self, limit: int, max_waiting: int, timeout_seconds: float) -> None:
        self._limits = limit, max_waiting, timeout_seconds
        self._gates: dict[tuple[str, str], Gate] = {}

    def get(self, model: str, backend: str) -> Gate:
        """Return the gate of a backend."""
        gate = self._gates.get((model, backend))
        if gate is None:
            gate = self._gates[model, backend] = Gate(*self._limits)
        return gate

    def prune(self, models: Collection[str]) -> None:
        """Forget idle gates of models that are gone."""
        for key in [key for key, gate in self._gates.items() if key[0] not in models and gate.idle]:
            del self._gates[key]


def _full(reason: str) -> ApiError:
    return ApiError(Kind.QUEUE_FULL, f"The backend is busy: {reason}. Try again shortly.", retry_after_seconds=1)
