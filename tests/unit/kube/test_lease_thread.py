"""Leader election in a thread: a busy controller stays leader, one that hangs does not, and none leads before it is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from aigateway_operator.kube import lease_thread
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.lease import LeaderElection
from aigateway_operator.kube.lease_thread import LeaderThread
from tests.eventually import eventually_async


class Contest:
    """An election that is won when the test says so; renewals need its loop to run."""

    def __init__(self) -> None:
        self.won = threading.Event()
        self.lost = threading.Event()
        self.thread: threading.Thread | None = None
        self.renewed_at = 0.0
        self.terms = 0
        self.released = False

    def make(self, _client: KubeClient, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> LeaderElection:
        self._told = on_started, on_stopped
        return cast(LeaderElection, self)

    async def run(self) -> None:
        self.thread = threading.current_thread()
        started, stopped = self._told
        leads = False
        while True:
            self.renewed_at = time.monotonic()
            if self.won.is_set() and not leads:
                leads = True
                started()
                self.terms += 1
            if self.lost.is_set() and leads:
                leads = False
                self.won.clear()
                stopped()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.released = self.won.is_set()

    def remaining_seconds(self) -> float:
        """A lease of half a second."""
        return max(0.0, self.renewed_at + 0.5 - time.monotonic()) if self.won.is_set() else 0.0


class Stand:
    """A LeaderThread and what it told."""

    def __init__(self) -> None:
        self.contest = Contest()
        self.told: list[tuple[str, threading.Thread]] = []
        self.leader = LeaderThread(
            _connect, self.contest.make, on_started=lambda: self._note("started"), on_stopped=lambda: self._note("stopped")
        )

    def _note(self, word: str) -> None:
        self.told.append((word, threading.current_thread()))

    async def until(self, *words: str) -> None:
        async def check() -> None:
            assert [word for word, _ in self.told] == list(words)

        await eventually_async(check, within_seconds=10, every_seconds=0.005)


@asynccontextmanager
async def _connect() -> AsyncIterator[KubeClient]:
    yield cast(KubeClient, None)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """A started one."""
    made = Stand()
    made.leader.start()
    yield made
    await made.leader.stop()


async def test_a_controller_that_is_busy_for_longer_than_the_lease_stays_leader(stand: Stand) -> None:
    """The first round of ten thousand models takes seconds in which the controller's loop turns not once."""
    stand.contest.won.set()
    await stand.until("started")
    time.sleep(1.0)  # noqa: ASYNC251 - the loop is to be blocked
    assert stand.leader.is_leader
    assert stand.told == [("started", threading.current_thread())]
    assert stand.contest.thread is not threading.current_thread()


async def test_nobody_leads_before_being_told_so(stand: Stand) -> None:
    """What a controller knows from a former term may be old; it begins a term by forgetting it."""
    stand.contest.won.set()
    deadline = time.monotonic() + 10
    while stand.contest.remaining_seconds() == 0 and time.monotonic() < deadline:
        time.sleep(0.005)  # noqa: ASYNC251 - the loop must not hear of it yet
    time.sleep(0.05)  # noqa: ASYNC251 - the same
    assert stand.contest.remaining_seconds() > 0
    assert not stand.leader.is_leader
    await stand.until("started")
    assert stand.leader.is_leader


async def test_a_lost_term_is_told_and_ends_at_once(stand: Stand) -> None:
    """Also when nobody has turned the loop since."""
    stand.contest.won.set()
    await stand.until("started")
    stand.contest.lost.set()
    deadline = time.monotonic() + 10
    while stand.contest.won.is_set() and time.monotonic() < deadline:
        time.sleep(0.005)  # noqa: ASYNC251 - the loop must not hear of it yet
    assert not stand.leader.is_leader
    await stand.until("started", "stopped")


async def test_a_term_that_was_lost_before_it_was_told_is_never_begun(stand: Stand) -> None:
    """A busy controller hears of two terms at once: it begins the second alone, and writes in none before."""
    stand.contest.won.set()
    _turn_nothing_until(lambda: stand.contest.terms == 1)
    stand.contest.lost.set()
    _turn_nothing_until(lambda: not stand.contest.won.is_set())
    stand.contest.lost.clear()
    stand.contest.won.set()
    _turn_nothing_until(lambda: stand.contest.terms == 2)
    assert not stand.leader.is_leader
    await stand.until("stopped", "started")
    assert stand.leader.is_leader


async def test_a_controller_that_is_slow_again_and_again_stays_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sign of life counts anew: pauses that are each short enough never add up."""
    monkeypatch.setattr(lease_thread, "SIGN_SECONDS", 0.01)
    monkeypatch.setattr(lease_thread, "MOST_UNANSWERED", 100)
    stand = Stand()
    stand.contest.won.set()
    stand.leader.start()
    await stand.until("started")
    for _ in range(15):
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is to be blocked
        await asyncio.sleep(0.01)
    assert not stand.contest.released
    await stand.leader.stop()


def _turn_nothing_until(done: Callable[[], bool]) -> None:
    """Wait without a turn of the controller's loop."""
    deadline = time.monotonic() + 10
    while not done() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02)  # until the thread has told as well
    assert done()


async def test_a_controller_that_hangs_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is given back, so that a standby takes over, and the process ends when it moves again."""
    monkeypatch.setattr(lease_thread, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(lease_thread, "MOST_UNANSWERED", 10)
    stand = Stand()
    stand.contest.won.set()
    stand.leader.start()
    await stand.until("started")
    time.sleep(1.0)  # noqa: ASYNC251 - the loop is to be blocked
    assert stand.contest.released
    with pytest.raises(RuntimeError, match="hangs"):
        async with asyncio.timeout(20):
            await stand.leader.watch()


async def test_a_fault_of_the_election_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches gets it; an operator that contends no more would wait for ever."""
    stand = Stand()

    async def broken(*_: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(stand.contest, "run", broken)
    stand.leader.start()
    with pytest.raises(ValueError, match="a fault of ours"):
        async with asyncio.timeout(20):
            await stand.leader.watch()


async def test_a_clean_stop_releases_the_lease(stand: Stand) -> None:
    """So that another replica leads at once."""
    stand.contest.won.set()
    await stand.until("started")
    await stand.leader.stop()
    assert stand.contest.released
    assert stand.contest.thread is not None
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
