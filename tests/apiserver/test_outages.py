"""The API server away, half away, or silent about deletions: nothing served is removed, and everything converges after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from aigateway_operator.main import Operator
from aigateway_operator.settings import Settings
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import InProcess, operator_kubeconfig

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parent.parent.parent


def _current(world: World, wanted: str) -> None:
    assert world.models()["chat"]["current"] == wanted


@pytest.fixture
def own_world(tmp_path: Path, plane: ControlPlane) -> Iterator[tuple[World, Path]]:
    """A control plane of the test's own, since it is killed, with a kubeconfig of the operator."""
    with ControlPlane.start(binaries=plane.binaries, crds=[ROOT / "crds"]) as own:
        own.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ai"}})
        yield World(own, "ai"), operator_kubeconfig(own, tmp_path)


def _start(kubeconfig: Path) -> InProcess:
    settings = Settings(
        kubeconfig=kubeconfig,
        namespaces=("ai",),
        lease_namespace="aigateway-system",
        lease_name="ai",
        health_host="127.0.0.1",
        health_port=0,
    )
    return InProcess(settings).start()


@pytest.mark.slow
@pytest.mark.patient
@pytest.mark.timeout(240)
def test_the_api_server_away_for_two_minutes(own_world: tuple[World, Path]) -> None:
    """Killed for 120 s: the operator lives, liveness stays green, and an edit made right after is served."""
    world, kubeconfig = own_world
    operator = _start(kubeconfig)
    try:
        world.create(secret(), gateway_config(), virtual_model())
        world.wait_ready("chat", within_seconds=30)
        eventually(lambda: _started(operator), within_seconds=20)  # kopf begins after the first rounds
        world.plane.kill_apiserver()
        time.sleep(120)  # the outage itself is what is tested
        assert operator.call(lambda op: op.controller.repairer.owed_seconds()) < 60
        world.plane.start_apiserver()
        back = time.monotonic()
        world.patch_spec("VirtualModel", "chat", current="big")
        eventually(lambda: _current(world, "big"), within_seconds=40)
        print(f"served after the API server was back: {time.monotonic() - back:.1f} s")
        world.wait_ready("chat", within_seconds=20)
    finally:
        operator.stop()


def test_deletions_while_the_operator_was_down_disappear(world: World, start_operator: StartOperator) -> None:
    """A new process drops what is gone, and nothing else."""
    first = start_operator()
    world.create(secret(), gateway_config(), virtual_model("stays"), virtual_model("goes"))
    world.wait_ready("stays", "goes")
    first.stop()
    world.delete("VirtualModel", "goes")
    start_operator()
    world.wait_models({"stays"}, within_seconds=30)


@pytest.mark.patient
@pytest.mark.timeout(180)
def test_without_rights_on_secrets_a_cold_start_removes_nothing(own_world: tuple[World, Path]) -> None:
    """RBAC on Secrets taken away before the start: documents and credentials stay as they are; with it back work goes on."""
    world, kubeconfig = own_world
    operator = _start(kubeconfig)
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat", within_seconds=30)
    operator.stop()
    before = world.data("main-config"), world.values("main-credentials")
    role = world.plane.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/aigateway-operator").body
    narrowed = {**role, "rules": [rule for rule in role["rules"] if "secrets" not in rule["resources"]]}
    narrowed["rules"] = [
        *narrowed["rules"],
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "update", "delete"]},
    ]
    world.plane.request("PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/aigateway-operator", narrowed)
    world.delete("VirtualModel", "chat")
    world.create(virtual_model("second"))
    operator = _start(kubeconfig)
    try:
        eventually(lambda: _listed(operator), within_seconds=30)
        mark = world.plane.audit_mark()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert (world.data("main-config"), world.values("main-credentials")) == before
            time.sleep(0.2)
        assert world.writes_since(mark) == []
        current = world.plane.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/aigateway-operator").body
        restored = {**current, "rules": role["rules"]}
        assert (
            world.plane.request("PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/aigateway-operator", restored).status
            == 200
        )
        world.wait_models({"second"}, within_seconds=45)
        world.wait_ready("second", within_seconds=20)
    finally:
        operator.stop()


def _listed(operator: InProcess) -> None:
    assert operator.call(lambda op: op.controller.store.listed)


