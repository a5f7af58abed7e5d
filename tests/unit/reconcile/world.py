"""A controller with fakes at all its ports, wired as `main` wires the real adapters, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.reconcile.controller import Controller, Ports
from aigateway_operator.reconcile.ports import JsonObject, Recorder
from aigateway_operator.rollout.rollouts import Rollouts
from aigateway_operator.rules import RuleContext
from tests.fake_cluster import FakeCluster
from tests.fake_pods import FakePods
from tests.fakes import FakeLeadership, FakeMirrors, FakeOwned, FakeProber, FakeSecrets, RecordingAnnouncer
from tests.unit.reconcile.objects import gateway, model, secret
from tests.virtual_time import now

CUSTOM = (VIRTUAL_MODELS, GATEWAY_CONFIGS)


class World:
    """One operator and its cluster. `deaf`: the watch of VirtualModels and GatewayConfigs delivers nothing."""

    def __init__(self, cluster: FakeCluster | None = None, *, hold: bool = False, recorder: Recorder | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        self.deaf = False
        self.secrets = FakeSecrets(self.cluster, now, hold=hold)
        self.owned = FakeOwned(self.cluster, hold=hold)
        self.leadership = FakeLeadership()
        self.announcer = RecordingAnnouncer()
        self.fleet = FakePods()
        rollouts = Rollouts(
            self.fleet,
            self.fleet.poke,
            self.fleet.ask,
            on_change=lambda key: self.controller.on_rollout(key),
            clock=now,
            on_proven=self.fleet.proven.append,
            random=Random(1),
        )
        self.rollouts = rollouts
        self.mirrors = FakeMirrors()
        self.mirrors.on_change = lambda key: self.controller.on_mirror(key)
        self.prober = FakeProber()
        self.prober.on_change = lambda key: self.controller.on_health(key)
        ports = Ports(
            self.cluster, self.secrets, self.owned, self.leadership, self.announcer, rollouts, self.mirrors, self.prober
        )
        self.controller = Controller(ports, RuleContext(name=""), (), now, recorder=recorder)
        self.secrets.on_change = self.controller.on_secret
        self.owned.on_change = self.controller.on_owned
        self.secrets.on_listed = self.owned.on_listed = self.controller.on_namespace_listed
        self.cluster.listeners.append(self._watch)

    def _watch(self, resource: Resource, event: str, obj: JsonObject) -> None:
        if resource in CUSTOM and not self.deaf:
            asyncio.get_running_loop().call_later(0.001, self.controller.on_object, resource, event, obj)

    async def settle(self, at_least_seconds: float = 3.0) -> None:
        """Let everything that follows from what has happened come to an end."""
        await asyncio.sleep(at_least_seconds)
        for _ in range(200):
            if self.controller.idle:
                return
            await asyncio.sleep(1)
        raise AssertionError(f"no rest after 200 s; last requests: {self.cluster.calls[-10:]}")

    def lead(self) -> None:
        """Become leader."""
        self.leadership.is_leader = True
        self.controller.on_leading()

    def stand_by(self) -> None:
        """Lose leadership."""
        self.leadership.is_leader = False
        self.controller.on_standby()

    def furnish(self, *models: JsonObject) -> None:
        """Make a Secret, GatewayConfig `main`, and the given models."""
        self.cluster.make(resource_of(secret()), secret())
        self.cluster.make(GATEWAY_CONFIGS, gateway())
        for manifest in models or (model(),):
            self.cluster.make(VIRTUAL_MODELS, manifest)

    def served(self, gateway_name: str = "main") -> dict[str, Any]:
        """Return the models that pods of a gateway read; {} when there is no document."""
        name = f"{gateway_name}-config"
        if name not in self.cluster.names(CONFIG_MAPS, "ai"):
            return {}
        document = json.loads(self.cluster.read(CONFIG_MAPS, "ai", name)["data"]["config.yml"])
        found: dict[str, Any] = document["ai-gateway"]["virtual_models"]
        return found

    def condition(self, kind: str, name: str = "chat", resource: Resource = VIRTUAL_MODELS) -> tuple[str, str]:
        """Return status and reason of a condition, ("", "") where there is none."""
        status = self.cluster.read(resource, "ai", name).get("status") or {}
        found = [(one["status"], one["reason"]) for one in status.get("conditions") or [] if one["type"] == kind]
        return found[0] if found else ("", "")


def resource_of(manifest: JsonObject) -> Resource:
    """Return the resource of a manifest that is not one of ours."""
    return Resource("", "v1", f"{manifest['kind'].lower()}s", manifest["kind"])


@asynccontextmanager
async def world(made: World | None = None) -> AsyncIterator[World]:
    """Run a controller; a broken one fails the test."""
    at = made or World()
    task = asyncio.create_task(at.controller.run())
    try:
        yield at
        assert not task.done(), task
    finally:
        at.cluster.heal()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await at.rollouts.stop()
