"""When the API source asks again, in virtual time: hundreds of pods follow one API server, and none may keep it down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from aigateway_config import api_access
from aigateway_config.api_access import ApiAccess, Refusal
from aigateway_config.api_objects import ConfigMap, Event, Page
from aigateway_config.api_watch import MAX_BACKOFF_SECONDS, MAX_RETRY_AFTER_SECONDS, SETTLED_SECONDS, ApiWatch
from aigateway_config.source import Reading
from tests.scripted_watches import ScriptedWatches
from tests.virtual_time import virtual


class Server(ScriptedWatches[Event]):
    """Fulfils what the source uses of `ConfigMaps`."""

    async def pages(self, _query: Mapping[str, str]) -> AsyncGenerator[Page, None]:
        self.list_once()
        yield Page([], "1")

    async def watch(self, _query: Mapping[str, str], version: str) -> AsyncGenerator[list[Event], None]:
        events, ending = self.open_watch(version)
        if events:
            yield events
        await ending.come()


@asynccontextmanager
async def following(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Run a source on a server; fails if it ends by itself."""

    @asynccontextmanager
    async def opened(_access: ApiAccess) -> AsyncIterator[Server]:
        yield server

    async def offer(_reading: Reading) -> None:
        return None

    monkeypatch.setattr(api_access, "open_config_maps", opened)
    task = asyncio.create_task(ApiWatch("main", access=ApiAccess("https://server", "ai", token="t")).run(offer))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def event(kind: str, version: str) -> Event:
    """Return an event of the gateway's ConfigMap."""
    return Event(kind, ConfigMap("main-config", version))


AWAY = OSError("connection refused")


@virtual
async def test_an_outage_is_asked_about_ever_more_seldom_and_at_last_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by each pod at moments of its own."""
    server = Server([([], 0, AWAY)])
    async with following(server, monkeypatch):
        await asyncio.sleep(300)
    assert server.pauses[0] <= 0.13
    steady = server.pauses[8:]
    assert all(0.75 * MAX_BACKOFF_SECONDS <= pause <= 1.25 * MAX_BACKOFF_SECONDS for pause in steady)
    assert len(set(steady)) > 5
    assert len(server.lists) == 1


@virtual
async def test_a_watch_that_had_lasted_starts_with_the_first_pause_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was before."""
    server = Server([*[([], 0, AWAY)] * 12, ([], SETTLED_SECONDS + 1, AWAY), ([], 3600, None)])
    async with following(server, monkeypatch):
        await asyncio.sleep(200)
    assert max(server.pauses[:12]) > 5
    assert server.pauses[12] - SETTLED_SECONDS - 1 <= 0.13


@virtual
async def test_a_missing_right_is_asked_for_every_ten_seconds_from_the_first_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person mends it."""
    server = Server([([], 0, None)], list_error=Refusal("no", 403, 0.0))
    async with following(server, monkeypatch):
        await asyncio.sleep(100)
    assert all(later - earlier >= MAX_BACKOFF_SECONDS for earlier, later in pairwise(server.lists))


@virtual
async def test_a_server_that_asks_for_an_hour_is_asked_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's Retry-After must not cut pods off from edits."""
    server = Server([([], 0, Refusal("busy", 429, 3600.0)), ([], 7200, None)])
    async with following(server, monkeypatch):
        await asyncio.sleep(3000)
    assert server.pauses == pytest.approx([MAX_RETRY_AFTER_SECONDS])


@virtual
async def test_a_server_that_ends_each_watch_at_once_is_not_hammered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends them after minutes, as it should, is asked again without a pause."""
    server = Server([([], 0.001, None)])
    async with following(server, monkeypatch):
        await asyncio.sleep(100)
    assert len(server.opened) < 30
    server = Server([([], 300, None)])
    async with following(server, monkeypatch):
        await asyncio.sleep(1000)
    assert server.pauses == pytest.approx([300, 300, 300])


@virtual
async def test_a_watch_goes_on_behind_a_bookmark_and_a_forgotten_place_is_listed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut is no reason to list: that would be megabytes for each of hundreds of pods."""
    heard = [event("MODIFIED", "5"), event("BOOKMARK", "9")]
    server = Server([(heard, 10, AWAY), ([], 10, Refusal("too old", 410, 0.0)), ([], 3600, None)])
    async with following(server, monkeypatch):
        await asyncio.sleep(100)
    assert [version for _, version in server.opened] == ["1", "9", "1"]
    assert len(server.lists) == 2
