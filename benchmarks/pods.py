"""From an edit into running pods, by each source, and what the proof of many pods costs the operator.

Everything is real but the kubelet, whose stand-in is timed as one was measured: API server, operator (a process of its own
under its own RBAC), Redis, and pods that are processes on the pod library with ledgers (`tests/reading_pod.py`). The control,
beside each size, is a PUT of a ConfigMap as large as a shard until a watch shows it: what nothing can be faster than. All of it
shares the machine's cores. Called by `__main__` as `python -m benchmarks delivery`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS
from benchmarks.delivery import SPACE, Seen, Spread, create_all, floor
from hack.controlplane import ControlPlane
from hack.kubelet import REAL
from hack.stores import RedisServer
from tests.apiserver.world import World, gateway_config, secret
from tests.crowd import crowd
from tests.delivery import SELECTOR, Fleet, Pod, api_reader, fleet, furnish, wait_all_run
from tests.operators import NAMESPACE, Process, operator_kubeconfig

ROOT: Final = Path(__file__).resolve().parent.parent
PODS: Final = 2
"""Pods that follow by the same source at the same time; an edit counts as loaded when the last of them runs it."""
GOALS: Final = {1_000: (10.0, 30.0), 10_000: (15.0, 50.0)}
"""Models → p50 and p99 in milliseconds, by API watch and Redis mirror."""
VOLUME_GOAL: Final = (150.0, 300.0)
"""The same by volume, on a quiet kubelet."""
QUIET_SECONDS: Final = 1.3
"""Between edits that volumes bring: sooner, the kubelet's next relist is waited for, and the burst is what is measured."""
MEMORY_GOAL_MB: Final = 3.0
REST_CPU_SECONDS: Final = 0.1
"""Processor time in three seconds below which the operator rests."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size gave. `loaded`: source → from the answer of an edit until the last pod ran it."""

    models: int
    shards: int
    edits: int
    loaded: dict[str, Spread]
    floor: Spread
    pod_mb_per_1000: float

    def as_text(self) -> str:
        """Return the figures for people; a goal missed says so."""
        lines = [f"{self.models} models, {self.shards} shard(s), {PODS} pods a source"]
        for source, spread in self.loaded.items():
            goal = VOLUME_GOAL if source == "volume" else GOALS.get(self.models)
            lines.append(f"  edit → loaded by {source:<7} {spread}{_judged(spread, goal)}")
        lines.append(f"  control: same-size PUT   {self.floor}")
        lines.append(
            f"  RSS of a pod's process   {self.pod_mb_per_1000:.1f} MB per 1,000 models above that of an empty gateway"
            + _missed(self.pod_mb_per_1000 > MEMORY_GOAL_MB, f"{MEMORY_GOAL_MB:g} MB")
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class CrowdFigures:
    """What so many pods cost. CPU is the operator's, in milliseconds and in percent of a core."""

    pods: int
    synced: Spread
    proved: Spread
    cpu_per_edit_ms: float
    questions_a_minute: float
    idle_cpu_percent: float
    cpu_per_question_ms: float

    def as_text(self) -> str:
        """Return the figures for people."""
        return "\n".join(
            [
                f"{self.pods} pods, one model",
                f"  edit → last pod runs it       {self.synced}",
                f"  edit → Propagated in status   {self.proved}",
                f"  operator's CPU an edit        {self.cpu_per_edit_ms:.0f} ms: watch, pokes and questions",
                f"  asked at rest                 {self.questions_a_minute:.0f} times a minute",
                f"  CPU at rest                   {self.idle_cpu_percent:.2f} % of a core",
                f"  CPU a question, at most       {self.cpu_per_question_ms:.1f} ms",
            ]
        )


def _judged(spread: Spread, goal: tuple[float, float] | None) -> str:
    if goal is None:
        return ""
    return _missed(spread.p50 > goal[0] or spread.p99 > goal[1], f"{goal[0]:g} / {goal[1]:g} ms")


def _missed(missed: bool, goal: str) -> str:
    return f"   GOAL OF {goal} MISSED" if missed else f"   (goal {goal})"


class Ledgers:
    """What the workers of some pods have written, read as it grows."""

    def __init__(self, pods: list[Pod]) -> None:
        self._files = [file.open() for pod in pods for file in sorted(pod.ledger.glob("*.jsonl"))]
        self._seen: list[list[tuple[int, float]]] = [[] for _ in self._files]

    async def loaded(self, revision: int) -> float:
        """Return when the last worker began to run a revision; waits for it."""
        async with asyncio.timeout(90):
            while True:
                times = [self._since(number, revision) for number in range(len(self._files))]
                if None not in times:
                    return max(at for at in times if at is not None)
                await asyncio.sleep(0.01)

    def _since(self, number: int, revision: int) -> float | None:
        for line in self._files[number]:
            record = json.loads(line)
            if "documents" in record:
                self._seen[number].append((max(record["documents"].values()), record["at"]))
        return next((at for found, at in self._seen[number] if found >= revision), None)

    def close(self) -> None:
        """Read no more."""
        for file in self._files:
            file.close()


@contextmanager
def _bench(folder: Path) -> Iterator[tuple[World, Process]]:
    """A control plane with an operator that works in namespace `bench`."""
    with ControlPlane.start(crds=[ROOT / "crds"]) as plane:
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        settings = {"lease_namespace": NAMESPACE, "allow_addresses": "127.0.0.0/8"}
        operator = Process.start(operator_kubeconfig(plane, folder), folder / "operator.log", **settings)
        try:
            yield World(plane, SPACE), operator
        finally:
            operator.kill()


async def measure(count: int, shards: int, edits: int, folder: Path) -> Figures:
    """Measure one size on a control plane of its own."""
    with ExitStack() as stack:
        world, operator = stack.enter_context(_bench(folder))
        redis = stack.enter_context(RedisServer.start())
        pods = stack.enter_context(fleet(world, folder / "pods", shards=shards, timing=REAL))
        async with KubeClient.connect(world.plane.kubeconfig, user_agent="benchmark") as client:
            return await _measure(world, operator, client, pods, redis, count, edits)


async def _measure(
    world: World, operator: Process, client: KubeClient, pods: Fleet, redis: RedisServer, count: int, edits: int
) -> Figures:
    seen = Seen(client)
    follower = asyncio.create_task(seen.run())
    try:
        store = {"redis": {"host": redis.host, "port": redis.port}}
        delivery = {"podSelector": SELECTOR, "statusPort": pods.port, "shards": pods.shards, "redisNotify": True}
        await client.create(SECRETS, SPACE, secret())
        await client.create(GATEWAY_CONFIGS, SPACE, gateway_config(storage=store, delivery=delivery))
        await seen.until('"revision":1')
        empty = await asyncio.to_thread(pods.start, "empty")
        base = _rss(empty)
        empty.delete()
        await create_all(client, count)
        await _rest(operator)
        access = await asyncio.to_thread(api_reader, world, pods.kubelet.directory)
        loaded: dict[str, Spread] = {}
        growth = 0.0
        for source, environment in (
            ("volume", {}),
            ("api", {"SOURCES": "volume,api", **access}),
            ("redis", {"SOURCES": "volume,redis"}),
        ):
            several = [await asyncio.to_thread(pods.start, f"{source}-{number}", **environment) for number in range(PODS)]
            times = await _edits(world, client, pods, several, source, edits if source != "volume" else max(5, edits // 4))
            loaded[source] = Spread.of(times)
            if source == "volume":
                growth = max(_rss(pod) - base for pod in several) * 1000 / count
            for pod in several:
                pod.delete()
        control = Spread.of(await floor(client, seen, edits))
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    return Figures(count, pods.shards, edits, loaded, control, round(growth, 2))


async def _edits(world: World, client: KubeClient, pods: Fleet, several: list[Pod], source: str, edits: int) -> list[float]:
    """Edit one model after the other; return the seconds from each answer until every pod ran it."""
    quiet = QUIET_SECONDS if source == "volume" else 0.15
    for pod in several if source != "volume" else ():
        pods.kubelet.hold(pod.name)  # on a cluster the kubelet's work is on other machines, and later
    ledgers, times = Ledgers(several), []
    dice = Random(1)
    try:
        await asyncio.sleep(3)
        revision = max(json.loads(text)["revision"] for text in _manifests(world))
        for number in range(edits):
            name = f"model-{dice.randrange(8) * 100 + 3:05d}"
            backend = {"name": "small", "model": f"{source}-{number:05d}"}
            await client.patch(VIRTUAL_MODELS, SPACE, name, {"spec": {"backends": [backend], "current": "small"}})
            answered = time.monotonic()
            revision += 1
            times.append(max(0.0, await ledgers.loaded(revision) - answered))
            await asyncio.sleep(quiet)
    finally:
        ledgers.close()
    return times


async def _rest(operator: Process) -> None:
    """Wait until the operator has nothing left to do: ten thousand statuses take their time."""
    async with asyncio.timeout(900):
        used = _cpu(operator)
        while True:
            await asyncio.sleep(3)
            before, used = used, _cpu(operator)
            if used - before < REST_CPU_SECONDS:
                return


def _manifests(world: World) -> list[str]:
    answer = world.plane.request("GET", world.path("ConfigMap"))
    texts = [(item.get("data") or {}).items() for item in answer.body["items"]]
    return [text for found in texts for name, text in found if name.endswith(".manifest.json")]


def _rss(pod: Pod) -> float:
    """Return the megabytes of a pod's process."""
    lines = Path(f"/proc/{pod.workers[0]}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def measure_crowd(count: int, edits: int, idle_seconds: float, folder: Path) -> CrowdFigures:
    """Measure what so many pods cost."""
    dice = Random(1)
    with _bench(folder) as (world, operator), crowd(world, count, lambda: dice.uniform(*REAL.poked_seconds)) as pods:
        furnish(world, pods.port)
        wait_all_run(world, count, within_seconds=60, revision=1)
        time.sleep(3)
        synced, proved, used = [], [], _cpu(operator)
        for number in range(edits):
            world.patch_spec("VirtualModel", "chat", current=("big", "small")[number % 2])
            answered = time.monotonic()
            wait_all_run(world, count, within_seconds=60, revision=number + 2)
            proved.append(time.monotonic() - answered)
            synced.append(max(pods.synced.values()) - answered)
            time.sleep(QUIET_SECONDS)
        each = (_cpu(operator) - used) / edits
        time.sleep(2)
        used, asked = _cpu(operator), pods.asked
        time.sleep(idle_seconds)
        idle, questions = _cpu(operator) - used, pods.asked - asked
    return CrowdFigures(
        pods=count,
        synced=Spread.of(synced),
        proved=Spread.of(proved),
        cpu_per_edit_ms=round(each * 1000),
        questions_a_minute=round(questions * 60 / idle_seconds),
        idle_cpu_percent=round(idle / idle_seconds * 100, 2),
        cpu_per_question_ms=round(idle * 1000 / max(1, questions), 1),
    )


def _cpu(operator: Process) -> float:
    """Return the processor seconds that the operator has used."""
    fields = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shards_for(count: int) -> int:
    """Return the number of shards that a gateway of that size would be given."""
    return 1 if count < 1000 else 8 if count < 10_000 else 64


def main(arguments: list[str]) -> int:
    """Measure each size and the crowd on control planes of their own; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks delivery", description=__doc__)
    parser.add_argument("--models", default="1000,10000", help="sizes to measure, with commas (default: 1000,10000)")
    parser.add_argument("--edits", type=int, default=150, help="edits that are timed by API and Redis (default: 150)")
    parser.add_argument("--pods", type=int, default=200, help="size of the crowd, 0 for none (default: 200)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which the crowd is left alone (default: 60)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    results: list[Figures | CrowdFigures] = []
    for count in (int(text) for text in chosen.models.split(",") if text):
        with tempfile.TemporaryDirectory() as folder:
            print(f"measuring with {count} models …", file=sys.stderr, flush=True)
            results.append(asyncio.run(measure(count, shards_for(count), chosen.edits, Path(folder))))
    if chosen.pods:
        with tempfile.TemporaryDirectory() as folder:
            print(f"measuring with {chosen.pods} pods …", file=sys.stderr, flush=True)
            results.append(measure_crowd(chosen.pods, 12, chosen.idle, Path(folder)))
    if chosen.output == "json":
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print("\n".join(result.as_text() for result in results))
    return 0
