"""Callers while `current` flips: through a real API server, the operator, kubelet-like volumes and two gateway processes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network

import aiohttp
import orjson
import pytest

from hack.kubelet import StandInPod
from hack.stores import RedisServer
from tests.apiserver.conftest import StartOperator, kubeconfig, start_operator, world  # noqa: F401 - fixtures
from tests.apiserver.world import World
from tests.eventually import eventually, eventually_async
from tests.gateway.pods import BACKEND_KEY, CALLER, NAMES, InForce, Said, furnish, ran, start_gateway, url_of, watching
from tests.pods import StartPod, kubelet, start_pod  # noqa: F401 - fixtures
from tests.stub_upstream import Behaviour, StubUpstream

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)
FLIPS, BURSTS, PER_SECOND = 200, 10, 50


@dataclass
class Request:
    """One request of the load: to which pod, when, and what came of it. `backend`: who answered; "" if nobody did."""

    pod: str
    trace: str
    began: float
    fault: str = "is not over"
    backend: str = ""


@dataclass
class Load:
    """Requests at a steady pace to all pods in turns, every second one as a stream."""

    pods: list[StandInPod]
    requests: list[Request] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send requests until the end of the block, and wait for what was sent."""
        headers = {"Authorization": f"Bearer {CALLER}"}
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            pace = asyncio.create_task(self._pace(session))
            try:
                yield
            finally:
                pace.cancel()
                await asyncio.gather(pace, return_exceptions=True)

    async def _pace(self, session: aiohttp.ClientSession) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    number = len(self.requests)
                    pod = self.pods[number % len(self.pods)]
                    request = Request(pod.name, f"flip-{number}", time.time())
                    self.requests.append(request)
                    group.create_task(self._send(session, pod, request, stream=number // len(self.pods) % 2 == 1))
                    due += 1 / PER_SECOND
                    await asyncio.sleep(max(0.0, due - clock()))
            except asyncio.CancelledError:
                return  # what was sent may end

    async def _send(self, session: aiohttp.ClientSession, pod: StandInPod, request: Request, *, stream: bool) -> None:
        body = {"model": "chat", "messages": [{"role": "user", "content": request.trace}], "stream": stream}
        headers = {"X-Trace-ID": request.trace}
        request.began = time.time()
        text = b""
        try:
            async with session.post(f"{url_of(pod)}/v1/chat/completions", json=body, headers=headers) as got:
                text = await got.read()
                request.fault = "" if got.status == 200 else f"{got.status}: {text[:300]!r}"
        except (aiohttp.ClientError, TimeoutError) as error:
            request.fault = f"{type(error).__name__}: {error}"
        if request.fault:
            return
        if stream and not text.endswith(b"data: [DONE]\n\n"):
            request.fault = f"broke off: {text[-200:]!r}"
            return
        first = text.removeprefix(b"data: ").partition(b"\n")[0] if stream else text
        request.backend = orjson.loads(first)["model"].removeprefix("up-")


async def flip(world: World, said: Said) -> None:  # noqa: F811 - a fixture's name
    """Flip `current` many times in bursts; after each, wait until it is said that all pods have the last one."""
    dice = random.Random(1)
    current = 0
    for _ in range(BURSTS):
        for _ in range(FLIPS // BURSTS):
            current = (current + dice.randint(1, len(NAMES) - 1)) % len(NAMES)
            await asyncio.to_thread(world.patch_spec, "VirtualModel", "chat", current=NAMES[current])
            await asyncio.sleep(dice.uniform(0.0, 0.02))

        async def is_propagated(wanted: str = NAMES[current]) -> None:
            newest = max(said.currents, default=-1)
            assert (said.currents.get(newest), said.last) == (wanted, newest)

        await eventually_async(is_propagated, within_seconds=30, every_seconds=0.01)
        await asyncio.sleep(0.1)  # requests that start after it


@pytest.mark.slow
async def test_two_hundred_flips_under_load_fail_no_request_and_mix_nothing_up(
    world: World,  # noqa: F811
    start_operator: StartOperator,  # noqa: F811
    start_pod: StartPod,  # noqa: F811
    stub: StubUpstream,
    redis_server: RedisServer,
) -> None:
    """Each answer is of a configuration in force while its request was handled, and never older than what is propagated."""
    for number, name in enumerate(NAMES):
        delay = (0.0, 0.05, 0.15, 0.3)[number % 4]
        stub.behaviours[f"up-{name}"] = Behaviour(delay_seconds=delay, events=3, event_delay_seconds=delay / 3)
    furnish(world, stub.base_url, redis=redis_server)
    start_operator(allow_addresses=LOOPBACK)
    world.wait_ready("chat")
    # One hears of every revision by Redis, the other never does: what its volume brings is what there is.
    channels = {"gateway-redis": "config:invalidate", "gateway-volume": "nobody-speaks-here"}
    pods = [
        await asyncio.to_thread(start_gateway, start_pod, name, REDIS_CHANNEL=channel) for name, channel in channels.items()
    ]
    async with watching(world) as said:
        await asyncio.to_thread(world.wait_condition, "GatewayConfig", "main", "Propagated", "True")
        load = Load(pods)
        async with load.running():
            began = time.monotonic()
            await flip(world, said)
            seconds = time.monotonic() - began
    ledger = {pod.name: eventually(partial(_has_run, pod, said.last), within_seconds=20) for pod in pods}

    assert len(load.requests) >= 0.9 * PER_SECOND * seconds
    assert [request for request in load.requests if request.fault] == []
    asked = {request.headers["X-Trace-ID"]: request for request in stub.requests}
    assert len(asked) == len(stub.requests) == len(load.requests), "a request reached the backend twice, or never"
    assert {request.headers["Authorization"] for request in stub.requests} == {f"Bearer {BACKEND_KEY}"}

    assert len(said.propagated) >= BURSTS
    assert len(ledger["gateway-volume"]) >= BURSTS
    assert len(ledger["gateway-redis"]) >= len(said.currents) / 2 >= 2 * BURSTS, "flips did not come by Redis one by one"
    early = [
        (revision, name)
        for revision, moment in said.propagated
        for name, steps in ledger.items()
        if not any(step.revision >= revision and step.since <= moment for step in steps)
    ]
    assert early == [], "said to be propagated before the pod had it"
    wrong = [
        (request, faults)
        for request in load.requests
        if (faults := _faults(request, asked[request.trace].at, ledger[request.pod], said))
    ]
    assert wrong == []


async def test_after_propagated_no_worker_of_a_pod_answers_by_an_older_one(
    world: World,  # noqa: F811
    start_operator: StartOperator,  # noqa: F811
    start_pod: StartPod,  # noqa: F811
    stub: StubUpstream,
) -> None:
    """Three workers share a port: as soon as it is said, each of many new connections is answered by the new backend."""
    furnish(world, stub.base_url)
    start_operator(allow_addresses=LOOPBACK)
    world.wait_ready("chat")
    pod = await asyncio.to_thread(start_gateway, start_pod, "gateway-0", WORKERS="3")
    headers = {"Authorization": f"Bearer {CALLER}"}
    async with watching(world) as said:
        for name in NAMES[1:6]:
            await asyncio.to_thread(world.patch_spec, "VirtualModel", "chat", current=name)

            async def is_propagated(wanted: str = name) -> None:
                assert (said.currents.get(said.last), said.last) == (wanted, max(said.currents, default=-1))

            await eventually_async(is_propagated, within_seconds=30, every_seconds=0.002)
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

                async def answered_by(session: aiohttp.ClientSession = session) -> str:
                    body = {"model": "chat", "messages": []}
                    async with session.post(f"{url_of(pod)}/v1/chat/completions", json=body) as got:
                        text = await got.read()
                        return str(orjson.loads(text)["model"]) if got.status == 200 else f"{got.status} {text!r}"

                assert set(await asyncio.gather(*(answered_by() for _ in range(30)))) == {f"up-{name}"}


def _has_run(pod: StandInPod, revision: int) -> list[InForce]:
    steps = ran(pod)
    assert steps[-1].revision == revision
    return steps


def _faults(request: Request, asked: float, steps: list[InForce], said: Said) -> str:
    """Return what is wrong with the answer of one request, "" for nothing."""
    in_force = [step.revision for step in steps if step.meets(request.began, asked)]
    served = [revision for revision in in_force if said.currents.get(revision) == request.backend]
    if not served:
        return f"answered by {request.backend}, in force were {[(r, said.currents.get(r)) for r in in_force]}"
    promised = max((revision for revision, moment in said.propagated if moment < request.began), default=0)
    return "" if max(served) >= promised else f"answered by revision {max(served)}, after {promised} was propagated"
