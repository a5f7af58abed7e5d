"""How an operator is watched: liveness through outages, and red when it should be; metrics of a real one; nothing piles up."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aigateway_operator import health, measures
from aigateway_operator.reconcile import repair
from aigateway_operator.settings import Settings
from hack.controlplane import ControlPlane
from tests.apiserver.api_proxy import ApiProxy
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import InProcess, operator_kubeconfig

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = (ip_network("127.0.0.0/8"),)
FAST = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}


def ask(operator: InProcess, path: str, timeout_seconds: float = 5.0) -> tuple[int, str]:
    """Ask the health port as a kubelet would."""
    port = operator.call(lambda it: it.health_port) if operator.operator is None else operator.operator.health_port
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout_seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def value(operator: InProcess, name: str, **labels: str) -> float | None:
    """Return one series of a scrape; None if it is not there."""
    for family in text_string_to_metric_families(ask(operator, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


@contextmanager
def blackhole() -> Iterator[int]:
    """Listen at a port and never answer: connections are taken by the kernel and nobody reads them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        yield listener.getsockname()[1]


def stores_at(port: int) -> dict[str, dict[str, object]]:
    """Return three stores at one port."""
    return {name: {"host": "127.0.0.1", "port": port} for name in ("mongodb", "redis", "qdrant")}


@pytest.mark.timeout(120)
def test_liveness_stays_green_while_stores_and_the_api_server_are_away(plane: ControlPlane, tmp_path: Path) -> None:
    """A restart would help neither; metrics tell of the stores meanwhile, and the operator goes on afterwards."""
    with ControlPlane.start(binaries=plane.binaries, crds=[ROOT / "crds"]) as own, blackhole() as port:
        own.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ai"}})
        world = World(own, "ai")
        settings = Settings(
            kubeconfig=operator_kubeconfig(own, tmp_path), namespaces=("ai",), lease_namespace="aigateway-system",
            health_host="127.0.0.1", health_port=0, allow_addresses=LOOPBACK,
        )  # fmt: skip
        operator = InProcess(settings).start()
        try:
            world.create(secret(), gateway_config(storage=stores_at(port), probes=FAST), virtual_model())
            world.wait_ready("chat", within_seconds=30)
            world.wait_condition("GatewayConfig", "main", "DatastoresReady", "False", "Down", within_seconds=30)
            store = {"namespace": "ai", "gateway": "main", "store": "redis"}
            assert value(operator, "aigateway_datastore_up", **store) == 0
            own.kill_apiserver()
            until = time.monotonic() + 10
            while time.monotonic() < until:
                assert ask(operator, "/healthz") == (200, "ok\n")
                assert ask(operator, "/readyz")[0] == 200
                assert ask(operator, "/metrics")[0] == 200
                time.sleep(0.25)  # as often as this, for as long as the outage lasts
            own.start_apiserver()
            world.patch_spec("VirtualModel", "chat", current="big")
            eventually(lambda: _current(world, "big"), within_seconds=40)
            assert ask(operator, "/healthz") == (200, "ok\n")
        finally:
            operator.stop()


def _current(world: World, wanted: str) -> None:
    assert world.models()["chat"]["current"] == wanted


def test_liveness_does_not_answer_while_the_loop_is_stuck(operator: InProcess) -> None:
    """Which is how a kubelet notices; free again, it answers again."""
    assert ask(operator, "/healthz")[0] == 200
    assert operator._loop is not None
    operator._loop.call_soon_threadsafe(time.sleep, 2.5)
    with pytest.raises(OSError, match="timed out"):
        ask(operator, "/healthz", timeout_seconds=1.0)
    eventually(lambda: _green(operator), within_seconds=30)


def _green(operator: InProcess) -> None:
    assert ask(operator, "/healthz") == (200, "ok\n")


