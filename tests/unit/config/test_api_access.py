"""How a pod finds the API server, and an API server that talks nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aigateway_config import api_access
from aigateway_config.api_access import ApiAccess
from aigateway_config.api_watch import ApiWatch, files_of
from aigateway_config.errors import SourceFault
from aigateway_config.source import MemoryReading, Offer, Reading
from aigateway_config.state import State
from aigateway_operator.api.meta import GATEWAY_LABEL, GatewayKey
from aigateway_operator.plan.names import config_map_name
from tests.eventually import eventually_async
from tests.kube_protobuf import config_map_list, status, watch_event
from tests.unit.config.writer import make_writer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GOOD_LIST = config_map_list([{"metadata": {"name": "main-config", "resourceVersion": "4"}, "data": {"config.yml": "1"}}], "5")


def event(version: int, text: str) -> bytes:
    """A MODIFIED event of main-config."""
    obj = {"metadata": {"name": "main-config", "resourceVersion": str(version)}, "data": {"config.yml": text}}
    return watch_event("MODIFIED", obj)


@asynccontextmanager
async def api_server(lists: Handler, watches: Handler) -> AsyncIterator[ApiAccess]:
    """A server that answers lists and watches as told."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await (watches if "watch" in request.query else lists)(request)

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/ai/configmaps", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield ApiAccess(f"http://127.0.0.1:{runner.addresses[0][1]}", "ai", token="canary-token")
    finally:
        await runner.cleanup()


async def good_list(_request: web.Request) -> web.StreamResponse:
    """A list of one ConfigMap."""
    return web.Response(body=GOOD_LIST)


async def silence(_request: web.Request) -> web.StreamResponse:
    """A watch without any event."""
    await asyncio.sleep(60)
    return web.Response()


@asynccontextmanager
async def running(source: ApiWatch, offer: Offer) -> AsyncIterator[asyncio.Task[None]]:
    """Run a source for as long as the context lasts."""
    task = asyncio.create_task(source.run(offer))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def expect(source: ApiWatch, files: dict[str, bytes], within_seconds: float = 20) -> None:
    """Run the source until it offers exactly these files."""
    offered: list[dict[str, bytes]] = []

    async def offer(reading: Reading) -> None:
        assert isinstance(reading, MemoryReading)
        offered.append(dict(reading.files))

    async with running(source, offer) as task:

        async def check() -> None:
            assert not task.done(), task
            assert offered
            assert offered[-1] == files

        await eventually_async(check, within_seconds=within_seconds, every_seconds=0.01)


def test_a_pod_without_a_service_account_is_told_what_to_do(tmp_path: Path) -> None:
    """The remedy is in the text, whichever half is missing."""
    with pytest.raises(SourceFault, match="automountServiceAccountToken"):
        ApiAccess.in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    (tmp_path / "namespace").write_text("ai\n")
    with pytest.raises(SourceFault, match="KUBERNETES_SERVICE_HOST is not set"):
        ApiAccess.in_cluster(tmp_path, {})


