"""The webhook's certificates on the real API server: filled, healed, rotated, by the leader alone and under its own rights."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from aigateway_operator.admission.certificate_keeper import CertificateKeeper
from aigateway_operator.admission.certificates import parse_certificates
from aigateway_operator.admission.webhook_configuration import CONFIGURATION_NAME, Endpoint, webhook_configuration
from aigateway_operator.errors import CertificateError, Conflict
from aigateway_operator.kube.certificates import CertificateNames, CertificateObjects, SecretCertificateSource
from aigateway_operator.kube.client import KubeClient
from hack.audit import WRITES, AuditMark, AuditRecord
from hack.controlplane import ControlPlane
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import gateway_config
from tests.eventually import eventually, eventually_async
from tests.operators import ACCOUNT, NAMESPACE, USER, InProcess
from tests.webhook_replicas import Port, Replica, webhook_kubeconfig
from tests.webhooks import CONFIGURATIONS, Authority

pytestmark = pytest.mark.apiserver

CONFIGURATION = f"{CONFIGURATIONS}/{CONFIGURATION_NAME}"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/owned"
NAME = "aigateway-webhook-certificates"
SECRET = f"{SECRETS}/{NAME}"
Object = dict[str, Any]


@dataclass
class Site:
    """The Secret and the configuration, as an administrator sees and changes them."""

    plane: ControlPlane
    namespace: str

    def configure(self, url: str = "https://127.0.0.1:1") -> Object:
        """Install the configuration as the chart does: without a caBundle, here for the test's namespace only."""
        body = webhook_configuration(Endpoint(url=url), namespaces=[self.namespace])
        answer = self.plane.request("POST", CONFIGURATIONS, body)
        assert answer.status == 201, answer.body
        return dict(body)

    def configuration(self) -> Object:
        answer = self.plane.request("GET", CONFIGURATION)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    def bundles(self) -> list[bytes]:
        hooks = self.configuration()["webhooks"]
        return [base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks]

    def set_bundle(self, bundle: bytes) -> None:
        """Overwrite every caBundle, as another controller would."""
        body = self.configuration()
        for hook in body["webhooks"]:
            hook["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
        answer = self.plane.request("PUT", CONFIGURATION, body)
        assert answer.status == 200, answer.body

    def secret(self) -> Object:
        answer = self.plane.request("GET", SECRET)
        assert answer.status == 200, f"no Secret {NAME}: {answer.status}"
        return dict(answer.body)

    def values(self) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in (self.secret().get("data") or {}).items()}

    def good(self) -> dict[str, bytes]:
        """Assert that Secret and every caBundle are whole and belong together; return the Secret's content."""
        secret, values = self.secret(), self.values()
        assert secret["type"] == "kubernetes.io/tls"
        assert values.get("tls.crt"), "no leaf yet"
        assert all(bundle == values["ca.crt"] for bundle in self.bundles())
        (leaf,) = parse_certificates(values["tls.crt"])
        assert any(leaf.issuer == one.subject for one in parse_certificates(values["ca.crt"]))
        return values

    def wait_good(self, within_seconds: float = 20.0) -> dict[str, bytes]:
        return eventually(self.good, within_seconds=within_seconds)

    def writes_since(self, mark: AuditMark) -> list[AuditRecord]:
        """Return writes of the operator's to both objects since `mark`."""
        records = self.plane.audit_since(mark, user=USER, verbs=WRITES)
        return [one for one in records if one.resource in ("secrets", "validatingwebhookconfigurations")]

    def remove(self) -> None:
        self.plane.request("DELETE", CONFIGURATION)
        self.plane.request("DELETE", SECRET)


@pytest.fixture
def site(plane: ControlPlane, namespace: str) -> Iterator[Site]:
    """An installation without Secret and configuration; both are removed afterwards."""
    made = Site(plane, namespace)
    made.remove()
    yield made
    made.remove()


@pytest.fixture
def keeping(site: Site, start_operator: StartOperator) -> Iterator[Callable[..., InProcess]]:
    """Starts operators that keep certificates; they are stopped before the objects are removed."""
    started: list[InProcess] = []

    def start(**settings: Any) -> InProcess:
        operator = start_operator(webhook_names=("127.0.0.1",), **settings)
        started.append(operator)
        return operator

    yield start
    for operator in started:
        operator.stop()


