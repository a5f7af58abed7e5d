"""When a watch is tried again, in virtual time: soon after one fault, seldom in an outage, never in a loop without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

from aigateway_operator.errors import ClusterError, Forbidden, Rejected, Unavailable
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, JsonObject
from aigateway_operator.kube.watching import FORBIDDEN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, SETTLED_SECONDS, Selection, Watcher
from tests.scripted_watches import ScriptedWatches
from tests.virtual_time import now, virtual

Event = tuple[str, JsonObject]


def event(kind: str, version: str) -> Event:
    """Return an event of a ConfigMap."""
    return kind, {"metadata": {"name": "one", "resourceVersion": version}}


class Server(ScriptedWatches[Event]):
    """Fulfils what a watcher uses of `KubeClient`; lists have resourceVersion 1."""

    async def list_pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[JsonObject], str]]:
        self.list_once()
        yield [], "1"

    async def watch(
        self, *_: Any, resource_version: str, on_open: Callable[[], None], **__: Any
    ) -> AsyncIterator[tuple[str, JsonObject]]:
        events, ending = self.open_watch(resource_version)
        if ending.seconds:
            on_open()
        for one in events:
            yield one
        await ending.come()


@dataclass
class Told:
    """What a receiver was told; `broken`: how often it fails first."""

    listed: int = 0
    events: list[str] = field(default_factory=list)
    errors: list[ClusterError] = field(default_factory=list)
    broken: int = 0

    def on_event(self, kind: str, _obj: JsonObject) -> None:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("a fault of the receiver")
        self.events.append(kind)

    def on_listed(self, _items: list[JsonObject], _version: str) -> None:
        self.listed += 1


@asynccontextmanager
async def watching(server: Server, told: Told | None = None) -> AsyncIterator[Told]:
    """Run a watcher."""
    told = told or Told()
    watcher: Watcher[JsonObject] = Watcher(
        cast(KubeClient, server),
        Selection(CONFIG_MAPS, "ai"),
        reduce=lambda obj: obj,
        on_listed=told.on_listed,
        on_event=told.on_event,
        on_error=told.errors.append,
        clock=now,
        random=Random(7),
    )
    watcher.start()
    try:
        yield told
    finally:
        await watcher.stop()


AWAY = Unavailable("connection refused")


@virtual
async def test_an_outage_is_asked_about_ever_more_seldom_and_at_last_every_ten_seconds() -> None:
    """Hundreds of watches that come back at once must not keep an API server down; nor may one take minutes to come back."""
    server = Server([([], 0, AWAY)])
    async with watching(server) as told:
        await asyncio.sleep(300)
    assert server.pauses[0] <= 0.15
    assert all(later > earlier / 3 for earlier, later in pairwise(server.pauses[:7]))
    steady = server.pauses[8:]
    assert all(MAX_BACKOFF_SECONDS / 2 <= pause <= MAX_BACKOFF_SECONDS * 1.5 for pause in steady)
    assert len(set(steady)) > 5, "operators that lost one server together must not come back together"
    assert len(server.lists) == 1, "what is known is known: an outage is no reason to list again"
    assert len(told.errors) == len(server.opened)


@virtual
async def test_a_watch_that_had_lasted_starts_with_the_first_pause_again() -> None:
    """An API server that restarts once an hour is followed at once each time, whatever was before."""
    server = Server([([], 0, AWAY)] * 12 + [([], SETTLED_SECONDS + 1, AWAY), ([], 3600, None)])
    async with watching(server):
        await asyncio.sleep(200)
    assert max(server.pauses[:12]) > 5
    assert server.pauses[12] - SETTLED_SECONDS - 1 <= 0.15


@virtual
async def test_a_missing_right_is_asked_for_every_ten_seconds_from_the_first_time_on() -> None:
    """A person mends it; until then each try is a line in the audit log."""
    server = Server([([], 0, None)], list_error=Forbidden("no list", status=403))
    async with watching(server) as told:
        await asyncio.sleep(100)
    assert all(later - earlier >= FORBIDDEN_BACKOFF_SECONDS / 2 for earlier, later in pairwise(server.lists))
    assert told.listed == 0
    assert server.opened == []


@pytest.mark.parametrize(("asked", "least", "most"), [(7.0, 7.0, 8.0), (3600.0, 2 * MAX_BACKOFF_SECONDS, 21.0)])
def test_a_server_that_asks_for_patience_gets_it_within_reason(asked: float, least: float, most: float) -> None:
    """Retry-After of an overloaded API server; one that asks for an hour would leave its Secrets unseen for an hour."""

    @virtual
    async def check() -> None:
        server = Server([([], 0, Unavailable("429", status=429, retry_after_seconds=asked)), ([], 3600, None)])
        async with watching(server):
            await asyncio.sleep(60)
        assert least <= server.pauses[0] <= most

    check()


@virtual
async def test_a_server_that_ends_each_watch_at_once_is_not_hammered() -> None:
    """Without any error; one that ends them after minutes, as it should, is asked again without a pause."""
    server = Server([([], 0.001, None)])
    async with watching(server) as told:
        await asyncio.sleep(100)
    assert len(server.opened) < 30
    assert told.errors == []
    server = Server([([], 300, None)])
    async with watching(server):
        await asyncio.sleep(1000)
    assert server.pauses == pytest.approx([300, 300, 300])


@virtual
async def test_a_watch_goes_on_behind_the_last_thing_it_heard_and_a_forgotten_place_is_listed_anew() -> None:
    """Bookmarks count and are nobody's news; a 410 is no error, and is followed at once by a complete list."""
    heard = [event("ADDED", "5"), event("BOOKMARK", "9")]
    gone = Rejected("too old", status=410)
    server = Server([(heard, 10, AWAY), ([], 10, gone), ([], 3600, None)])
    async with watching(server) as told:
        await asyncio.sleep(100)
    assert [version for _, version in server.opened] == ["1", "9", "1"]
    assert told.events == ["ADDED"]
    assert told.listed == len(server.lists) == 2
    assert told.errors == [AWAY]
    assert server.lists[1] - server.opened[1][0] - 10 <= 0.15


@virtual
async def test_an_event_that_a_receiver_could_not_take_is_listed_instead() -> None:
    """Its fault must neither end the watch nor lose what the event told."""
    server = Server([([event("ADDED", "5")], 10, None), ([event("MODIFIED", "6")], 3600, None)])
    async with watching(server, Told(broken=1)) as told:
        await asyncio.sleep(100)
    assert told.listed == 2
    assert told.events == ["MODIFIED"]
    assert [version for _, version in server.opened] == ["1", "1"]
