"""A first install ends well by itself, whatever comes first: kinds, webhook, pods, users' objects, datastores."""

from __future__ import annotations

import pytest

from hack.node import Cluster
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.chart.conftest import StartRelease
from tests.chart.releases import CRDS, create_soon, restricted_namespace
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

NOWHERE = {"host": "127.0.0.1", "port": 9}  # a port at which nothing listens


def test_operator_and_webhook_wait_for_kinds_that_come_late_and_need_no_datastore(
    cluster: Cluster, no_crds: None, release: StartRelease
) -> None:
    """Pods start before there are CRDs and none of them ends; then kinds, objects and absent datastores are all it takes."""
    one = release()
    one.install(values={"crds": {"install": False}}, wait=False)

    def webhook_is_up() -> None:
        pods = cluster.node.of_namespace(one.namespace)
        assert sum(pod.containers[0].state.phase == "running" for pod in pods.values()) == 3, cluster.pod_report(
            [one.namespace]
        )

    eventually(webhook_is_up, within_seconds=40)  # three processes start side by side
    cluster.plane.kubectl("apply", "--server-side", "-f", CRDS, check=True)
    cluster.plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS, check=True)
    world = World(cluster.plane, one.namespace)
    stores = {"redis": NOWHERE, "qdrant": NOWHERE}
    create_soon(world, gateway_config(storage=stores), virtual_model(), secret(), within_seconds=30)
    world.wait_ready("chat", within_seconds=40)
    world.wait_condition("GatewayConfig", "main", "DatastoresReady", "False", within_seconds=30)
    cluster.plane.kubectl(
        "rollout", "status", "-n", one.namespace, f"deploy/{one.name}-aigateway-operator", "--timeout=40s", check=True
    )
    restarts = [pod.containers[0].state.restarts for pod in cluster.node.of_namespace(one.namespace).values()]
    assert restarts == [0, 0, 0], cluster.pod_report([one.namespace])


def test_edits_are_refused_until_a_webhook_pod_is_there_and_accepted_from_then_on(
    cluster: Cluster, crds: None, release: StartRelease
) -> None:
    """Webhook configuration before any pod: an edit is refused by name, nothing else in the cluster is held up."""
    one = release()
    none = {"crds": {"install": False}, "webhook": {"replicas": 0}, "controller": {"replicas": 0}}
    one.install(values=none, wait=False)
    world = World(cluster.plane, one.namespace)

    def is_refused() -> None:
        answer = cluster.plane.request("POST", f"{world.path('GatewayConfig')}?dryRun=All", gateway_config())
        assert answer.status == 500, answer.body
        assert "validate.ai-gateway.io" in answer.body["message"]

    eventually(is_refused, within_seconds=20)
    restricted_namespace(cluster, f"{one.name}-other")
    world.create(secret())
    one.upgrade(values={"crds": {"install": False}})
    create_soon(world, gateway_config(), virtual_model())
    world.wait_ready("chat")
    cluster.plane.request("DELETE", f"/api/v1/namespaces/{one.name}-other")