def keeper(operator: InProcess) -> CertificateKeeper:
    """Return an operator's keeper."""
    assert operator.operator is not None
    assert operator.operator.certificates is not None
    return operator.operator.certificates


def test_first_start_fills_secret_and_bundle_and_a_restart_writes_nothing(
    site: Site, keeping: Callable[..., InProcess]
) -> None:
    """Nothing was shipped in either; one write each; whoever leads next finds all in order."""
    site.configure()
    mark = site.plane.audit_mark()
    first = keeping()
    values = site.wait_good()
    assert set(values) == {"tls.crt", "tls.key", "ca.crt", "ca.key"}
    assert "ownerReferences" not in site.secret()["metadata"]
    assert [one.verb for one in site.writes_since(mark)] == ["create", "patch"]
    first.stop()
    mark = site.plane.audit_mark()
    second = keeping()
    eventually(lambda: _assert_planned(keeper(second)), within_seconds=20)
    assert site.writes_since(mark) == []
    assert site.values() == values


def test_an_absent_configuration_is_waited_for(site: Site, keeping: Callable[..., InProcess]) -> None:
    """Replicas get their certificate before; the configuration is filled within a second of its coming."""
    keeping()
    eventually(site.values, within_seconds=20)
    site.configure()
    site.wait_good(within_seconds=2)


def test_deleted_overwritten_and_corrupted_content_heals_within_seconds(site: Site, keeping: Callable[..., InProcess]) -> None:
    """By whomever and in whichever way; labels and annotations that somebody put on the Secret stay."""
    site.configure()
    keeping()
    first = site.wait_good()
    site.plane.request("DELETE", SECRET)
    second = site.wait_good()
    assert second["tls.crt"] != first["tls.crt"]
    assert len(parse_certificates(second["ca.crt"])) == 2, "replicas may serve the old leaf for a while"

    for overwritten in (b"", b"garbage", first["ca.crt"]):
        try:
            site.set_bundle(overwritten)
        except AssertionError:
            assert overwritten == b"garbage", "the API server refuses what is no certificate"
            continue
        site.wait_good(within_seconds=10)

    patch = {"metadata": {"labels": {"team": "a"}}, "data": {"tls.key": base64.b64encode(b"garbage").decode()}}
    answer = site.plane.request("PATCH", SECRET, patch, content_type="application/merge-patch+json")
    assert answer.status == 200, answer.body
    third = eventually(lambda: _assert_differs(site.good(), "tls.key", b"garbage"), within_seconds=10)
    assert third["ca.crt"] == second["ca.crt"]
    assert site.secret()["metadata"]["labels"]["team"] == "a"


@pytest.mark.parametrize("fields", [{"type": "Opaque"}, {"immutable": True, "type": "kubernetes.io/tls"}])
def test_a_secret_that_cannot_be_changed_is_replaced(site: Site, keeping: Callable[..., InProcess], fields: Object) -> None:
    """Type and immutable Secrets are final for the API server; one that came from elsewhere must not end the webhook."""
    site.configure()
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": {"tls.crt": "", "tls.key": ""}, **fields}
    assert site.plane.request("POST", SECRETS, body).status == 201
    keeping()
    site.wait_good(within_seconds=20)