def test_a_pod_finds_server_namespace_token_and_ca(tmp_path: Path) -> None:
    """IPv6 addresses stand in brackets; the token is read when it is used."""
    (tmp_path / "namespace").write_text("ai\n")
    access = ApiAccess.in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"})
    assert (access.server, access.namespace, access.ca_file) == ("https://[fd00::1]:6443", "ai", tmp_path / "ca.crt")
    for token in ("one", "two"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert access.headers()["Authorization"] == f"Bearer {token}"


def test_a_token_shows_in_no_repr() -> None:
    """Access objects end up in logs."""
    assert "canary" not in repr(ApiAccess("https://x", "ai", token="canary"))


@pytest.mark.parametrize("shard", [None, 0, 7, 63])
def test_names_of_config_maps_are_those_that_the_operator_gives(shard: int | None) -> None:
    """And a name that merely begins like one of ours brings nothing."""
    name = config_map_name("main", shard)
    assert len(files_of("main", name)) == 2
    assert files_of("main", f"{name}-x") == files_of("mai", name) == files_of("main", f"x{name}") == ()
    assert api_watch_label() == GATEWAY_LABEL


def api_watch_label() -> str:
    """The label that the source selects by."""
    from aigateway_config.api_watch import GATEWAY_LABEL as SELECTED

    return SELECTED


@pytest.mark.parametrize(
    "nonsense",
    [
        *(b"", b"k8s", b"k8s\0", b"<html>", b'{"metadata":{"resourceVersion":"5"},"items":[]}'),
        config_map_list([], ""),
        status(410, "gone"),
        GOOD_LIST[:-1],
        watch_event("ADDED", {"metadata": {"name": "main-config", "resourceVersion": "4"}}),
    ],
)
async def test_a_list_that_makes_no_sense_is_asked_for_again(nonsense: bytes) -> None:
    """A proxy's page, a body cut short: nothing ends, and the next good answer counts."""
    asked = 0

    async def lists(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(body=nonsense) if asked < 3 else await good_list(request)

    async with api_server(lists, silence) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"1"})


async def test_a_list_is_taken_page_by_page_and_as_a_whole() -> None:
    """The watch begins where the list ends; pages of a moment that is gone are of no account, and the list begins again."""
    asked: list[str] = []
    versions: list[str] = []

    def page(name: str, number: int, following: str | None) -> web.StreamResponse:
        item = {"metadata": {"name": name}, "data": {f"{name.removeprefix('main-')}.yml": str(number)}}
        return web.Response(body=config_map_list([item], "5", following or ""))

    async def lists(request: web.Request) -> web.StreamResponse:
        asked.append(request.query.get("continue", ""))
        assert int(request.query["limit"]) > 0
        if len(asked) == 2:
            return web.Response(status=410)
        return page("main-models-00", len(asked), "more&") if not asked[-1] else page("main-config", len(asked), None)

    async def watches(request: web.Request) -> web.StreamResponse:
        versions.append(request.query["resourceVersion"])
        return await silence(request)

    async with api_server(lists, watches) as access:
        source = ApiWatch("main", access=access)
        await expect(source, {"models-00.yml": b"3", "config.yml": b"4"})
    assert asked == ["", "more&", "", "more&"]
    assert versions == ["5"]