def test_twenty_restarts_of_the_event_source_cancel_nothing_of_ours(world: World, operator: InProcess) -> None:
    """kopf's thread ends and starts again; tasks of ours live on, and edits are served throughout."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    eventually(lambda: _started(operator), within_seconds=20)
    tasks = operator.call(_unfinished)
    for number in range(20):
        starts = operator.call(_starts)
        operator.call(_restart_source)
        eventually(partial(_started_again, operator, starts), within_seconds=30)
        if number % 5 == 0:
            wanted = "big" if number % 10 == 0 else "small"
            world.patch_spec("VirtualModel", "chat", current=wanted)
            eventually(partial(_current, world, wanted), within_seconds=30)
    assert operator.call(_unfinished) == tasks


def _unfinished(operator: Operator) -> list[tuple[str, int]]:
    return [(task.get_name(), id(task)) for task in operator.tasks if not task.done()]


def _starts(operator: Operator) -> int:
    return operator.source.starts


def _started(operator: InProcess) -> None:
    """Assert that kopf has handed over what it listed: before that there is nothing of it that could break or end."""
    assert operator.call(lambda op: op.source.seen) >= 2


def _restart_source(operator: Operator) -> None:
    operator.source.restart()


def _started_again(operator: InProcess, starts: int) -> None:
    assert operator.call(lambda op: op.source.alive and op.source.starts) > starts


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy that misbehaves on demand, between the operator and the API server."""
    with ApiProxy.start(plane) as started:
        yield started


@pytest.fixture
def proxied(proxy: ApiProxy, plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> Path:
    """The operator's kubeconfig, by way of the proxy."""
    path = tmp_path / "proxied.kubeconfig"
    path.write_text(kubeconfig.read_text().replace(plane.url, proxy.url))
    return path


@pytest.mark.patient
@pytest.mark.timeout(180)
def test_a_list_that_fails_for_twenty_seconds_removes_nothing(
    world: World, proxy: ApiProxy, proxied: Path, start_operator: StartOperator
) -> None:
    """A cold start while LISTs of VirtualModels answer 503: what is served stays, and is brought up to date afterwards."""
    first = start_operator()
    world.create(secret(), gateway_config(), virtual_model("stays"), virtual_model("goes"))
    world.wait_ready("stays", "goes")
    first.stop()
    world.delete("VirtualModel", "goes")
    before = world.data("main-config")
    fault = proxy.fail("GET", "virtualmodels", status=503, watch=False)
    operator = start_operator(kubeconfig=proxied)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert world.data("main-config") == before
        time.sleep(0.25)
    assert fault.hits >= 2
    assert not operator.call(lambda op: op.controller.store.listed)
    fault.lift()
    world.wait_models({"stays"}, within_seconds=30)
    world.wait_ready("stays", within_seconds=20)


@pytest.mark.timeout(180)
def test_a_deletion_behind_a_410_disappears(
    world: World, proxy: ApiProxy, proxied: Path, start_operator: StartOperator
) -> None:
    """The watch breaks, an object is deleted, the watch comes back with 410: a list of ours finds the deletion in seconds."""
    start_operator(kubeconfig=proxied)
    world.create(secret(), gateway_config(), virtual_model("stays"), virtual_model("goes"))
    world.wait_ready("stays", "goes")
    proxy.wait_watched("virtualmodels")
    away = proxy.fail("GET", "virtualmodels", status=503, watch=True)
    assert proxy.cut_watches("virtualmodels") == 1
    world.delete("VirtualModel", "goes")
    gone = proxy.fail("GET", "virtualmodels", status=410, watch=True, times=1)
    away.lift()
    world.wait_models({"stays"}, within_seconds=30)
    assert gone.hits == 1


@pytest.mark.slow
@pytest.mark.patient
@pytest.mark.timeout(240)
def test_two_minutes_of_503_are_survived(world: World, proxy: ApiProxy, proxied: Path, start_operator: StartOperator) -> None:
    """Everything answers 503 for 120 s: no thread or task gives up, nothing is removed, and an edit is served after."""
    operator = start_operator(kubeconfig=proxied)
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    proxy.wait_watched("virtualmodels")
    before = world.data("main-config")
    fault = proxy.fail(None, None, status=503)
    for resource in ("virtualmodels", "gatewayconfigs", "secrets", "configmaps"):
        proxy.cut_watches(resource)
    time.sleep(120)  # the outage itself is what is tested
    assert not operator.call(lambda op: op.is_leader)
    assert world.data("main-config") == before
    fault.lift()
    world.patch_spec("VirtualModel", "chat", current="big")
    eventually(partial(_current, world, "big"), within_seconds=45)
    world.wait_ready("chat", within_seconds=20)