def test_gitops_sees_no_drift_and_takes_nothing_away(site: Site, keeping: Callable[..., InProcess]) -> None:
    """Server-side apply of the chart's object by another manager, again and again, with other webhooks before ours, changes
    no caBundle; `kubectl diff` finds nothing.
    """
    desired = site.configure()
    keeping()
    values = site.wait_good()
    options = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")
    for _ in range(3):
        site.plane.kubectl("apply", *options, "-f", "-", input=json.dumps(desired), check=True)
        assert site.bundles() == [values["ca.crt"]]
    version = site.configuration()["metadata"]["resourceVersion"]
    site.plane.kubectl("apply", *options, "-f", "-", input=json.dumps(desired), check=True)
    assert site.configuration()["metadata"]["resourceVersion"] == version
    diff = site.plane.kubectl("diff", *options, "-f", "-", input=json.dumps(desired))
    assert (diff.returncode, diff.stdout) == (0, "")

    other = copy.deepcopy(desired["webhooks"][0]) | {"name": "another.ai-gateway.io"}
    desired["webhooks"].insert(0, other)
    site.plane.kubectl("apply", *options, "-f", "-", input=json.dumps(desired), check=True)
    eventually(lambda: _assert_equal(site.bundles(), [values["ca.crt"]] * 2), within_seconds=20)
    body = site.configuration()
    body["webhooks"].reverse()
    del body["webhooks"][0]["clientConfig"]["caBundle"]
    assert site.plane.request("PUT", CONFIGURATION, body).status == 200
    eventually(lambda: _assert_equal(site.bundles(), [values["ca.crt"]] * 2), within_seconds=20)
    managers = {one["manager"] for one in site.configuration()["metadata"]["managedFields"] if "caBundle" in json.dumps(one)}
    assert "argocd-controller" not in managers


def test_only_the_leader_writes_and_the_standby_takes_over(site: Site, keeping: Callable[..., InProcess]) -> None:
    """Two contenders for one Lease."""
    site.configure()
    first = keeping()
    site.wait_good()
    second = keeping()
    site.set_bundle(b"")
    site.wait_good(within_seconds=20)
    leader, standby = keeper(first), keeper(second)

    def writes(of_leader: int, of_standby: int) -> None:
        assert (leader.writes, standby.writes) == (of_leader, of_standby)

    eventually(partial(writes, 3, 0), within_seconds=5)  # a write is seen before its answer, and counted after it
    first.stop()
    site.set_bundle(b"")
    site.wait_good(within_seconds=20)
    eventually(partial(writes, 3, 1), within_seconds=5)


@pytest.mark.parametrize("mode", ["off", "files"])
def test_nothing_is_done_where_certificates_come_from_elsewhere(
    site: Site, keeping: Callable[..., InProcess], mode: str
) -> None:
    """With cert-manager, neither object is read or written."""
    site.configure()
    mark = site.plane.audit_mark()
    operator = keeping(webhook_certificates=mode)
    eventually(lambda: _assert_leads(operator), within_seconds=20)
    assert operator.operator is not None
    assert operator.operator.certificates is None
    asked = site.plane.audit_since(mark, user=USER)
    assert [one.uri for one in asked if "validatingwebhook" in one.uri or NAME in one.uri] == []
    assert site.bundles() == [b""]


