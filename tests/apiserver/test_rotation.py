"""Secrets: a rotation reaches running processes and is proved, and nothing of a secret is anywhere it does not belong."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from aigateway_config.mirror import CHANNEL, document_key
from hack.stores import RedisServer
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.conftest import require_binaries
from tests.delivery import SELECTOR, Fleet, Pod, backends, furnish, propagated, record, wait_all_run
from tests.eventually import eventually
from tests.operators import Process
from tests.pods import ask

pytestmark = pytest.mark.apiserver
LOOPBACK = (ip_network("127.0.0.0/8"),)


def uses(pod: Pod, *expected: Any) -> None:
    """Wait until every worker uses this live backend and key."""

    def check() -> None:
        assert [pod.now(pid).get("uses") for pid in pod.workers] == [{"chat": list(expected)}] * len(pod.workers)

    eventually(check, within_seconds=20)


def test_rotated_secret_reaches_every_worker_without_a_restart_and_is_proved(
    world: World, start_operator: StartOperator, pods: Fleet
) -> None:
    """The document stays as it is; Propagated is True for the new credentials only once every worker has them."""
    start_operator(allow_addresses=LOOPBACK)
    furnish(world, pods.port)
    pod = pods.start("three", workers=3, load=True)
    wait_all_run(world, 1, revision=1, credentialsRevision=1)
    before = pod.workers
    uses(pod, "small", "small-model-key")
    with record(world) as told:
        for number in (2, 3):
            rotated = secret(proxy="caller-key", small=f"small-model-key-{number}", big="big-model-key")
            world.patch("Secret", "keys", {"data": rotated["data"]})
            wait_all_run(world, 1, revision=1, credentialsRevision=number)
            uses(pod, "small", f"small-model-key-{number}")
        pods.kubelet.hold("three")
        world.patch("Secret", "keys", {"data": secret(small="small-model-key-4")["data"]})
        found = propagated(world, "False", "Stragglers", within_seconds=20)
        assert "three runs credentials revision 3 of _manifest.json, not 4" in found["message"]
        pods.kubelet.release("three")
        wait_all_run(world, 1, revision=1, credentialsRevision=4)
        assert told.assert_honest(pods.pods) >= 3
    uses(pod, "small", "small-model-key-4")
    assert pod.workers == before
    assert pod.lacks() == []


@dataclass
class Canaries:
    """Secret values, and every form in which one could give itself away."""

    values: dict[str, str] = field(default_factory=dict)

    def make(self, name: str) -> str:
        """Return a new value."""
        return self.values.setdefault(name, f"canary-{name}-{secrets.token_hex(12)}")

    def forms(self) -> Iterator[tuple[str, str]]:
        """Yield (what it is, text) of each value: itself, in base64, and its usual digests in hex and base64."""
        for name, value in self.values.items():
            raw = value.encode()
            yield name, value
            yield f"base64 of {name}", base64.b64encode(raw).decode().rstrip("=")
            for kind in ("sha256", "sha1", "md5", "sha512", "blake2b"):
                digest = hashlib.new(kind, raw)
                yield f"{kind} of {name}", digest.hexdigest()
                yield f"{kind} of {name} in base64", base64.b64encode(digest.digest()).decode().rstrip("=")
                yield f"{kind} of {name}, shortened", digest.hexdigest()[:40]

    def assert_absent(self, where: str, text: str) -> None:
        """Assert that nothing of any value is in a text."""
        assert text, f"{where} is empty, so that nothing is shown"
        found = [what for what, form in self.forms() if form in text or form.lower() in text.lower()]
        assert not found, f"{where} holds {found}"


@pytest.fixture
def canaries() -> Canaries:
    """Secret values of this test."""
    return Canaries()


@pytest.fixture
def store(canaries: Canaries) -> Iterator[RedisServer]:
    """A Redis whose password is a canary."""
    binary = require_binaries(["redis-server"])["redis-server"]
    with RedisServer.start(password=canaries.make("redis"), binary=binary) as started:
        yield started


@pytest.fixture
def operator(world: World, kubeconfig: Path, tmp_path: Path) -> Iterator[Process]:
    """An operator that logs everything into a file."""
    names = {"namespaces": world.namespace, "lease_name": world.namespace, "lease_namespace": "aigateway-system"}
    started = Process.start(kubeconfig, tmp_path / "operator.log", allow_addresses="127.0.0.0/8", log_level="DEBUG", **names)
    yield started
    started.stop()


def everything(world: World, plural: str, group: str = "/api/v1") -> str:
    """Return all objects of a kind as text."""
    answer = world.plane.request("GET", f"{group}/namespaces/{world.namespace}/{plural}")
    assert answer.status == 200, answer.body
    return json.dumps(answer.body["items"]) if answer.body["items"] else ""


def in_redis(store: RedisServer) -> str:
    """Return every key and value of a Redis as text."""
    client = Redis(host=store.host, port=store.port, password=store.password, socket_timeout=5)
    found: list[Any] = []
    for key in client.keys("*"):
        found += [key, *(part for pair in client.hgetall(key).items() for part in pair)]
    client.close()
    return "\n".join(part.decode(errors="replace") for part in found)


def test_nothing_of_a_secret_is_anywhere_but_in_secrets_and_mounted_files(
    world: World, operator: Process, pods: Fleet, store: RedisServer, canaries: Canaries
) -> None:
    """Over a rotation, a flip, a refused edit, a straggler and a datastore that denies: no value, no digest, no part."""
    small, big = canaries.make("small"), canaries.make("big")
    keys = secret(proxy=canaries.make("proxy"), small=small, big=big)
    redis = {"host": store.host, "port": store.port, "passwordSecretRef": {"name": "redis", "key": "password"}}
    delivery = {"podSelector": SELECTOR, "statusPort": pods.port, "redisNotify": True}
    config = gateway_config(storage={"redis": redis}, delivery=delivery)
    world.create(keys, secret("redis", password=canaries.make("redis")), config, virtual_model(backends=backends()))
    pod = pods.start("pod", workers=2, SOURCES="volume,redis")
    uses(pod, "small", small)
    wait_all_run(world, 1, revision=1)
    world.patch("Secret", "keys", {"data": secret(small=canaries.make("rotated"))["data"]})
    uses(pod, "small", canaries.make("rotated"))
    world.patch_spec("VirtualModel", "chat", current="big")
    uses(pod, "big", big)
    world.patch_spec("VirtualModel", "chat", baseUrl=f"http://user:{canaries.make('url')}@llm.example.com/v1")
    world.wait_condition("VirtualModel", "chat", "Accepted", "False")
    world.patch("Secret", "redis", {"data": secret(password=canaries.make("wrong"))["data"]})
    pods.kubelet.hold("pod")
    world.patch_spec("VirtualModel", "chat", baseUrl="https://api.example.com/v1", current="small")
    propagated(world, "False", "Stragglers", within_seconds=20)

    def announced() -> None:
        assert "Stragglers" in everything(world, "events", "/apis/events.k8s.io/v1")

    eventually(announced, within_seconds=20)
    mirror_key = world.values("main-credentials")["_mirror.key"]
    canaries.values["mirror"] = mirror_key
    for plural in ("configmaps", "pods"):
        canaries.assert_absent(plural, everything(world, plural))
    canaries.assert_absent("events", everything(world, "events", "/apis/events.k8s.io/v1"))
    for plural in ("virtualmodels", "gatewayconfigs"):
        canaries.assert_absent(plural, everything(world, plural, "/apis/ai-gateway.io/v1alpha1"))
    canaries.assert_absent("Redis", in_redis(store))
    canaries.assert_absent("the operator's log", operator.output())
    canaries.assert_absent("the pod's answer", json.dumps(ask(pod.stand_in, pods.port)))
    canaries.assert_absent("the workers' folder", _texts(pod.stand_in.folder("aigateway-workers")))
    assert not any(form in pod.stand_in.log for _, form in canaries.forms())
    manifests = {name: text for name, text in world.values("main-credentials").items() if name.startswith("_manifest")}
    canaries.assert_absent("the credentials' manifest", json.dumps(manifests))
    labels = json.dumps(world.get("Secret", "main-credentials")["metadata"])
    canaries.assert_absent("metadata of the credentials", labels)


def _texts(folder: Path) -> str:
    return "\n".join(file.read_text() for file in folder.glob("*.json"))


def test_forged_message_and_document_in_redis_are_ignored_and_counted(
    world: World, start_operator: StartOperator, pods: Fleet, redis_server: RedisServer
) -> None:
    """Whoever may write to Redis can make a pod look, not believe: unsigned and wrongly signed documents change nothing."""
    start_operator(allow_addresses=LOOPBACK)
    redis = {"storage": {"redis": {"host": redis_server.host, "port": redis_server.port}}}
    furnish(world, pods.port, spec=redis, redisNotify=True)
    pod = pods.start("pod", SOURCES="volume,redis")
    wait_all_run(world, 1, revision=1)
    gateway = f"{world.namespace}/main"
    key = document_key(gateway, "config.yml")
    client = Redis(host=redis_server.host, port=redis_server.port, socket_timeout=5)
    eventually(lambda: _is_mirrored(client, key), within_seconds=20)
    data = world.data("main-config")
    document = data["config.yml"].replace('"current":"small"', '"current":"big"')
    manifest = json.loads(data["config.manifest.json"])
    forged = {**manifest, "revision": 99, "sha256": hashlib.sha256(document.encode()).hexdigest()}
    text = json.dumps(forged)
    message = {"type": "config", "key": key, "gateway": gateway, "document": "config.yml", "revision": 99}
    for signature in ("", "0" * 64):
        client.hset(key, mapping={"document": document, "manifest": text, "signature": signature})
        client.publish(CHANNEL, json.dumps(message))

        def counted(expected: str = "Unsigned" if not signature else "") -> None:
            ignored = pod.now()["ignored"]
            assert sum(ignored.values()) >= (1 if expected else 2), ignored

        eventually(counted, within_seconds=20)
    client.publish(CHANNEL, b"\xff{not json")
    began = time.monotonic()

    def all_counted() -> None:
        assert sum(pod.now()["ignored"].values()) >= 3, pod.now()["ignored"]

    eventually(all_counted, within_seconds=20)
    assert pod.ran(pod.workers[0], began)["documents"] == {"config.yml": 1}
    assert pod.now()["uses"]["chat"][0] == "small"
    client.close()


def _is_mirrored(client: Any, key: str) -> None:
    assert client.exists(key)
