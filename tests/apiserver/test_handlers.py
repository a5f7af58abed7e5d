"""kopf as event source on the real API server: everything arrives, nothing is written, and its end harms nobody."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from aigateway_operator import handlers
from aigateway_operator.handlers import KopfSource
from aigateway_operator.kube.resources import JsonObject, Resource
from hack.audit import WRITES
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.world import World, gateway_config, virtual_model
from tests.eventually import eventually_async

pytestmark = pytest.mark.apiserver


@dataclass
class Received:
    """A source and what it handed over."""

    source: KopfSource
    objects: list[tuple[str, str | None, str]] = field(default_factory=list)
    managed: dict[str, bool] = field(default_factory=dict)
    threads: set[threading.Thread] = field(default_factory=set)

    def take(self, resource: Resource, kind: str | None, obj: JsonObject) -> None:
        """Note one object."""
        self.threads.add(threading.current_thread())
        self.objects.append((resource.kind, kind, obj["metadata"]["name"]))
        self.managed[obj["metadata"]["name"]] = "managedFields" in obj["metadata"]

    async def expect(self, name: str, *kinds: str | None, within_seconds: float = 10) -> None:
        """Wait until an object of this name has come with one of these types."""

        async def check() -> None:
            seen = [kind for _, kind, found in self.objects if found == name]
            assert set(seen) & set(kinds), (seen, self.source.restarts, self.source.alive)

        await eventually_async(check, within_seconds=within_seconds)


StartSource = Callable[..., Received]


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy that misbehaves on demand."""
    with ApiProxy.start(plane) as started:
        yield started


@pytest.fixture
def world(plane: ControlPlane, namespace: str) -> World:
    """A fresh namespace, past the proxy."""
    return World(plane, namespace)


@pytest.fixture
async def start_source(plane: ControlPlane, namespace: str, proxy: ApiProxy) -> AsyncIterator[StartSource]:
    """Starts sources for the test's namespace; they are stopped before the proxy is."""
    async with AsyncExitStack() as stack:

        def start(**options: Any) -> Received:
            chosen = {"kubeconfig": plane.kubeconfig, "namespaces": (namespace,), **options}
            received = Received(KopfSource(lambda *seen: received.take(*seen), **chosen))
            received.source.start()
            stack.push_async_callback(received.source.stop)
            return received

        yield start


async def test_both_kinds_arrive_in_the_receiving_thread_and_nothing_is_written(
    plane: ControlPlane, start_source: StartSource, world: World
) -> None:
    """Listed objects as None, later ones by their type; the API server sees no write of kopf's."""
    world.create(gateway_config(), virtual_model("old"))
    mark = plane.audit_mark()
    received = start_source()
    await received.expect("main", None)
    await received.expect("old", None)
    world.create(virtual_model("new"))
    await received.expect("new", "ADDED")
    world.patch_spec("VirtualModel", "new", use=False)
    await received.expect("new", "MODIFIED")
    assert not received.managed["new"], "kopf would keep an object until the collector comes by, most of it these fields"
    world.delete("VirtualModel", "new")
    await received.expect("new", "DELETED")
    assert received.threads == {threading.current_thread()}
    assert not received.managed["old"], "pages are taken before kopf starts a task for each object in them"
    kept = sum(type(found).__name__ == "ResourceMemory" for found in gc.get_objects())
    assert kept == 0, "kopf keeps 2 kB of each object that it has ever handled"
    assert {kind for kind, _, _ in received.objects} == {"VirtualModel", "GatewayConfig"}
    assert plane.audit_since(mark, user_agent="kopf", verbs=WRITES) == []
    reads = {record.resource for record in plane.audit_since(mark, user_agent="kopf") if record.resource}
    assert reads == {"virtualmodels", "gatewayconfigs"}, "CRDs and namespaces need rights that are not granted"


