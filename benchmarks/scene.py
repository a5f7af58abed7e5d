"""Where a workload takes place: a control plane of its own, one subject, a watch, and what the servers say was done.

`scene` sets it up and takes it down, so that no run inherits objects, memory or a grown database from another. Workloads
time; this module only acts as users do and counts from the API server's audit log and etcd's metrics.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aigateway_config.api_access import ApiAccess
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS
from benchmarks import subjects
from benchmarks.checker import NotCounted, verify
from benchmarks.seen import Seen
from benchmarks.subjects import OWN_AGENTS, Running, SubjectName
from benchmarks.usage import cpu_seconds
from hack.audit import WRITES, AuditMark
from hack.controlplane import ControlPlane
from tests.apiserver.world import gateway_config, secret, virtual_model

ROOT: Final = Path(__file__).resolve().parent.parent
SPACE: Final = "bench"
CLIENTS: Final = 8
REST_SECONDS: Final = 0.5
REST_SHARE: Final = 0.04
"""Share of a core below which a subject rests."""
REST_WITHIN_SECONDS: Final = 600
SETTLED_WITHIN_SECONDS: Final = 180


def model_id(number: int) -> str:
    """Return the name of a model."""
    return f"model-{number:05d}"


def shards_for(count: int) -> int:
    """Return the number of shards that a gateway of that size is given; docs/performance.md#goals has 1,000 and 10,000."""
    return 1 if count < 1000 else 8 if count < 10_000 else 64


@dataclass(slots=True)
class Scene:
    """A control plane with a namespace `bench`, and the subject that works there."""

    plane: ControlPlane
    client: KubeClient
    seen: Seen
    subject: Running
    folder: Path
    uids: dict[int, str] = field(default_factory=dict)
    """Number of a model → its uid, as deleting wants it."""

    def start(self, name: SubjectName, **settings: str) -> Running:
        """Start a subject beside or in place of the one there is; it is the scene's from now on."""
        self.subject = subjects.start(name, self.plane, self.folder, **settings)
        return self.subject

    async def furnish(self, shards: int, **spec: Any) -> None:
        """Create the Secret and a gateway `main`, and wait until an empty document is there, if anybody writes one."""
        delivery = {"shards": shards, **spec.pop("delivery", {})}
        written = self.seen.expect('"gateway":"bench/main"')
        await self.client.create(SECRETS, SPACE, secret())
        await self.client.create(GATEWAY_CONFIGS, SPACE, gateway_config(delivery=delivery, **spec))
        if self.subject.process is not None:
            await asyncio.wait_for(written, 60)

    async def create(self, count: int, first: int = 0, gateway: str = "main", clients: int = CLIENTS) -> float:
        """Create models as several clients at once; return when the last answer came."""
        numbers = iter(range(first, first + count))

        async def work() -> None:
            for number in numbers:
                await self.create_one(number, gateway)

        await asyncio.gather(*(work() for _ in range(clients)))
        return time.monotonic()

    async def create_one(self, number: int, gateway: str = "main", **spec: Any) -> None:
        """Create a model; keywords replace keys of its spec."""
        made = await self.client.create(VIRTUAL_MODELS, SPACE, virtual_model(model_id(number), gateway, **spec))
        self.uids[number] = made["metadata"]["uid"]

    async def delete_one(self, number: int) -> None:
        """Delete a model that was created here."""
        await self.client.delete(VIRTUAL_MODELS, SPACE, model_id(number), uid=self.uids.pop(number))

    async def edit(self, number: int, marker: str) -> float:
        """Let the live backend of a model be called `marker`; return when the answer came."""
        backend = {"name": "small", "model": marker}
        spec = {"backends": [backend], "current": "small"}
        await self.client.patch(VIRTUAL_MODELS, SPACE, model_id(number), {"spec": spec})
        return time.monotonic()

    async def rest(self) -> None:
        """Wait until the subject has nothing left to do."""
        if self.subject.process is None:
            return
        async with asyncio.timeout(REST_WITHIN_SECONDS):
            quiet, used = 0, cpu_seconds(self.subject.pid)
            while quiet < 2:
                await asyncio.sleep(REST_SECONDS)
                self.subject.check_alive()
                before, used = used, cpu_seconds(self.subject.pid)
                quiet = quiet + 1 if used - before < REST_SHARE * REST_SECONDS else 0

    async def settled(self) -> int:
        """Wait until it rests and the checker finds everything right; return the bytes of all documents.

        On a busy machine a subject rests while others have the cores. NotCounted when it is still not right after a while.
        """
        deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
        while True:
            await self.rest()
            try:
                return await asyncio.to_thread(verify, self.plane, SPACE)
            except NotCounted:
                if time.monotonic() > deadline:
                    raise

    # -- what the servers say was done

    def mark(self) -> AuditMark:
        """Return the present end of the audit log."""
        return self.plane.audit_mark()

    def requests(self, mark: AuditMark) -> Counter[str]:
        """Return the subject's requests since `mark` by verb and resource, all kinds but Lease."""
        found: Counter[str] = Counter()
        for record in self.plane.audit_since(mark, user=self.subject.user or "nobody"):
            if record.resource != "leases" and not any(agent in record.user_agent for agent in OWN_AGENTS):
                found[f"{record.verb} {record.resource}"] += 1
        return found

    def writes(self, mark: AuditMark) -> int:
        """Return how many of them change something."""
        return sum(count for what, count in self.requests(mark).items() if what.split()[0] in WRITES)

    def etcd_bytes(self) -> float:
        """Return how many bytes etcd has written to its log so far."""
        return etcd_metric(self.plane, "etcd_disk_wal_write_bytes_total")


def etcd_metric(plane: ControlPlane, name: str) -> float:
    """Return one number of etcd's."""
    with urllib.request.urlopen(f"{plane.etcd_url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"etcd at {plane.etcd_url} has no metric {name}")
    return float(found[1])


def config_map_writes(requests: Counter[str]) -> int:
    """Return how many of some requests write ConfigMaps."""
    return sum(count for what, count in requests.items() if what.endswith(" configmaps") and what.split()[0] in WRITES)


@asynccontextmanager
async def scene(subject: SubjectName, folder: Path, **settings: str) -> AsyncIterator[Scene]:
    """Set the stage for as long as the context lasts."""
    plane = await asyncio.to_thread(ControlPlane.start, crds=[ROOT / "crds"])
    with plane:
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        async with KubeClient.connect(plane.kubeconfig, user_agent="benchmark") as client:
            seen = Seen(ApiAccess(plane.url, SPACE, ca_file=plane.ca_file, token=plane.admin_token))
            follower = asyncio.create_task(seen.run())
            made = Scene(plane, client, seen, subjects.start(subject, plane, folder, **settings), folder)
            try:
                yield made
            finally:
                made.subject.kill()
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
