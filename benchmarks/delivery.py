"""From an edit to the written ConfigMap, memory, and requests per object, with their controls.

The operator is a process of its own under its own RBAC. Times are taken by a watch of the ConfigMaps, not by polling. The
control is a PUT of a ConfigMap of the same size by this process, seen by the same watch: what no operator can be faster than.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS, JsonObject
from hack.audit import AuditMark
from hack.controlplane import ControlPlane
from tests.apiserver.world import gateway_config, secret, virtual_model
from tests.operators import NAMESPACE, USER, Process, operator_kubeconfig

ROOT = Path(__file__).resolve().parent.parent
SPACE = "bench"
CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """Return the spread of some measured times."""
        values = sorted(value * 1000 for value in seconds)
        return cls(round(median(values), 1), round(quantiles(values, n=100, method="inclusive")[98], 1), round(values[-1], 1))

    def __str__(self) -> str:
        return f"p50 {self.p50} ms, p99 {self.p99} ms, max {self.most} ms"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one size gave. Memory in MB (RSS); `requests_per_object` counts all kinds but Lease, from the audit log."""

    models: int
    shards: int
    edit: Spread
    floor: Spread
    rest_mb: float
    loaded_mb: float
    create_seconds: float
    last_served_seconds: float
    requests_per_object: float
    config_map_writes_per_object: float
    requests: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the figures for people."""
        ratio = self.edit.p50 / self.floor.p50
        growth = (self.loaded_mb - self.rest_mb) * 1000 / self.models
        return "\n".join(
            [
                f"{self.models} models, {self.shards} shard(s)",
                f"  edit → ConfigMap seen      {self.edit}",
                f"  control: same-size PUT     {self.floor}   (ratio of p50: {ratio:.1f})",
                f"  made by {CLIENTS} clients in {self.create_seconds:.2f} s, last served {self.last_served_seconds:.2f} s on",
                f"  RSS at rest {self.rest_mb:.0f} MB, with all models {self.loaded_mb:.0f} MB ({growth:.1f} MB per 1,000)",
                f"  requests per object {self.requests_per_object:.2f}, of ConfigMaps {self.config_map_writes_per_object:.3f}",
                f"  requests: {self.requests}",
            ]
        )


class Seen:
    """Follows the namespace's ConfigMaps and wakes whoever waits for a state of their models."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self.texts: dict[str, str] = {}
        self.changed = asyncio.Condition()

    async def run(self) -> None:
        """Follow until cancelled."""
        async for kind, obj in self._client.watch(CONFIG_MAPS, SPACE, resource_version="0"):
            if kind in {"ADDED", "MODIFIED"}:
                async with self.changed:
                    self.texts[obj["metadata"]["name"]] = "".join((obj.get("data") or {}).values())
                    self.changed.notify_all()

    async def until(self, text: str) -> float:
        """Wait until some document contains `text`; return the time at which it was seen."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: any(text in found for found in self.texts.values()))
            return time.perf_counter()


async def measure(count: int, shards: int, edits: int, folder: Path) -> Figures:
    """Measure one size on a control plane of its own."""
    with ControlPlane.start(crds=[ROOT / "crds"]) as plane:
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        kubeconfig = operator_kubeconfig(plane, folder)
        operator = Process.start(kubeconfig, folder / "operator.log", lease_namespace=NAMESPACE)
        try:
            async with KubeClient.connect(plane.kubeconfig, user_agent="benchmark") as client:
                return await _measure(plane, client, operator, count, shards, edits)
        finally:
            operator.kill()


async def _measure(plane: ControlPlane, client: KubeClient, operator: Process, count: int, shards: int, edits: int) -> Figures:
    seen = Seen(client)
    follower = asyncio.create_task(seen.run())
    try:
        await client.create(SECRETS, SPACE, secret())
        await client.create(GATEWAY_CONFIGS, SPACE, gateway_config(delivery={"shards": shards}))
        await seen.until('"revision":1')
        await asyncio.sleep(2)
        rest_mb = rss_mb(operator)
        mark = plane.audit_mark()
        began = time.perf_counter()
        created = await create_all(client, count)
        last = max([await seen.until(f'"model-{number:05d}":{{') for number in created])
        done = time.perf_counter()
        await settled(client, count)
        requests = _requests(plane, mark)
        loaded_mb = rss_mb(operator)
        edit = await edits_of_one(client, seen, edits)
        control = await floor(client, seen, edits)
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    wall = done - began
    return Figures(
        models=count,
        shards=shards,
        edit=Spread.of(edit),
        floor=Spread.of(control),
        rest_mb=rest_mb,
        loaded_mb=loaded_mb,
        create_seconds=round(created_seconds(created, began), 2),
        last_served_seconds=round(last - began - created_seconds(created, began), 2) if wall else 0.0,
        requests_per_object=sum(requests.values()) / count,
        config_map_writes_per_object=(requests["update configmaps"] + requests["create configmaps"]) / count,
        requests=dict(requests),
    )


def created_seconds(created: dict[int, float], began: float) -> float:
    """Return the time from the start to the last answer."""
    return max(created.values()) - began


async def create_all(client: KubeClient, count: int) -> dict[int, float]:
    """Create the models by several clients; returns when each answer came."""
    answered: dict[int, float] = {}
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await client.create(VIRTUAL_MODELS, SPACE, virtual_model(f"model-{number:05d}"))
            answered[number] = time.perf_counter()

    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return answered


async def settled(client: KubeClient, count: int) -> None:
    """Wait until every model is Ready."""
    async with asyncio.timeout(300):
        while True:
            ready = 0
            async for items, _version in client.list_pages(VIRTUAL_MODELS, SPACE):
                ready += sum(_is_ready(item) for item in items)
            if ready == count:
                await asyncio.sleep(1.5)  # the gateway's own status follows within a second
                return
            await asyncio.sleep(0.2)


def _is_ready(item: JsonObject) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


async def edits_of_one(client: KubeClient, seen: Seen, edits: int) -> list[float]:
    """Time from the answer of an edit to the watch event of the written ConfigMap; one edit at a time, all in quiet."""
    times: list[float] = []
    for number in range(edits):
        marker = f"edit-{number:05d}"
        spec = {"backends": [{"name": "small", "model": marker}], "current": "small"}
        await client.patch(VIRTUAL_MODELS, SPACE, "model-00003", {"spec": spec})
        answered = time.perf_counter()
        times.append(max(0.0, await seen.until(f'"{marker}"') - answered))
        await asyncio.sleep(0.1)
    return times


async def floor(client: KubeClient, seen: Seen, edits: int) -> list[float]:
    """The control: a PUT of a ConfigMap of the same size, from just before it is sent until the watch shows it."""
    size = max(len(text) for text in seen.texts.values())
    body: JsonObject = {"metadata": {"name": "control"}, "data": {"config.yml": "x" * size, "marker": "start"}}
    await client.create(CONFIG_MAPS, SPACE, body)
    times: list[float] = []
    for number in range(edits):
        marker = f"control-{number:05d}"
        body["data"]["marker"] = marker
        sent = time.perf_counter()
        _, found = await asyncio.gather(client.replace(CONFIG_MAPS, SPACE, "control", body), seen.until(marker))
        times.append(found - sent)
        await asyncio.sleep(0.1)
    return times


def _requests(plane: ControlPlane, mark: AuditMark) -> Counter[str]:
    """Return the operator's requests since `mark` by verb and resource, all kinds but Lease."""
    records = plane.audit_since(mark, user=USER)
    return Counter(f"{record.verb} {record.resource}" for record in records if record.resource != "leases")


def rss_mb(operator: Process) -> float:
    """Return the megabytes that the operator's process has in memory."""
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
