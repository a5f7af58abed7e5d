"""Gateway pods behind a real operator, and ledgers of what each of them ran and of what the operator said when.

A pod is `python -m aigateway_gateway` as a process of its own on a kubelet-like volume. What it ran is read from its own log;
what the operator said comes from a watch of the GatewayConfig. All moments are of this machine's clock, in seconds. Not a test
module.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp

from hack.kubelet import StandInPod
from hack.kubelet.pods import PYTHON
from hack.kubelet.watch import Collection, follow
from hack.stores import RedisServer
from tests.apiserver.world import GROUP, World, gateway_config, secret
from tests.pods import StartPod, mount_template

PORT: Final = 8000
"""Every pod has an address of its own."""
NAMES: Final = [f"b{number}" for number in range(8)]
"""Backends of the model `chat`; each is asked for a model `up-<name>`."""
CALLER: Final = "canary-caller-key"
BACKEND_KEY: Final = "canary-backend-key"
_APPLIED: Final = "A configuration came into force"
_ROUNDED_SECONDS: Final = 0.001
"""Moments in logs are cut to milliseconds."""


def furnish(world: World, upstream: str, *, redis: RedisServer | None = None) -> None:
    """Create a gateway that selects pods, and the model `chat` with eight backends. `redis`: documents are mirrored there."""
    selector = {"podSelector": {"matchLabels": {"app": "gateway"}}}
    gateway = gateway_config(delivery=selector)
    if redis is not None:
        storage = {"redis": {"host": redis.host, "port": redis.port}}
        gateway = gateway_config(storage=storage, delivery=selector | {"redisNotify": True})
    key = {"name": "keys", "key": "openai"}
    spec = {
        "gatewayRef": {"name": "main"},
        "use": True,
        "current": NAMES[0],
        "baseUrl": upstream,
        "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
        "backends": [{"name": name, "model": f"up-{name}", "apiKeySecretRef": key} for name in NAMES],
    }
    model = {
        "apiVersion": f"{GROUP.removeprefix('/apis/')}",
        "kind": "VirtualModel",
        "metadata": {"name": "chat"},
        "spec": spec,
    }
    world.create(secret(proxy=CALLER, openai=BACKEND_KEY), gateway, model)


def start_gateway(start_pod: StartPod, name: str, **settings: str) -> StandInPod:
    """Start a gateway pod; it is ready when it has a configuration."""
    template = mount_template()
    probe = {"httpGet": {"path": "/api/v1/health/ready", "port": PORT}}
    template["spec"]["containers"][0]["readinessProbe"] = probe
    given = {
        "HOST": "{ip}",
        "PORT": str(PORT),
        "STATUS_HOST": "{ip}",
        "DRAIN_SECONDS": "0",
        "LOG_FORMAT": "json",
        **settings,
    }
    environment = {f"AIGATEWAY_GATEWAY_{key}": value for key, value in given.items()} | {
        "AIGATEWAY_ALLOW_ADDRESSES": "127.0.0.0/8"
    }
    return start_pod(name, template, [PYTHON, "-m", "aigateway_gateway"], environment=environment)


def url_of(pod: StandInPod) -> str:
    """Return where a pod answers callers."""
    return f"http://{pod.ip}:{PORT}"


@dataclass(frozen=True)
class InForce:
    """A revision, and from when to when a pod served it; `until` is infinite for the last one."""

    revision: int
    since: float
    until: float

    def meets(self, began: float, ended: float) -> bool:
        """Whether it was in force at some moment of a request."""
        return self.since <= ended and began <= self.until


def ran(pod: StandInPod) -> list[InForce]:
    """Return what a pod served, in order, as it says itself."""
    entries = [json.loads(line) for line in pod.log.splitlines() if _APPLIED in line]
    moments = [(entry["revision"], datetime.fromisoformat(entry["timestamp"]).timestamp()) for entry in entries]
    ends = [moment + _ROUNDED_SECONDS for _, moment in moments[1:]] + [float("inf")]
    return [InForce(revision, moment, end) for (revision, moment), end in zip(moments, ends, strict=True)]


@dataclass
class Said:
    """What the API server showed while it was watched."""

    currents: dict[int, str] = field(default_factory=dict)
    """Revision → the live backend of `chat` in it, as rendered."""
    propagated: list[tuple[int, float]] = field(default_factory=list)
    """Revision and the moment `Propagated=True` of it was seen, later than it was true."""

    @property
    def last(self) -> int:
        """The newest revision that is propagated; 0 for none."""
        return self.propagated[-1][0] if self.propagated else 0

    def _config_map(self, obj: dict[str, Any]) -> None:
        if obj["metadata"]["name"] == "main-config":
            manifest, document = (json.loads(obj["data"][name]) for name in ("config.manifest.json", "config.yml"))
            models = document["ai-gateway"]["virtual_models"]
            if "chat" in models:
                self.currents[manifest["revision"]] = models["chat"]["current"]

    def _gateway(self, obj: dict[str, Any]) -> None:
        status = obj.get("status") or {}
        revision = (status.get("rollout") or {}).get("revision")
        said = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
        if said.get("Propagated") == "True" and revision is not None and revision != self.last:
            self.propagated.append((revision, time.time()))


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[Said]:
    """Watch the documents and the status of the world's gateway until the end of the block."""
    said = Said()
    plane = world.plane
    context = ssl.create_default_context(cafile=str(plane.ca_file))
    headers = {"Authorization": f"Bearer {plane.admin_token}"}
    async with aiohttp.ClientSession(plane.url, connector=aiohttp.TCPConnector(ssl=context), headers=headers) as session:
        tasks = [asyncio.create_task(_follow(session, world, kind, take)) for kind, take in _kinds(said)]
        try:
            yield said
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.05)  # TLS connections need some turns of the loop to close


def _kinds(said: Said) -> list[tuple[str, Any]]:
    return [("ConfigMap", said._config_map), ("GatewayConfig", said._gateway)]


async def _follow(session: aiohttp.ClientSession, world: World, kind: str, take: Any) -> None:
    def listed(objects: Any) -> None:
        for obj in objects:
            take(obj)

    await follow(session, Collection(world.path(kind), {}, listed, lambda _type, obj: take(obj)))
