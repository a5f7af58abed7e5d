"""A namespace in memory, with a stand-in for the operator that plans and writes once when it is asked to."""

from __future__ import annotations

import argparse
import base64
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import merge_conditions
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.gateways import World
from aigateway_operator.errors import ClusterError
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS, JsonObject, Resource
from aigateway_operator.plan.result import StatusWrite, Write
from aigateway_operator.reconcile.store import parse_stored
from aigateway_operator.rules import RuleContext
from tests.cli_suite import Manifest, Result, run_cli
from tests.fake_cluster import FakeCluster

RESOURCES = {one.kind: one for one in (VIRTUAL_MODELS, GATEWAY_CONFIGS, CONFIG_MAPS, SECRETS)}
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class ReadOnly:
    """What commands may do with a `FakeCluster`; fulfils `cli.cluster.Cluster`."""

    def __init__(self, fake: FakeCluster) -> None:
        self.fake = fake
        self.faults: dict[Resource, ClusterError] = {}
        self.faults_of_lists: dict[Resource, ClusterError] = {}

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        self._fail(resource)
        return await self.fake.get(resource, namespace, name)

    async def list_all(
        self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
    ) -> tuple[list[JsonObject], str]:
        self._fail(resource)
        if resource in self.faults_of_lists:
            raise self.faults_of_lists[resource]
        found = [item async for page, _ in self.fake.list_pages(resource, namespace) for item in page]
        label, _, value = (label_selector or "").partition("=")
        chosen = [item for item in found if not label or (item["metadata"].get("labels") or {}).get(label) == value]
        # Items of a List of a built-in kind carry no kind of their own.
        return [{key: part for key, part in item.items() if resource.group or key != "kind"} for item in chosen], "1"

    def _fail(self, resource: Resource) -> None:
        if resource in self.faults:
            raise self.faults[resource]


class FakeStage:
    """Fulfils `tests.cli_suite.Stage`."""

    namespace = "ai"

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster = ReadOnly(self.fake)
        self._running = True

    def create(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            obj = copy.deepcopy(manifest)
            obj["metadata"].setdefault("namespace", self.namespace)
            texts = obj.pop("stringData", {})
            if obj["kind"] == "Secret":
                obj["data"] = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            self.fake.make(RESOURCES[obj["kind"]], obj)

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        obj = self.fake.read(RESOURCES[kind], self.namespace, name)
        self.fake.change(RESOURCES[kind], self.namespace, name, spec={**obj["spec"], **spec})

    def stop_operator(self) -> None:
        self._running = False

    def settle(self) -> None:
        if not self._running:
            return
        world = self._world()
        for key, plan in world.plans(world.named_gateways()).items():
            for write in plan.writes:
                self._write(key, write, world.gateways[key].uid)
            for status in plan.statuses:
                self._write_status(key.namespace, status)

    def run(self, *argv: str) -> Result:
        @asynccontextmanager
        async def connect(_args: argparse.Namespace) -> AsyncIterator[ReadOnly]:
            yield self.cluster

        return run_cli(*argv, connect=connect)

    def _world(self) -> World:
        world = World(RuleContext(""))
        for obj in self.fake.objects(GATEWAY_CONFIGS):
            world.gateways[GatewayKey(self.namespace, obj["metadata"]["name"])] = parse_stored(obj)
        for obj in self.fake.objects(VIRTUAL_MODELS):
            world.models[self.namespace, obj["metadata"]["name"]] = parse_stored(obj)
        for obj in self.fake.objects(SECRETS):
            world.secrets[self.namespace, obj["metadata"]["name"]] = obj
        world.live[self.namespace] = [*self.fake.objects(CONFIG_MAPS), *self.fake.objects(SECRETS)]
        return world

    def _write(self, key: GatewayKey, write: Write, uid: str) -> None:
        owner = {"apiVersion": meta.API_VERSION, "kind": meta.GATEWAY_CONFIG, "name": key.name, "uid": uid, "controller": True}
        metadata = {
            "name": write.name,
            "namespace": key.namespace,
            "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.GATEWAY_LABEL: key.name},
            "ownerReferences": [owner],
        }
        values = {name: value.decode() for name, value in write.values.items()}
        if write.kind == "Secret":
            values = {name: base64.b64encode(value).decode() for name, value in write.values.items()}
        resource = RESOURCES[write.kind]
        if write.live is None:
            self.fake.make(resource, {"kind": write.kind, "metadata": metadata, "data": values})
        else:
            self.fake.change(resource, key.namespace, write.name, data=values)

    def _write_status(self, namespace: str, status: StatusWrite) -> None:
        resource = RESOURCES[status.kind]
        before = self.fake.read(resource, namespace, status.name).get("status") or {}
        merged = merge_conditions(before.get("conditions") or [], status.verdicts, status.generation, NOW)
        full = {"observedGeneration": status.generation, "conditions": merged, **status.fields}
        self.fake.change(resource, namespace, status.name, status=full)


@pytest.fixture
def stage() -> FakeStage:
    """A fresh namespace in memory."""
    return FakeStage()


@pytest.fixture(autouse=True)
def no_cluster_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may meet the kubeconfig, the settings or the colours of whoever runs it."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "AIGATEWAY_ALLOW_ADDRESSES", "AIGATEWAY_CLUSTER_DOMAIN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
