"""`gateway.enabled`: one `helm install` on an empty cluster, and OpenAI's client is answered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from hack.node import Cluster
from tests.apiserver.world import World
from tests.chart.conftest import StartRelease
from tests.chart.releases import Release, merged
from tests.eventually import eventually
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    """The backend."""
    with StubUpstream() as started:
        yield started


def values_of(stub: StubUpstream) -> dict[str, Any]:
    """Return values of a whole system: operator, gateway, two models, and the Secrets they name."""
    keys = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"caller": "key-chat", "backend": "sk-1"},
    }
    model = {
        "use": True,
        "current": "small",
        "baseUrl": stub.base_url,
        "proxyKeySecretRef": {"name": "keys", "key": "caller"},
        "backends": [
            {"name": "small", "model": "up-small", "apiKeySecretRef": {"name": "keys", "key": "backend"}},
            {"name": "big", "model": "up-big"},
        ],
    }
    quick = [{"name": "AIGATEWAY_GATEWAY_DRAIN_SECONDS", "value": "0"}]
    gateway = {"enabled": True, "models": {"chat": model, "draft": model}, "extraEnv": quick}
    return {"gateway": gateway, "extraManifests": [keys]}


def test_one_install_gives_a_working_system_that_follows_its_values(
    cluster: Cluster, no_crds: None, release: StartRelease, stub: StubUpstream
) -> None:
    """CRDs, operator, webhook, gateway and models in one install: a call is answered by the backend that values name; after an
    upgrade by the other one, without a new pod; a model that values name no more is gone; `helm test` is content.
    """
    one = release()
    values = values_of(stub)
    one.install(values=values)
    world = World(cluster.plane, one.namespace)
    world.wait_ready("chat", "draft", within_seconds=30)
    eventually(lambda: assert_says(cluster, one, stub, "up-small"), within_seconds=20)
    assert stub.requests[-1].headers["Authorization"] == "Bearer sk-1"
    world.wait_condition("GatewayConfig", "main", "Propagated", "True", within_seconds=20)
    eventually(lambda: assert_pods(world, "2/2"), within_seconds=20)  # one may turn ready before the other
    pods = gateway_pods(cluster, one)

    chat = values["gateway"]["models"]["chat"]
    models = {"chat": merged(chat, {"current": "big"})}
    one.upgrade(values={**values, "gateway": {**values["gateway"], "models": models}})
    eventually(lambda: assert_says(cluster, one, stub, "up-big"), within_seconds=20)
    assert gateway_pods(cluster, one) == pods, "a change of models must not replace pods"
    eventually(lambda: assert_gone(world, "draft"), within_seconds=20)
    tested = one.helm_test()
    assert tested.returncode == 0, tested.stdout + tested.stderr + cluster.pod_report([one.namespace])

    one.uninstall()
    eventually(lambda: assert_no_pods(cluster, one), within_seconds=20)
    assert world.exists("GatewayConfig", "main"), "what users may have edited since stays"


def assert_says(cluster: Cluster, one: Release, stub: StubUpstream, upstream: str) -> None:
    """Assert that several calls in a row, each to any pod of the Service, are answered by this backend."""
    for _ in itertools.repeat(None, 4):
        host, port = cluster.node.address(one.namespace, f"{one.name}-aigateway-gateway", "http")
        with openai.OpenAI(api_key="key-chat", base_url=f"http://{host}:{port}/v1", max_retries=0, timeout=10) as client:
            try:
                answer = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hello"}])
            except openai.APIError as error:
                raise AssertionError(f"the gateway refused: {error}") from error
        assert answer.choices[0].message.content == "Hello"
        assert stub.requests[-1].body["model"] == upstream


def assert_gone(world: World, model: str) -> None:
    """Assert that a model is neither an object nor served."""
    assert not world.exists("VirtualModel", model)
    assert model not in world.models()


def assert_no_pods(cluster: Cluster, one: Release) -> None:
    """Assert that no gateway pod is left."""
    assert gateway_pods(cluster, one) == set()


def gateway_pods(cluster: Cluster, one: Release) -> set[str]:
    """Return the names of a release's gateway pods."""
    return {name for name in cluster.node.of_namespace(one.namespace) if "-gateway-" in name and "-apply-" not in name}


def assert_pods(world: World, pods: str) -> None:
    """For `eventually`: so many of so many run what was written, says the gateway."""
    assert world.get("GatewayConfig", "main")["status"]["pods"] == pods
