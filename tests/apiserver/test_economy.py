"""No write where nothing changed: re-apply, restart, no-op edits and idling, counted in the API server's audit log."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from aigateway_operator.api.meta import ObjectKey
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.main import Operator
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile.queue import QUIET_SECONDS
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model, without_status
from tests.eventually import eventually
from tests.operators import InProcess

pytestmark = pytest.mark.apiserver


def _settle(world: World, operator: InProcess, *models: str) -> None:
    world.wait_ready(*models)
    eventually(operator.assert_idle, within_seconds=20)


def test_exactly_one_status_write_for_an_undisturbed_generation(world: World, operator: InProcess) -> None:
    """Each object's first generation, and each edit, costs one status write; the gateway's revision makes one of its own."""
    mark = world.plane.audit_mark()
    world.create(secret())
    world.create(gateway_config())
    _settle(world, operator)
    assert [record.resource for record in world.writes_since(mark)].count("gatewayconfigs/status") == 1
    mark = world.plane.audit_mark()
    world.create(virtual_model())
    _settle(world, operator, "chat")
    writes = [record.resource for record in world.writes_since(mark)]
    assert writes.count("virtualmodels/status") == 1
    assert writes.count("gatewayconfigs/status") <= 1
    assert sorted(set(writes)) == ["configmaps", "gatewayconfigs/status", "secrets", "virtualmodels/status"]
    mark = world.plane.audit_mark()
    world.patch_spec("VirtualModel", "chat", current="big")
    _settle(world, operator, "chat")
    eventually(lambda: _revision_told(world), within_seconds=20)
    writes = [record.resource for record in world.writes_since(mark)]
    assert sorted(writes) == ["configmaps", "gatewayconfigs/status", "virtualmodels/status"]


def _revision_told(world: World) -> None:
    assert world.get("GatewayConfig", "main")["status"]["revision"] == world.manifest()["revision"]


def test_applying_again_without_change_writes_nothing(world: World, operator: InProcess) -> None:
    """kubectl apply of the same manifests, and edits of labels alone, bring about no write of ours."""
    world.create(secret(), gateway_config(), virtual_model())
    _settle(world, operator, "chat")
    eventually(lambda: _revision_told(world), within_seconds=20)
    mark = world.plane.audit_mark()
    for kind, name in (("VirtualModel", "chat"), ("GatewayConfig", "main")):
        world.replace(kind, name, without_status(world.get(kind, name))["spec"])
        world.patch(kind, name, {"metadata": {"labels": {"touched": "yes"}}})
    world.patch("Secret", "keys", {"metadata": {"annotations": {"touched": "yes"}}})
    eventually(lambda: _seen(world, operator), within_seconds=20)
    assert world.writes_since(mark) == []


def _stored(resource: Resource, key: ObjectKey, operator: Operator) -> Stored | None:
    return operator.controller.store.get(resource, key)


def _seen(world: World, operator: InProcess) -> None:
    """Assert that the operator has taken the newest version of everything and has nothing left to do."""
    for resource, kind, name in ((VIRTUAL_MODELS, "VirtualModel", "chat"), (GATEWAY_CONFIGS, "GatewayConfig", "main")):
        key = ObjectKey(world.namespace, name)
        stored = operator.call(partial(_stored, resource, key))
        assert stored is not None
        assert stored.resource_version == world.get(kind, name)["metadata"]["resourceVersion"]
    operator.assert_idle()


@pytest.mark.parametrize("shards", [1, 4])
def test_a_restart_writes_nothing(world: World, start_operator: StartOperator, shards: int) -> None:
    """Served, off, invalid, kept and unresolved objects alike: a new process finds everything as it should be."""
    first = start_operator()
    models = ["good", "off", "kept", "unresolved"]
    world.create(secret(), gateway_config(delivery={"shards": shards}))
    world.create(
        *(virtual_model(name, use=name != "off") for name in models), virtual_model("bad", baseUrl="http://public.example.com")
    )
    world.patch_spec("VirtualModel", "unresolved", proxyKeySecretRef={"name": "missing", "key": "x"})
    world.wait_ready("good", "off", "kept")
    world.patch_spec("VirtualModel", "kept", baseUrl="http://public.example.com")
    world.wait_condition("VirtualModel", "kept", "Programmed", "False", "KeptLastGood")
    world.wait_condition("VirtualModel", "unresolved", "ResolvedRefs", "False", "SecretNotFound")
    eventually(first.assert_idle, within_seconds=20)
    eventually(lambda: _counts(world, {"accepted": 3, "rejected": 2, "off": 1}), within_seconds=20)
    first.stop()
    mark = world.plane.audit_mark()
    for _ in range(3):
        again = start_operator()
        eventually(partial(_rounds, again), within_seconds=10)
        eventually(again.assert_idle, within_seconds=20)
        again.stop()
    assert world.writes_since(mark) == []


def _counts(world: World, wanted: dict[str, int]) -> None:
    assert world.get("GatewayConfig", "main")["status"]["models"] == wanted


def _rounds(operator: InProcess) -> None:
    """Assert that it has found nothing to change, and that kopf, which begins after the first rounds, has told it the same."""
    rounds = operator.call(lambda op: dict(op.controller.rounds))
    assert rounds.get("unchanged", 0) >= 1, rounds
    assert operator.call(lambda op: op.source.seen) >= 6


def test_requests_in_a_burst_stay_in_the_budget(world: World, operator: InProcess) -> None:
    """200 models created by 8 clients: one status write each, and of the ConfigMap no more than quiet times fit into the burst.

    A round waits for a quiet time, so that a machine that takes longer for the burst may write more often.
    """
    world.create(secret(), gateway_config())
    _settle(world, operator)
    mark = world.plane.audit_mark()
    names = [f"model-{number:03d}" for number in range(200)]
    started = time.monotonic()
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda name: world.create(virtual_model(name)), names))
    quiet_times = int((time.monotonic() - started) / QUIET_SECONDS)
    world.wait_ready(*names, within_seconds=20)
    eventually(operator.assert_idle, within_seconds=20)
    writes = [record.resource for record in world.writes_since(mark)]
    assert writes.count("virtualmodels/status") == 200
    rounds = min(quiet_times + 2, 100)  # the first at once, the last after the burst
    assert writes.count("configmaps") <= rounds
    # One write of the credentials Secret beside each ConfigMap at the most, and the gateway's status once a second.
    assert len(writes) <= 200 + 2 * rounds + 5