async def test_the_first_start_waits_for_rounds_but_not_for_ever(
    start_source: StartSource, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf's LIST takes the interpreter from rounds that have thousands of objects to judge; what came meanwhile is in it."""
    busy, asked = True, asyncio.Event()

    def at_work() -> bool:
        asked.set()
        return busy

    held = start_source(busy=at_work)
    async with asyncio.timeout(10):
        await asked.wait()
    world.create(gateway_config(), virtual_model("meanwhile"))
    assert held.source.starts == 0
    busy = False
    await held.expect("meanwhile", None)
    monkeypatch.setattr(handlers, "HOLD_SECONDS", 0.1)
    endless = start_source(busy=lambda: True)
    await endless.expect("meanwhile", None)


async def test_a_cluster_wide_source_sees_other_namespaces(start_source: StartSource, world: World) -> None:
    """No namespaces given: the whole cluster."""
    received = start_source(namespaces=())
    world.create(virtual_model("anywhere"))
    await received.expect("anywhere", None, "ADDED")


@pytest.mark.slow
async def test_twenty_ends_of_kopf_cancel_nothing_of_ours(
    start_source: StartSource, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf cancels every task of its loop when it ends; ours are in another. Afterwards events still arrive."""
    monkeypatch.setattr(handlers, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(handlers, "MAX_BACKOFF_SECONDS", 0.01)
    ticks = 0

    async def ours() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    task = asyncio.create_task(ours())
    received = start_source()
    before = threading.active_count()
    for number in range(1, 21):

        async def started(number: int = number) -> None:
            assert received.source.starts >= number
            assert received.source.alive

        await eventually_async(started, within_seconds=30)
        received.source.restart()

    async def restarted() -> None:
        assert received.source.restarts == 20
        assert received.source.alive

    await eventually_async(restarted, within_seconds=30)
    world.create(virtual_model("after"))
    await received.expect("after", None, "ADDED")
    assert not task.done()
    assert ticks > 20
    assert threading.active_count() <= before + 1, [thread.name for thread in threading.enumerate()]
    task.cancel()


async def test_an_error_event_that_ends_kopf_is_survived(start_source: StartSource, proxy: ApiProxy, world: World) -> None:
    """kopf ends at any ERROR of a watch but 410; the supervisor starts it again and it lists anew."""
    received = start_source(server_override=proxy.url)
    world.create(virtual_model("first"))
    await received.expect("first", None, "ADDED")

    async def sent() -> None:
        assert proxy.send_watch_error("virtualmodels", code=500) == 1

    await eventually_async(sent, within_seconds=20)

    async def restarted() -> None:
        assert received.source.restarts == 1

    await eventually_async(restarted, within_seconds=30)
    world.create(virtual_model("second"))
    await received.expect("second", None, "ADDED", within_seconds=30)


async def test_a_410_lists_again_without_a_restart(start_source: StartSource, proxy: ApiProxy, world: World) -> None:
    """The sign by which reconcile.repair knows that deletions may have been missed: listed objects come as None again."""
    received = start_source(server_override=proxy.url)
    world.create(virtual_model("stays"))
    await received.expect("stays", None, "ADDED")
    received.objects.clear()

    async def sent() -> None:
        assert proxy.send_watch_error("virtualmodels", code=410) == 1

    await eventually_async(sent, within_seconds=20)
    await received.expect("stays", None)
    assert received.source.restarts == 0


async def test_lists_that_are_answered_503_for_long_are_survived(
    start_source: StartSource, proxy: ApiProxy, world: World
) -> None:
    """Endless back-off: no end of kopf, no flood of requests, and it goes on when the server does."""
    outage = proxy.fail("GET", "virtualmodels", status=503)
    received = start_source(server_override=proxy.url)

    async def tried() -> None:
        assert outage.hits >= 4

    await eventually_async(tried, within_seconds=20)
    assert received.source.restarts == 0
    world.create(virtual_model("late"))
    outage.lift()
    await received.expect("late", None, "ADDED", within_seconds=20)


@pytest.mark.slow
async def test_an_api_server_that_was_killed_is_found_again(
    plane: ControlPlane, start_source: StartSource, world: World
) -> None:
    """Several seconds without a server; what is made afterwards arrives."""
    world.create(virtual_model("before"))
    received = start_source()
    await received.expect("before", None)
    plane.kill_apiserver()
    try:
        await asyncio.sleep(4)
    finally:
        await asyncio.to_thread(plane.start_apiserver)
    world.create(virtual_model("after"))
    await received.expect("after", None, "ADDED", within_seconds=30)


async def test_an_object_that_the_receiver_cannot_take_does_not_stop_the_others(
    plane: ControlPlane, world: World, namespace: str
) -> None:
    """An exception is logged and ends with its object."""
    seen: list[str] = []

    def take(_resource: Resource, _kind: str | None, obj: JsonObject) -> None:
        if obj["metadata"]["name"] == "odd":
            raise ValueError("odd")
        seen.append(obj["metadata"]["name"])

    world.create(virtual_model("odd"), virtual_model("plain"))
    source = KopfSource(take, kubeconfig=plane.kubeconfig, namespaces=(namespace,))
    source.start()
    try:

        async def check() -> None:
            assert seen == ["plain"]
            assert source.seen == 2

        await eventually_async(check, within_seconds=30)
        assert source.restarts == 0
    finally:
        await source.stop()


async def test_stop_ends_the_thread_soon_also_when_the_server_is_away(start_source: StartSource, proxy: ApiProxy) -> None:
    """The process must end within its grace period."""
    proxy.delay("GET", seconds=60)
    received = start_source(server_override=proxy.url)

    async def waits() -> None:
        assert proxy.count("GET") >= 1

    await eventually_async(waits, within_seconds=30)
    began = time.monotonic()
    await received.source.stop()
    assert time.monotonic() - began < 4
    assert not received.source.alive


async def test_a_burst_wakes_the_receiver_seldom_and_leaves_it_room(namespace: str, plane: ControlPlane) -> None:
    """Ten thousand objects: few wake-ups from the other thread, and other tasks have their turn between batches."""
    received: list[str] = []
    source = KopfSource(lambda _resource, _kind, obj: received.append(obj["metadata"]["name"]), kubeconfig=plane.kubeconfig)
    loop = asyncio.get_running_loop()
    wake_ups = 0
    wake_up = loop.call_soon_threadsafe

    class CountingLoop:
        """The running loop; counts wake-ups from other threads."""

        def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> object:
            nonlocal wake_ups
            wake_ups += 1
            return wake_up(callback, *args)

    source._loop = CountingLoop()  # type: ignore[assignment]  # only this method is used
    turns = 0

    async def other() -> None:
        nonlocal turns
        while len(received) < 10_000:
            turns += 1
            await asyncio.sleep(0)

    def burst() -> None:
        for number in range(10_000):
            source._hand_over(handlers.KINDS[0], None, {"metadata": {"name": str(number)}})

    task = asyncio.create_task(other())
    await asyncio.to_thread(burst)
    await task
    assert received == [str(number) for number in range(10_000)]
    assert wake_ups < 2_000
    assert turns >= 10_000 / handlers.BATCH


async def test_pages_wait_for_a_slow_receiver() -> None:
    """Ten thousand objects as JSON are 80 MB: the next page is asked for when most of the last one has been taken."""
    source = KopfSource(lambda *_: None)
    page = asyncio.gather(source._hand_over_page(handlers.KINDS[0], [{"metadata": {}} for _ in range(500)]))
    await asyncio.sleep(5 * handlers.PAGE_PAUSE_SECONDS)
    assert not page.done()
    while len(source._handed) > handlers.BATCH:
        source._handed.popleft()
    async with asyncio.timeout(5):
        await page