async def test_the_text_of_a_document_in_force_is_let_go_of() -> None:
    """Its manifest goes on standing for it; a document under another number is needed again, even if it says the same."""
    writer = make_writer(gateway=GatewayKey("ai", "main"))
    first, again = dict(writer.files), asyncio.Event()
    assert first.keys() == {"config.yml", "config.manifest.json"}
    writer.files = {}
    later = dict(writer.write().files)
    assert later["config.yml"] == first["config.yml"]

    def shown(version: int, files: dict[str, bytes]) -> dict[str, Any]:
        metadata = {"name": "main-config", "resourceVersion": str(version)}
        return {"metadata": metadata, "data": {name: text.decode() for name, text in files.items()}}

    async def lists(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=config_map_list([shown(5, first)], "5"))

    async def watches(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await again.wait()
        for number, files in ((6, first), (7, later)):
            await response.write(watch_event("MODIFIED", shown(number, files)))
        return await silence(request)

    state, offered = State(), list[dict[str, bytes]]()
    state.take("volume", MemoryReading({}, MemoryReading(writer.credentials)), NOW)
    async with api_server(lists, watches) as access:
        source = ApiWatch("main", access=access)

        async def offer(reading: Reading) -> None:
            assert isinstance(reading, MemoryReading)
            offered.append(dict(reading.files))
            outcome = state.take("api", reading, NOW)
            assert outcome.configuration is not None, outcome.faults
            source.follow(outcome.configuration)
            again.set()

        async def told(count: int) -> None:
            assert len(offered) == count

        async with running(source, offer):
            await eventually_async(partial(told, 2), within_seconds=20, every_seconds=0.01)
    assert offered == [first, later], "what is in force is not offered again, and what has another number is, with its text"
    assert state.configuration is not None
    assert state.configuration.documents["config.yml"].revision == writer.revision
    remembered = state._sources["api"].reading
    assert remembered is not None
    assert list(remembered.names()) == ["config.manifest.json"]
    assert [list(files) for by_name in source._files.values() for files in by_name.values()] == [["config.manifest.json"]]


async def test_an_edit_brings_its_document_and_those_that_wait_and_no_others() -> None:
    """What is in force is not judged again at each edit; what is not yet is offered every time: it may come into force."""
    writer = make_writer("a", "b", gateway=GatewayKey("ai", "main"), shards=3)
    first, again = dict(writer.files), asyncio.Event()
    writer.put("c")
    writer.put("a", use=False)
    later = dict(writer.write().files)
    late = writer.changed_manifest("models-00.manifest.json", lineage="lineage-z")["models-00.manifest.json"]
    later |= {"models-00.manifest.json": late}

    def shown(version: int, shard: int | None, files: dict[str, bytes]) -> dict[str, Any]:
        wanted = files_of("main", config_map_name("main", shard))
        data = {name: files[name].decode() for name in wanted}
        return {"metadata": {"name": config_map_name("main", shard), "resourceVersion": str(version)}, "data": data}

    async def lists(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=config_map_list([shown(5, shard, first) for shard in (None, 0, 1, 2)], "5"))

    async def watches(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number, shard in ((7, 0), (9, 1)):
            await again.wait()
            again.clear()
            await response.write(watch_event("MODIFIED", shown(number - 1, 2, first)))  # its labels may have changed
            await response.write(watch_event("MODIFIED", shown(number, shard, later)))
        return await silence(request)

    state, offered = State(), list[set[str]]()
    state.take("volume", MemoryReading({}, MemoryReading(writer.credentials)), NOW)
    async with api_server(lists, watches) as access:
        source = ApiWatch("main", access=access)

        async def offer(reading: Reading) -> None:
            offered.append(set(reading.names()))
            outcome = state.take("api", reading, NOW)
            assert outcome.configuration is not None, outcome.faults
            source.follow(outcome.configuration)
            again.set()

        async def told() -> None:
            assert len(offered) == 3

        async with running(source, offer):
            await eventually_async(told, within_seconds=20, every_seconds=0.01)
    waiting = {"models-00.yml", "models-00.manifest.json"}
    assert offered == [first.keys(), waiting, waiting | {"models-01.yml", "models-01.manifest.json"}]
    assert state.configuration is not None
    assert not state.configuration.models["a"].use


async def test_changed_labels_are_no_news() -> None:
    """Whoever annotates a ConfigMap in a loop costs no pod a judgement; the end of the watch shows that the event was seen."""
    seen: list[str] = []

    async def watches(request: web.Request) -> web.StreamResponse:
        seen.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if len(seen) <= 2:
            await response.write(event(5 + len(seen), str(len(seen))))  # the first says what the list said
            return response
        return await silence(request)

    offered: list[bytes | None] = []

    async def offer(reading: Reading) -> None:
        offered.append(reading.read("config.yml"))

    async def ended() -> None:
        assert (seen, offered[-1:]) == (["5", "6", "7"], [b"2"])

    async with api_server(good_list, watches) as access, running(ApiWatch("main", access=access), offer):
        await eventually_async(ended, within_seconds=20, every_seconds=0.01)
    assert offered == [b"1", b"2"]


async def test_what_a_new_list_shows_mended_is_no_fault_any_more() -> None:
    """A manifest is broken by hand and restored while no watch runs: though its document is in force, it is judged again."""
    files = make_writer(gateway=GatewayKey("ai", "main")).files
    credentials, told = make_writer(gateway=GatewayKey("ai", "main")).credentials, list[list[str]]()

    def shown(version: int, manifest: str) -> dict[str, Any]:
        metadata = {"name": "main-config", "resourceVersion": str(version)}
        return {"metadata": metadata, "data": {"config.yml": files["config.yml"].decode(), "config.manifest.json": manifest}}

    good = files["config.manifest.json"].decode()

    async def lists(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=config_map_list([shown(9, good)], "9"))

    async def watches(request: web.Request) -> web.StreamResponse:
        if len(told) > 1:
            return web.Response(status=410) if len(told) == 2 else await silence(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(watch_event("MODIFIED", shown(10, "{}")))
        return response

    state = State()
    state.take("volume", MemoryReading({}, MemoryReading(credentials)), NOW)
    async with api_server(lists, watches) as access:
        source = ApiWatch("main", access=access)

        async def offer(reading: Reading) -> None:
            outcome = state.take("api", reading, NOW)
            assert outcome.configuration is not None, outcome.faults
            source.follow(outcome.configuration)
            told.append([fault.reason for fault in outcome.faults])

        async def judged() -> None:
            assert len(told) == 3

        async with running(source, offer):
            await eventually_async(judged, within_seconds=20, every_seconds=0.01)
    assert told == [[], ["ManifestInvalid"], []]


async def test_a_document_that_comes_after_its_manifest_is_offered() -> None:
    """A ConfigMap that somebody emptied halfway and restored: the manifest alone does not stand for what was never there."""
    files = make_writer(gateway=GatewayKey("ai", "main")).files

    def shown(version: int, names: list[str]) -> dict[str, Any]:
        metadata = {"name": "main-config", "resourceVersion": str(version)}
        return {"metadata": metadata, "data": {name: files[name].decode() for name in names}}

    async def lists(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=config_map_list([shown(5, ["config.manifest.json"])], "5"))

    async def watches(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(watch_event("MODIFIED", shown(6, list(files))))
        return await silence(request)

    async with api_server(lists, watches) as access:
        await expect(ApiWatch("main", access=access), files)


async def test_another_reader_of_the_same_source_is_offered_whole_documents() -> None:
    """What was in force for the one before is nothing that the next one has."""
    writer = make_writer(gateway=GatewayKey("ai", "main"))
    files = dict(writer.files)
    data = {name: text.decode() for name, text in files.items()}
    item = {"metadata": {"name": "main-config", "resourceVersion": "5"}, "data": data}

    async def lists(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=config_map_list([item], "5"))

    state = State()
    state.take("volume", MemoryReading({}, MemoryReading(writer.credentials)), NOW)
    outcome = state.take("api", MemoryReading(files), NOW)
    assert outcome.configuration is not None, outcome.faults
    async with api_server(lists, silence) as access:
        source = ApiWatch("main", access=access)
        await expect(source, files)
        source.follow(outcome.configuration)
        await expect(source, files)


@pytest.mark.parametrize(
    "nonsense",
    [
        b'{"type":"MODIFIED","object":{"metadata":{"name":"main-config"}}}\n',
        b"\0\0\0\0",
        b"\0\0\0\4zzzz",
        watch_event("MODIFIED", b""),
        watch_event("MODIFIED", b"k8s\0"),
        watch_event("MODIFIED", {"metadata": {"name": "main-config"}}),
        watch_event("MODIFIED", {"metadata": {"resourceVersion": "6"}}),
        watch_event("MODIFIED", status(410, "gone")),
        watch_event("", {"metadata": {"name": "main-config", "resourceVersion": "6"}}),
        watch_event("ERROR", status(410, "gone")),
        watch_event("ERROR", b"not a status"),
    ],
)
async def test_an_event_that_makes_no_sense_leads_to_a_new_list(nonsense: bytes) -> None:
    """What comes after it in the same packet is not trusted either."""
    lists = watches = 0

    async def count_lists(request: web.Request) -> web.StreamResponse:
        nonlocal lists
        lists += 1
        return await good_list(request)

    async def speak(request: web.Request) -> web.StreamResponse:
        nonlocal watches
        watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(nonsense + event(9, "bad") if watches == 1 else event(6, "2"))
        return await silence(request)

    async with api_server(count_lists, speak) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"2"})
    assert lists == 2


async def test_what_the_server_says_is_told_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    """The message of a refusal and of an event of error, both in protobuf: it says what to grant or what to wait for."""
    asked = 0

    async def refused_first(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=403, body=status(403, "no rights here")) if asked == 1 else await good_list(request)

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(watch_event("ERROR", status(500, "etcd went away")))
        return await silence(request)

    async def is_told() -> None:
        assert "answered 403: no rights here" in caplog.text
        assert "broke off: etcd went away" in caplog.text

    async with api_server(refused_first, broken) as access:
        source = ApiWatch("main", access=access)
        async with running(source, _ignore):
            await eventually_async(is_told, within_seconds=20, every_seconds=0.01)


async def _ignore(_reading: Reading) -> None:
    return None


async def test_events_cut_into_pieces_are_put_together_and_half_ones_dropped() -> None:
    """A connection that breaks off inside an event tells nothing of it; the next watch begins before it."""
    versions: list[str] = []

    async def speak(request: web.Request) -> web.StreamResponse:
        versions.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        whole = event(6, "2")
        if len(versions) == 1:
            for start in range(0, len(whole), 7):
                await response.write(whole[start : start + 7])
            await response.write(event(7, "lost")[:-5])
            await asyncio.sleep(0.05)
            return response
        await response.write(event(8, "3"))
        return await silence(request)

    async with api_server(good_list, speak) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"3"})
    assert versions[:2] == ["5", "6"]


