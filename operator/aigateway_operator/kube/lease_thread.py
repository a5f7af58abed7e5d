"""Leader election in a thread of its own: a round of ten thousand models must not cost the lease.

The lease is renewed every second by a loop that does nothing else, over a connection of its own; what is heavy in the
controller's loop delays it by milliseconds. So that a controller that hangs does not lead for ever, the thread asks the
controller's loop for a sign of life with each renewal, and gives up when too many stay unanswered. Fulfils `Leadership` of
`reconcile/ports.py`; made and stopped by `main`.
Source: measured: the first round after a start with 10,000 models took longer than a lease, which was lost and won for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

from loguru import logger

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.lease import LeaderElection

SIGN_SECONDS: Final = 1.0
MOST_UNANSWERED: Final = 30
"""Signs of life that may be missing in a row. Counted, not timed: a process that was paused is not one that hangs."""
STOP_SECONDS: Final = 3.0

Connect = Callable[[], AbstractAsyncContextManager[KubeClient]]
MakeElection = Callable[[KubeClient, Callable[[], None], Callable[[], None]], LeaderElection]
"""(client, on_started, on_stopped) → an election that has not begun."""


class LeaderThread:
    """Leads or stands by for the loop in which `start` is called.

    on_started and on_stopped are called in that loop; until it has been told that it leads, it does not.
    """

    def __init__(
        self, connect: Connect, make: MakeElection, *, on_started: Callable[[], None], on_stopped: Callable[[], None]
    ) -> None:
        self._connect = connect
        self._make = make
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._election: LeaderElection | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = asyncio.Event()
        self._ended: asyncio.Future[None] | None = None
        self._term = 0
        self._told_term = 0
        self._unanswered = 0

    @property
    def is_leader(self) -> bool:
        """True while the lease certainly holds and `on_started` has been called for it."""
        return self.remaining_seconds() > 0

    def remaining_seconds(self) -> float:
        """Return for how long leadership certainly lasts; 0 when it does not. Does no I/O."""
        # A term that the controller has not been told of is not one to write in: what it knows may be a former term's.
        if self._election is None or self._told_term != self._term:
            return 0.0
        return self._election.remaining_seconds()

    def start(self) -> None:
        """Begin to contend."""
        self._home = asyncio.get_running_loop()
        self._ended = self._home.create_future()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    async def watch(self) -> None:
        """Return when the thread has ended; raises what ended it."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """End the contest and release the Lease, so that another replica leads at once. Writes must have ended before."""
        if self._ended is None or self._ended.done():
            return
        if self._loop is not None:
            with suppress(RuntimeError):  # the thread's loop has just been closed
                self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.wait([self._ended], timeout=STOP_SECONDS)
        if self._thread is not None and self._ended.done():
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - handed to whoever watches
            failure = error
        self._tell(self._end, failure)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._connect() as client:
            self._election = self._make(client, self._lead, lambda: self._tell(self._stand_by))
            contest = asyncio.create_task(self._election.run())
            life = asyncio.create_task(self._want_life())
            stopping = asyncio.create_task(self._stop.wait())
            try:
                done, _ = await asyncio.wait([contest, life, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                life.cancel()
                stopping.cancel()
                await self._election.stop()
            for task in done:
                task.result()

    async def _want_life(self) -> None:
        """Ask the controller's loop for signs of life; raises when it gives none."""
        while self._unanswered < MOST_UNANSWERED:
            self._unanswered += 1
            self._tell(self._answer)
            await asyncio.sleep(SIGN_SECONDS)
        logger.error("The controller has not moved for {} s: giving leadership up", MOST_UNANSWERED * SIGN_SECONDS)
        raise RuntimeError("the controller's loop hangs")

    def _lead(self) -> None:
        self._term += 1
        self._tell(self._learn, self._term)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Call in the controller's loop; one that is closed has nobody left to tell."""
        if self._home is not None:
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(function, *arguments)

    # -- in the controller's loop

    def _learn(self, term: int) -> None:
        if term == self._term:  # else it has lost that one meanwhile, and is told of the next soon
            self._told_term = term
            self._on_started()

    def _stand_by(self) -> None:
        self._on_stopped()

    def _answer(self) -> None:
        self._unanswered = 0

    def _end(self, failure: Exception | None) -> None:
        if self._ended is None or self._ended.done():
            return
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)