def test_the_secret_goes_with_its_deployment(site: Site, keeping: Callable[..., InProcess]) -> None:
    """And the Lease too: their owner's uid is looked up, and the garbage collector does the rest."""
    labels = {"app": "owner"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.com/none"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ACCOUNT}, "spec": spec}
    made = site.plane.request("POST", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", body)
    assert made.status == 201, made.body
    uid = made.body["metadata"]["uid"]
    try:
        keeping(owner=f"Deployment/{ACCOUNT}", lease_name="owned")
        eventually(site.values, within_seconds=20)
        (owner,) = site.secret()["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Deployment", ACCOUNT, uid)
        assert site.plane.request("GET", LEASE).body["metadata"]["ownerReferences"] == [owner]
    finally:
        site.plane.request("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{ACCOUNT}")


async def test_a_configuration_with_other_webhooks_than_known_is_a_conflict_and_is_left_alone(site: Site) -> None:
    """A bundle must never get to another webhook because the list changed under our hands."""
    body = site.configure()
    names = CertificateNames(NAMESPACE, NAME, CONFIGURATION_NAME)
    async with KubeClient.connect(site.plane.kubeconfig) as client:
        objects = CertificateObjects(client, names, on_change=lambda: None)
        objects.start()
        await eventually_async(lambda: _assert_listed(objects), within_seconds=20)
        await objects.stop()
        first = body["webhooks"][0] | {"name": "another.ai-gateway.io"}
        changed = site.configuration() | {"webhooks": [first, body["webhooks"][0]]}
        assert site.plane.request("PUT", CONFIGURATION, changed).status == 200
        with pytest.raises(Conflict):
            await objects.write_bundle(Authority().pem)
    assert site.bundles() == [b"", b""]


async def test_replicas_get_each_new_pair_and_keep_it_whatever_happens_to_the_secret(
    site: Site, plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    """Under the webhook's own rights: other changes, deletion and garbage are not handed over or are survived."""
    used: list[tuple[bytes, bytes]] = []

    def use(chain: bytes, key: bytes) -> None:
        if chain == b"unfit":
            raise CertificateError("unfit")
        used.append((chain, key))

    def put(chain: bytes, key: bytes, **labels: str) -> None:
        encoded = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "labels": labels}, "data": encoded}
        if site.plane.request("PUT", SECRET, body).status == 404:
            assert site.plane.request("POST", SECRETS, body).status == 201

    async def assert_used(*expected: tuple[bytes, bytes]) -> None:
        assert used == list(expected)

    async with KubeClient.connect(webhook_kubeconfig(plane, tmp_path)) as client:
        task = asyncio.create_task(SecretCertificateSource(client, NAMESPACE, NAME).run(use))
        try:
            put(b"", b"")
            put(b"a", b"1")
            await eventually_async(lambda: assert_used((b"a", b"1")), within_seconds=20)
            put(b"a", b"1", team="a")
            put(b"unfit", b"1")
            site.plane.request("DELETE", SECRET)
            put(b"", b"")
            put(b"b", b"2")
            await eventually_async(lambda: assert_used((b"a", b"1"), (b"b", b"2")), within_seconds=20)
            assert not task.done()
        finally:
            task.cancel()


@dataclass
class Load:
    """A steady stream of dry-run creations through the API server, each of which asks the webhook; in a thread."""

    plane: ControlPlane
    namespace: str
    per_second: float
    reviewed: int = 0
    failures: list[str] = field(default_factory=list)
    """What was not reviewed, each with its second: to be compared with what happened then."""
    began: float = field(default_factory=time.monotonic)
    slowest_seconds: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Load:
        token = yaml.safe_load(self.plane.kubeconfig.read_text())["users"][0]["user"]["token"]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(token)), name="load", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self, token: str) -> None:
        trusted = ssl.create_default_context(cafile=str(self.plane.ca_file))
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(ssl=trusted, limit=40)) as session:
            begin, tasks = time.monotonic(), set[asyncio.Task[None]]()
            for number in range(1_000_000):
                await asyncio.sleep(max(0.0, begin + number / self.per_second - time.monotonic()))
                if self._ended.is_set():
                    break
                task = asyncio.create_task(self._one(session, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{self.namespace}/gatewayconfigs?dryRun=All"
        began = time.monotonic()
        try:
            async with session.post(f"{self.plane.url}{path}", json=gateway_config(f"g{number}")) as answer:
                text = await answer.text()
                if answer.status == 201:
                    self.reviewed += 1
                else:
                    self.failures.append(f"at {began - self.began:.2f} s, after {time.monotonic() - began:.2f} s: {text[:400]}")
        except aiohttp.ClientError as error:
            self.failures.append(f"at {began - self.began:.2f} s: {type(error).__name__}: {error}")
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


@dataclass
class Handshakes:
    """Fresh TLS connections to replicas, trusting the caBundle of now and of `lag_seconds` ago; in a thread."""

    site: Site
    port: int
    lag_seconds: float
    done: int = 0
    leaves: set[bytes] = field(default_factory=set)
    bundles: list[tuple[float, bytes]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Handshakes:
        self._thread = threading.Thread(target=self._main, name="handshakes", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _main(self) -> None:
        while not self._ended.wait(0.05):
            asked = time.monotonic()
            (bundle,) = self.site.bundles()
            self.bundles.append((asked, bundle))
            old = [seen for when, seen in self.bundles if when <= asked - self.lag_seconds]
            lagging = old[-1] if old else self.bundles[0][1]
            for trusted in (bundle, lagging):
                self._shake(trusted)

    def _shake(self, bundle: bytes) -> None:
        context = ssl.create_default_context(cadata=bundle.decode())
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                    self.leaves.add(secured.getpeercert(binary_form=True) or b"")
            self.done += 1
        except OSError as error:
            self.failures.append(f"{type(error).__name__}: {error}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_review_fails_over_rotations_of_leaf_and_authority_and_a_rolling_restart(
    site: Site, keeping: Callable[..., InProcess], plane: ControlPlane, tmp_path: Path
) -> None:
    """100 reviews a second through the API server to two replicas, lives of seconds instead of days and a year: leaves are
    renewed every 6 seconds, the authority once, each replica is replaced once, and nobody is ever refused.
    """
    lives = {"webhook_leaf_seconds": 9, "webhook_settle_seconds": 4, "webhook_authority_seconds": 39}
    account, port = webhook_kubeconfig(plane, tmp_path), Port().start()
    replicas = [Replica.start(account, tmp_path / f"{number}.log") for number in range(2)]
    port.targets = [replica.port for replica in replicas]
    try:
        site.configure(f"https://127.0.0.1:{port.port}")
        operator = keeping(**lives)
        values = site.wait_good()
        for replica in replicas:
            replica.wait_ready()
        eventually(lambda: _assert_reviewed(plane, site.namespace), within_seconds=20)
        load = Load(plane, site.namespace, per_second=100).start()
        shakes = Handshakes(site, port.port, lag_seconds=3).start()
        began, decided, replaced = time.monotonic(), 0.0, list[tuple[float, float]]()
        for number, old in enumerate(list(replicas)):
            new = Replica.start(account, tmp_path / f"{number}-new.log").wait_ready()
            port.targets = [new.port if target == old.port else target for target in port.targets]
            decided += old.reviews()
            begins = time.monotonic() - load.began
            old.stop()
            replaced.append((round(begins, 2), round(time.monotonic() - load.began, 2)))
            replicas[number] = new
        eventually(lambda: _assert_rotated(site, values["ca.crt"]), within_seconds=60, every_seconds=0.5)
        eventually(lambda: _assert_seen(shakes, 3), within_seconds=20)  # old, old and new, new
        shakes.stop()
        load.stop()
        seconds = time.monotonic() - began
        decided += sum(replica.reviews() for replica in replicas)
        print(
            f"\n{load.reviewed} reviews in {seconds:.0f} s, slowest {load.slowest_seconds:.2f} s; "
            f"{shakes.done} handshakes, {len(shakes.leaves)} leaves, {len({seen for _, seen in shakes.bundles})} bundles, "
            f"{keeper(operator).writes} writes, {decided:.0f} decided, {port.connections} connections"
        )
        assert load.failures == [], f"replaced at {replaced}: {load.failures}"
        assert shakes.failures == []
        assert load.reviewed > 60 * seconds, "the load was not steady"
        assert decided > 0.9 * load.reviewed
        assert len(shakes.leaves) >= 5
    finally:
        for replica in replicas:
            replica.process.terminate()
            replica.process.wait(15)
        port.stop()


def _assert_rotated(site: Site, first: bytes) -> None:
    values = site.good()
    assert first not in values["ca.crt"], "the first authority is still trusted"
    assert len(parse_certificates(values["ca.crt"])) == 1


def _assert_seen(shakes: Handshakes, bundles: int) -> None:
    assert len({bundle for _, bundle in shakes.bundles}) >= bundles, "the handshakes have not met every bundle yet"


def _assert_reviewed(plane: ControlPlane, namespace: str) -> None:
    path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{namespace}/gatewayconfigs?dryRun=All"
    answer = plane.request("POST", path, gateway_config("probe"))
    assert answer.status == 201, answer.body


async def _assert_listed(objects: CertificateObjects) -> None:
    assert objects.listed


def _assert_planned(one: CertificateKeeper) -> None:
    assert one.plan is not None, "it has not led yet"


def _assert_leads(operator: InProcess) -> None:
    assert operator.operator is not None
    assert operator.operator.is_leader, "it does not lead yet"


def _assert_equal(found: object, expected: object) -> None:
    assert found == expected


def _assert_differs(values: dict[str, bytes], key: str, content: bytes) -> dict[str, bytes]:
    assert values[key] != content
    return values
