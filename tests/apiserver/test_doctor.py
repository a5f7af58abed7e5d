"""`aigateway doctor` on a real installation: nothing to say of a healthy one; each planted fault is named with its remedy."""

from __future__ import annotations

import base64
import copy
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization

from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.mounting import deployment_patch
from aigateway_operator.settings import Settings
from hack.controlplane import ControlPlane
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.cli_suite import Result, run_cli
from tests.eventually import eventually
from tests.operators import ACCOUNT, NAMESPACE, InProcess, operator_kubeconfig
from tests.webhooks import CONFIGURATIONS, HOUR, Authority, _builder

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
MAIN = f"{CONFIGURATIONS}/aigateway-operator"
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/aigateway-operator"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmodels.ai-gateway.io"
SHARDS = 2
LABELS = {"app": "gateway"}


@dataclass
class House:
    """An installation in good health, on a control plane of its own: some faults concern all of the cluster."""

    world: World

    @property
    def plane(self) -> ControlPlane:
        return self.world.plane

    def doctor(self, *argv: str) -> Result:
        """Examine it, as an administrator on behalf of the operator's account."""
        account = ("--account", f"{NAMESPACE}/{ACCOUNT}", "--kubeconfig", str(self.plane.kubeconfig))
        return run_cli("doctor", "-n", self.world.namespace, *account, *argv)

    def merge(self, path: str, body: dict[str, Any]) -> None:
        """Merge into any object."""
        answer = self.plane.request("PATCH", path, body, content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body

    @contextmanager
    def merged(self, path: str, body: dict[str, Any]) -> Iterator[None]:
        """Merge for a while; lists and values that stood there are put back."""
        before = self.plane.request("GET", path).body
        self.merge(path, body)
        yield
        self.merge(path, _back(before, body))

    @contextmanager
    def made(self, path: str, body: dict[str, Any]) -> Iterator[None]:
        """Make an object for a while."""
        answer = self.plane.request("POST", path, body)
        assert answer.status == 201, answer.body
        yield
        self.plane.request("DELETE", f"{path}/{body['metadata']['name']}?gracePeriodSeconds=0")


def _back(before: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch that undoes `body`."""
    return {
        key: _back(before.get(key) or {}, value)
        if isinstance(value, dict) and isinstance(before.get(key), dict)
        else before.get(key)
        for key, value in body.items()
    }


def pod(name: str, shards: int = SHARDS, **spec: Any) -> dict[str, Any]:
    """Return a pod as `aigateway mount` would make it."""
    patch = deployment_patch("main", shards=shards, status_port=8081, labels=LABELS, container="gateway")["spec"]["template"]
    full = copy.deepcopy({**patch["spec"], "nodeName": "none", "automountServiceAccountToken": False, **spec})
    full["containers"][0]["image"] = "gateway"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": LABELS}, "spec": full}


def by_sub_path() -> dict[str, Any]:
    """Return a pod that mounts one file."""
    made = pod("by-file")
    made["spec"]["containers"][0]["volumeMounts"][0] |= {"subPath": "config.yml"}
    return made


@pytest.fixture(scope="module")
def house(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Operator with webhook, a gateway of two shards with one model, and a pod that mounts everything."""
    with ControlPlane.start(binaries=plane.binaries, crds=[ROOT / "crds"]) as own:
        own.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ai"}})
        settings = Settings(
            kubeconfig=operator_kubeconfig(own, tmp_path_factory.mktemp("doctor")),
            namespaces=("ai",),
            lease_namespace=NAMESPACE,
            health_host="127.0.0.1",
            health_port=0,
            with_webhook=True,
            webhook_host="127.0.0.1",
            webhook_port=0,
            webhook_names=("127.0.0.1",),
            webhook_drain_seconds=0,
            allow_addresses=(ip_network("127.0.0.0/8"),),
        )
        operator = InProcess(settings).start()
        try:
            port = operator.call(lambda op: op.webhook.port if op.webhook else 0)
            answer = own.request("POST", CONFIGURATIONS, webhook_configuration(Endpoint(url=f"https://127.0.0.1:{port}")))
            assert answer.status == 201, answer.body
            world = World(own, "ai")
            eventually(lambda: _assert_trusted(own), within_seconds=20)
            delivery = {"podSelector": {"matchLabels": LABELS}, "shards": SHARDS}
            probes = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
            storage = {"redis": {"host": "127.0.0.1", "port": 6379, "enabled": False}}
            eventually(lambda: world.create(secret()), within_seconds=30)
            eventually(
                lambda: world.create(gateway_config(delivery=delivery, probes=probes, storage=storage)), within_seconds=15
            )
            world.create(virtual_model())
            world.wait_ready("chat", within_seconds=30)
            own.request("POST", "/api/v1/namespaces/ai/pods", pod("gateway-1"))
            yield House(world)
        finally:
            operator.stop()


def _assert_trusted(plane: ControlPlane) -> None:
    webhook = plane.request("GET", MAIN).body["webhooks"][0]
    assert webhook["clientConfig"].get("caBundle"), "the leader has not filled in caBundle yet"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("AIGATEWAY_"):
            monkeypatch.delenv(name)


def wrong_in(result: Result) -> list[dict[str, Any]]:
    """Return the rows that are not fine."""
    return [check for check in result.data["checks"] if check["state"] != "fine"]


def test_a_healthy_installation_has_nothing_wrong(house: House) -> None:
    """Exit code 0; every area is looked at; the pod that `aigateway mount` describes mounts all."""

    def check() -> Result:
        result = house.doctor("-o", "json")
        assert (result.code, wrong_in(result)) == (Exit.FINE, []), result.out + result.err
        return result

    result = eventually(check, within_seconds=30)
    areas = {check["area"] for check in result.data["checks"]}
    assert areas == {"settings", "api", "crds", "rights", "leader", "webhook", "ai/main"}
    people = house.doctor()
    assert people.out.count("✓") == len(result.data["checks"])
    assert "0 wrong." in people.out


def test_asking_changes_nothing(house: House) -> None:
    """The object of the dry run is never there, and no other has moved."""

    def seen() -> list[tuple[str, str, int]]:
        items = house.plane.request("GET", house.world.path("GatewayConfig")).body["items"]
        return [(item["metadata"]["name"], item["metadata"]["uid"], item["metadata"]["generation"]) for item in items]

    before = seen()
    assert house.doctor().code == Exit.FINE
    assert [name for name, _, _ in before] == ["main"]
    assert seen() == before


Plant = Callable[[House, pytest.MonkeyPatch, Path], AbstractContextManager[None]]


@contextmanager
def setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> Iterator[None]:
    """Set a variable for a while."""
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        yield


def closed_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def expired() -> bytes:
    """Return an authority that ended an hour ago."""
    made = Authority("old authority")
    now = datetime.now(UTC)
    builder = _builder("old authority", "old authority", made.key.public_key(), now - timedelta(days=9), now - HOUR)
    return builder.sign(made.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def other_configuration(house: House, monkeypatch: pytest.MonkeyPatch, bundle: bytes) -> AbstractContextManager[None]:
    """Look at a configuration that no leader keeps, for a namespace that nobody uses."""
    monkeypatch.setenv("AIGATEWAY_WEBHOOK_CONFIGURATION", "kept-by-nobody")
    body = webhook_configuration(Endpoint(url="https://127.0.0.1:1"), name="kept-by-nobody", namespaces=["elsewhere"])
    body["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
    return house.made(CONFIGURATIONS, body)


def without_rule(house: House, resource: str) -> AbstractContextManager[None]:
    """Take a right away from the operator."""
    rules = house.plane.request("GET", ROLE).body["rules"]
    return house.merged(ROLE, {"rules": [rule for rule in rules if resource not in rule["resources"]]})


def webhook_with(house: House, **parts: Any) -> AbstractContextManager[None]:
    """Change the one webhook of the configuration."""
    webhook = house.plane.request("GET", MAIN).body["webhooks"][0]
    client = {**webhook["clientConfig"], **parts.pop("clientConfig", {})}
    return house.merged(MAIN, {"webhooks": [{**webhook, **parts, "clientConfig": client}]})


def other_leaf(house: House, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """Serve a certificate of somebody else."""
    certificate, key = Authority().leaf(ends=timedelta(days=3))
    monkeypatch.setenv("AIGATEWAY_WEBHOOK_SECRET_NAME", "strange")
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "strange"}, "type": "kubernetes.io/tls", "data": data}
    return house.made(f"/api/v1/namespaces/{NAMESPACE}/secrets", body)


def foreign_schema(house: House) -> AbstractContextManager[None]:
    """Install the kind of another release."""
    found = house.plane.request("GET", CRD).body
    versions = copy.deepcopy(found["spec"]["versions"])
    versions[0]["schema"]["openAPIV3Schema"]["description"] = "Of another release."
    return house.merged(CRD, {"spec": {"versions": versions}})


@contextmanager
def large_spool(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Let the spool take more than any disk of a test has."""
    with (
        setting(monkeypatch, "AIGATEWAY_LOG_SPOOL_DIR", str(folder)),
        setting(monkeypatch, "AIGATEWAY_LOG_SPOOL_MEBIBYTES", "1048576"),
    ):
        yield


PODS = "/api/v1/namespaces/ai/pods"
MAIN_GATEWAY = "/apis/ai-gateway.io/v1alpha1/namespaces/ai/gatewayconfigs/main"

FAULTS: dict[str, tuple[Plant, tuple[str, str], str]] = {
    "a setting that is no number": (
        lambda house, monkeypatch, tmp: setting(monkeypatch, "AIGATEWAY_HEALTH_PORT", "http"),
        ("settings", "AIGATEWAY_HEALTH_PORT"),
        "integer",
    ),
    "a spool folder that is not there": (
        lambda house, monkeypatch, tmp: setting(monkeypatch, "AIGATEWAY_LOG_SPOOL_DIR", str(tmp / "gone")),
        ("disk", "AIGATEWAY_LOG_SPOOL_DIR"),
        "is no folder",
    ),
    "a spool larger than the disk": (
        lambda house, monkeypatch, tmp: large_spool(monkeypatch, tmp),
        ("disk", "AIGATEWAY_LOG_SPOOL_DIR"),
        "MiB free",
    ),
    "kinds of another release": (
        lambda house, monkeypatch, tmp: foreign_schema(house),
        ("crds", "virtualmodels.ai-gateway.io"),
        "another release",
    ),
    "no right to poke pods": (
        lambda house, monkeypatch, tmp: without_rule(house, "pods/status"),
        ("rights", "pods/status"),
        "may not patch",
    ),
    "no right to tell events": (
        lambda house, monkeypatch, tmp: without_rule(house, "events"),
        ("rights", "events.events.k8s.io"),
        "may not create in",
    ),
    "nobody leads": (
        lambda house, monkeypatch, tmp: setting(monkeypatch, "AIGATEWAY_LEASE_NAME", "nobody"),
        ("leader", f"Lease {NAMESPACE}/nobody"),
        "no operator has ever led",
    ),
    "no webhook": (
        lambda house, monkeypatch, tmp: setting(monkeypatch, "AIGATEWAY_WEBHOOK_CONFIGURATION", "none"),
        ("webhook", "none"),
        "is not installed",
    ),
    "a webhook that nobody reaches": (
        lambda house, monkeypatch, tmp: webhook_with(
            house, clientConfig={"url": f"https://127.0.0.1:{closed_port()}/validate"}
        ),
        ("webhook", "dry run in namespace ai"),
        "cannot ask the webhook",
    ),
    "a webhook that is not asked": (
        lambda house, monkeypatch, tmp: webhook_with(house, namespaceSelector={"matchLabels": {"reviewed": "yes"}}),
        ("webhook", "dry run in namespace ai"),
        "is not asked",
    ),
    "an authority that has expired": (
        lambda house, monkeypatch, tmp: other_configuration(house, monkeypatch, expired()),
        ("webhook", "caBundle of kept-by-nobody"),
        "expired at",
    ),
    "a certificate that nobody made": (
        lambda house, monkeypatch, tmp: setting(monkeypatch, "AIGATEWAY_WEBHOOK_SECRET_NAME", "gone"),
        ("webhook", f"Secret {NAMESPACE}/gone"),
        "does not exist",
    ),
    "a certificate of another authority": (
        lambda house, monkeypatch, tmp: other_leaf(house, monkeypatch),
        ("webhook", f"Secret {NAMESPACE}/strange"),
        "no authority in caBundle signed",
    ),
    "a selector that selects nothing": (
        lambda house, monkeypatch, tmp: house.merged(
            MAIN_GATEWAY, {"spec": {"delivery": {"podSelector": {"matchLabels": {"app": "gone"}}}}}
        ),
        ("ai/main", "podSelector"),
        "selects no pod",
    ),
    "a file that is mounted by subPath": (
        lambda house, monkeypatch, tmp: house.made(PODS, by_sub_path()),
        ("ai/main", "subPath"),
        "1 pod (by-file)",
    ),
    "a shard that is not mounted": (
        lambda house, monkeypatch, tmp: house.made(PODS, pod("one-shard", shards=1)),
        ("ai/main", "missing volumes"),
        "main-models-00",
    ),
    "a pod in the host's network": (
        lambda house, monkeypatch, tmp: house.made(PODS, pod("on-host", hostNetwork=True)),
        ("ai/main", "hostNetwork"),
        "never asked",
    ),
    "a datastore that is down": (
        lambda house, monkeypatch, tmp: house.merged(
            MAIN_GATEWAY, {"spec": {"storage": {"redis": {"enabled": True, "port": closed_port()}}}}
        ),
        ("ai/main", "redis"),
        "Down",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_named(house: House, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the place, what is so and what to do; and it alone, so that nobody looks in the wrong place."""
    plant, (area, subject), text = FAULTS[fault]
    with plant(house, monkeypatch, tmp_path):

        def check() -> None:
            result = house.doctor("-o", "json")
            found = wrong_in(result)
            named = [one for one in found if (one["area"], one["subject"]) == (area, subject)]
            assert len(named) == 1, found
            assert text in named[0]["message"], named
            assert named[0]["remedy"], named
            # Rights on a webhook configuration are rights on the one of that name; one that is not asked refuses nothing.
            also = {"webhook", "rights"} if area == "webhook" else set()
            assert {one["area"] for one in found} <= {area, *also}, found
            assert result.code == (Exit.REFUSED if any(one["state"] == "wrong" for one in found) else Exit.FINE)

        eventually(check, within_seconds=25)


def test_a_cluster_that_is_away_is_one_row(house: House, tmp_path: Path) -> None:
    """Not a traceback, and not a row for everything that could not be looked at."""
    config = house.plane.kubeconfig.read_text().replace(house.plane.url, f"https://127.0.0.1:{closed_port()}")
    (tmp_path / "away.kubeconfig").write_text(config)
    result = run_cli("doctor", "--kubeconfig", str(tmp_path / "away.kubeconfig"), "-o", "json")
    assert [(one["area"], one["state"]) for one in wrong_in(result)] == [("api", "wrong")]
    assert result.code == Exit.REFUSED


def test_a_kind_that_is_not_installed_is_named(house: House) -> None:
    """Last, since nothing works after it: both kinds are gone."""
    for plural in ("virtualmodels", "gatewayconfigs"):
        answer = house.plane.request(
            "DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.ai-gateway.io"
        )
        assert answer.status == 200, answer.body

    def check() -> None:
        rows = [(one["subject"], one["message"]) for one in wrong_in(house.doctor("-o", "json")) if one["area"] == "crds"]
        assert rows == [(f"{plural}.ai-gateway.io", "is not installed") for plural in ("virtualmodels", "gatewayconfigs")]

    eventually(check, within_seconds=20)