@pytest.mark.timeout(90)
def test_liveness_turns_red_when_the_watch_owes_changes(
    world: World, kubeconfig: Path, tmp_path: Path, start_operator: StartOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list shows an object that no watch delivers, for longer than the limit (a minute, here three seconds)."""
    monkeypatch.setattr(health, "OWED_LIMIT_SECONDS", 3.0)
    monkeypatch.setattr(repair, "PERIOD_SECONDS", 1.0)
    with ApiProxy.start(world.plane) as proxy:
        through = tmp_path / "proxied.kubeconfig"
        through.write_text(kubeconfig.read_text().replace(world.plane.url, proxy.url))
        operator = start_operator(kubeconfig=through)
        world.create(secret(), gateway_config(), virtual_model())
        world.wait_ready("chat", within_seconds=30)
        proxy.wait_watched("virtualmodels")  # kopf begins after the first rounds: a resource may be Ready before
        fault = proxy.delay("GET", "virtualmodels", watch=True, seconds=120)
        assert proxy.cut_watches("virtualmodels") == 1
        eventually(lambda: _held_back(proxy), within_seconds=30)
        world.create(virtual_model("unseen"))
        eventually(lambda: _red(operator), within_seconds=20)
        assert (value(operator, "aigateway_watch_owed_seconds") or 0) > 3
        fault.lift()
        operator.call(lambda it: it.source.restart())
        eventually(lambda: _green(operator), within_seconds=20)
        world.wait_ready("unseen", within_seconds=30)
        operator.stop()


def _held_back(proxy: ApiProxy) -> None:
    """Assert that the watch was opened anew, after the list that comes before it."""
    watches = proxy.requests("GET", "virtualmodels", watch=True)
    assert len(watches) >= 2, watches


def _red(operator: InProcess) -> None:
    status, text = ask(operator, "/healthz")
    assert (status, "the watch has owed changes" in text) == (503, True)


@pytest.mark.timeout(120)
def test_nothing_piles_up_while_every_store_is_blackholed(world: World, start_operator: StartOperator) -> None:
    """Open files and tasks are level over twelve periods of four gateways with three silent stores each."""
    operator = start_operator(allow_addresses=LOOPBACK)
    with blackhole() as port:
        world.create(secret(), *(gateway_config(f"main-{n}", storage=stores_at(port), probes=FAST) for n in range(4)))
        for number in range(4):
            world.wait_condition("GatewayConfig", f"main-{number}", "DatastoresReady", "False", "Down", within_seconds=30)
        levels = []
        for _ in range(24):
            time.sleep(0.5)  # samples over the whole time are the measurement
            levels.append((len(list(Path("/proc/self/fd").iterdir())), operator.call(lambda _it: len(asyncio.all_tasks()))))
        halves = levels[:12], levels[12:]
        files, tasks = ([max(one[index] for one in half) for half in halves] for index in (0, 1))
        print(f"open files {files}, tasks {tasks}")
        assert files[1] <= files[0] + 4
        assert tasks[1] <= tasks[0] + 4
        checks = operator.call(lambda it: sum(it.prober.checks.values()))
        assert checks >= 12


def test_a_scrape_of_a_real_operator_names_only_what_is_described(world: World, operator: InProcess) -> None:
    """Every series has the name and the labels of docs/metrics.md, and what must be there is."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    known = {name: set(measure.labels) for measure in measures.MEASURES for name in measure.exposed}
    seen = set()
    for family in text_string_to_metric_families(ask(operator, "/metrics")[1]):
        for sample in family.samples:
            if sample.name.startswith("aigateway_") and not sample.name.endswith("_created"):
                assert set(sample.labels) - {"le"} == known[sample.name], sample
                seen.add(sample.name)
    main = {"namespace": world.namespace, "gateway": "main"}
    assert value(operator, "aigateway_virtualmodels", **main, state="Ready", reason="Ready") == 1
    assert value(operator, "aigateway_leader") == 1
    assert (value(operator, "aigateway_reconcile_round_seconds_count") or 0) >= 1
    always = {name for measure in measures.CONTROLLER if not measure.labels for name in measure.exposed}
    assert always <= seen
