"""Restarting the operator in the middle of work: no edit is refused for it, and none is lost."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from hack.node import Cluster
from hack.node.services import NoEndpoint
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.chart.conftest import StartRelease
from tests.chart.releases import Release, create_soon
from tests.eventually import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.timeout(240)]

MODELS = 10
BURSTS_PER_SECOND = 4


@dataclass
class Editor:
    """Somebody who changes all models at once, again and again, each edit reviewed; in a thread.

    At once, so that the API server keeps connections to every replica, not to one alone. `written` is what each model was
    last accepted with; `failures` are edits that were not accepted, with their second.
    """

    world: World
    written: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    edits: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Editor:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="editor", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        plane = self.world.plane
        trusted = ssl.create_default_context(cafile=str(plane.ca_file))
        headers = {"Authorization": f"Bearer {plane.admin_token}", "Content-Type": "application/merge-patch+json"}
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with aiohttp.ClientSession(plane.url, headers=headers, connector=connector) as session:
            began, bursts = time.monotonic(), 0
            while not self._ended.is_set():
                await asyncio.sleep(max(0.0, began + bursts / BURSTS_PER_SECOND - time.monotonic()))
                second = time.monotonic() - began
                await asyncio.gather(*(self._edit(session, f"m{number}", bursts, second) for number in range(MODELS)))
                self.edits, bursts = self.edits + MODELS, bursts + 1

    async def _edit(self, session: aiohttp.ClientSession, name: str, number: int, second: float) -> None:
        patch = {"spec": {"backends": [{"name": "small", "model": "gpt-4o-mini", "parameters": {"seed": number}}]}}
        try:
            async with session.patch(self.world.path("VirtualModel", name), json=patch) as answer:
                if answer.status == 200:
                    self.written[name] = number
                else:
                    self.failures.append(f"at {second:.2f} s: {answer.status} {(await answer.text())[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"at {second:.2f} s: {type(error).__name__}: {error}")


@dataclass
class Knocker:
    """Somebody who connects to the webhook's Service 50 times a second, each time anew, as a node leads there; in a thread."""

    cluster: Cluster
    release: Release
    knocks: int = 0
    refused: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Knocker:
        self._thread = threading.Thread(target=self._main, name="knocker", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _main(self) -> None:
        while not self._ended.wait(0.02):
            self.knocks += 1
            try:
                address = self.cluster.node.address(self.release.namespace, f"{self.release.name}-aigateway-webhook", 443)
                socket.create_connection(address, timeout=5).close()
            except (NoEndpoint, OSError) as error:
                self.refused.append(f"{type(error).__name__}: {error}")


def test_no_edit_fails_or_is_lost_while_controller_and_webhook_are_replaced(
    cluster: Cluster, crds: None, release: StartRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 edits a second, each reviewed, while every pod is replaced as `kubectl rollout restart` does: every edit is accepted,
    the last one of each model is in the document in the end, and every connection finds a replica. With the chart's own drain
    time and probes, and nodes that learn two seconds late which pods are ready or leave.
    """
    one = release()
    one.install(values={"crds": {"install": False}, "webhook": {"drainSeconds": 5}})
    world = World(cluster.plane, one.namespace)
    create_soon(world, secret(), gateway_config(), *(virtual_model(f"m{number}") for number in range(MODELS)))
    world.wait_ready(*(f"m{number}" for number in range(MODELS)))
    before = set(cluster.node.of_namespace(one.namespace))
    monkeypatch.setattr(cluster.node, "endpoint_lag_seconds", 2.0)
    editor, knocker = Editor(world).start(), Knocker(cluster, one).start()
    try:
        deployments = [f"deploy/{one.name}-aigateway-{part}" for part in ("operator", "webhook")]
        cluster.plane.kubectl("rollout", "restart", "-n", one.namespace, *deployments, check=True)
        for deployment in deployments:
            cluster.plane.kubectl(
                "rollout", "status", "-n", one.namespace, deployment, "--timeout=60s", check=True, timeout_seconds=70
            )
        eventually(lambda: assert_gone(cluster, one.namespace, before), within_seconds=30)
    finally:
        knocker.stop()
        editor.stop()
    assert editor.failures == []
    assert knocker.refused == [], f"{len(knocker.refused)} of {knocker.knocks} connections"
    assert knocker.knocks > 100
    assert editor.edits > 4 * MODELS * BURSTS_PER_SECOND, "the load was not steady"
    eventually(lambda: assert_written(world, editor.written), within_seconds=20)


def assert_gone(cluster: Cluster, namespace: str, names: set[str]) -> None:
    """Assert that these pods have ended."""
    left = names & set(cluster.node.of_namespace(namespace))
    assert not left, f"still there: {left}"


def assert_written(world: World, expected: dict[str, int]) -> None:
    """Assert that each model's document has its last accepted edit."""
    models: dict[str, Any] = world.models()
    assert {name: models[name]["small"]["parameters"]["seed"] for name in expected} == expected