async def test_an_endless_event_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded whatever the other side sends."""
    monkeypatch.setattr(api_access, "MAX_EVENT_BYTES", 100_000)
    watches = 0

    async def speak(request: web.Request) -> web.StreamResponse:
        nonlocal watches
        watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        if watches > 1:
            await response.write(event(6, "2"))
            return await silence(request)
        await response.write((100_001).to_bytes(4, "big"))
        while True:
            await response.write(b"x" * 65536)

    async with api_server(good_list, speak) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"2"})


async def test_a_watch_that_falls_silent_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bookmarks come every minute; a connection without a byte for longer is dead."""
    monkeypatch.setattr(api_access, "INACTIVITY_SECONDS", 0.2)
    watches = 0

    async def speak(request: web.Request) -> web.StreamResponse:
        nonlocal watches
        watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        if watches > 1:
            await response.write(event(6, "2"))
        return await silence(request)

    async with api_server(good_list, speak) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"2"})


async def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    """The token goes nowhere else."""
    elsewhere = 0

    async def redirect(request: web.Request) -> web.StreamResponse:
        nonlocal elsewhere
        if "elsewhere" in request.query:
            elsewhere += 1
        raise web.HTTPFound(f"{request.path}?elsewhere=1")

    async def offer(reading: Reading) -> None:
        raise AssertionError("an answer that is no list is offered")

    async def is_told() -> None:
        assert "answered 302" in caplog.text

    async with api_server(redirect, silence) as access:
        task = asyncio.create_task(ApiWatch("main", access=access).run(offer))
        await eventually_async(is_told, within_seconds=20)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert elsewhere == 0
    assert "canary-token" not in caplog.text


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    """Retry-After is honoured."""
    times: list[float] = []

    async def busy(request: web.Request) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        return web.Response(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else await good_list(request)

    async with api_server(busy, silence) as access:
        await expect(ApiWatch("main", access=access), {"config.yml": b"1"})
    assert times[1] - times[0] > 0.95
