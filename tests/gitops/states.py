"""Every state of both kinds that a health script has to tell apart, brought about on a real API server by a real operator.

`bring_about` is one story of about 25 s; it returns the objects as `kubectl get -o yaml` would show them. Called by
tests/gitops/test_health.py, which compares them with the recorded ones, or records them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

from hack.process import free_ports
from tests.apiserver.conftest import StartOperator
from tests.apiserver.stub_pods import StubPod, free_port
from tests.apiserver.world import Manifest, World, gateway_config, secret, virtual_model
from tests.eventually import eventually

LOOPBACK = (ip_network("127.0.0.0/8"),)
BAD_URL = "http://public.example.com/v1"
PROBES = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}


def bring_about(world: World, start_operator: StartOperator) -> dict[str, Manifest]:
    """Return the objects by `Kind/state`."""
    states: dict[str, Manifest] = {}

    def keep(kind: str, name: str, state: str) -> None:
        states[f"{kind}/{state}"] = copy.deepcopy(world.get(kind, name))

    closed = free_ports(1)[0]
    search = {"provider": "searxng", "baseUrl": "http://searxng.ai.svc:8080"}
    locked = {"mongodb": {"host": "mongodb.ai.svc", "passwordSecretRef": {"name": "mongodb", "key": "password"}}}
    world.create(
        gateway_config(webSearch=search),
        gateway_config("stores", storage={"redis": {"host": "127.0.0.1", "port": closed}}, probes=PROBES),
        gateway_config("locked", storage=locked),
        virtual_model(),
        virtual_model("lost", proxyKeySecretRef={"name": "nobody", "key": "proxy"}),
        virtual_model("orphan", gateway="nowhere"),
        virtual_model("far", baseUrl=f"http://127.0.0.1:{closed}/v1", probe={"enabled": True}),
    )
    keep("VirtualModel", "chat", "progressing_fresh")
    keep("GatewayConfig", "main", "progressing_fresh")

    world.create(secret())
    operator = start_operator(allow_addresses=LOOPBACK)
    world.wait_ready("chat")
    keep("VirtualModel", "chat", "healthy")
    world.wait_condition("GatewayConfig", "main", "Propagated", "Unknown", "NoSelector")
    keep("GatewayConfig", "main", "healthy_no_selector")

    world.wait_condition("VirtualModel", "lost", "Ready", "False", "SecretNotFound")
    keep("VirtualModel", "lost", "degraded_secret_not_found")
    world.wait_condition("VirtualModel", "orphan", "Ready", "False", "GatewayNotFound")
    keep("VirtualModel", "orphan", "degraded_gateway_not_found")
    world.wait_condition("GatewayConfig", "locked", "Ready", "False", "SecretNotFound")
    keep("GatewayConfig", "locked", "degraded_secret_not_found")

    world.patch_spec("VirtualModel", "chat", use=False)
    world.wait_ready("chat")
    keep("VirtualModel", "chat", "healthy_switched_off")
    world.patch_spec("VirtualModel", "chat", use=True, baseUrl=BAD_URL)
    world.wait_condition("VirtualModel", "chat", "Programmed", "False", "KeptLastGood")
    keep("VirtualModel", "chat", "degraded_kept_last_good")
    world.patch_spec("VirtualModel", "chat", baseUrl="https://api.example.com/v1")
    world.patch_spec("GatewayConfig", "main", webSearch={"baseUrl": "http://public.example.com"})
    world.wait_condition("GatewayConfig", "main", "Programmed", "False", "KeptLastGood")
    keep("GatewayConfig", "main", "degraded_kept_last_good")
    world.patch_spec("GatewayConfig", "main", webSearch=search)
    world.wait_ready("chat")

    _pods(world, keep)
    world.wait_condition("GatewayConfig", "stores", "DatastoresReady", "False", "Down")
    keep("GatewayConfig", "stores", "healthy_datastores_down")
    world.wait_condition("VirtualModel", "far", "BackendsReachable", "False", "Refused")
    keep("VirtualModel", "far", "healthy_backends_unreachable")

    operator.stop()
    world.patch_spec("VirtualModel", "chat", current="big")
    keep("VirtualModel", "chat", "progressing_behind")
    world.patch_spec("GatewayConfig", "main", app={"debug": True})
    keep("GatewayConfig", "main", "progressing_behind")
    for kind, name in (("VirtualModel", "chat"), ("GatewayConfig", "main")):
        with _held(world, kind, name):
            world.delete(kind, name)
            keep(kind, name, "progressing_deleting")
    return states


def _pods(world: World, keep: Callable[[str, str, str], None]) -> None:
    """No pods, a pod that follows, one that is being given time, one that does not follow, one that cannot be asked."""
    port = free_port()
    delivery = {"podSelector": {"matchLabels": {"app": "gateway"}}, "statusPort": port}
    world.patch_spec("GatewayConfig", "main", delivery=delivery)
    _propagated(world, "Unknown", "NoPods")
    keep("GatewayConfig", "main", "healthy_no_pods")
    pod = StubPod(world, "gateway-0", port)
    try:
        _propagated(world, "True", "Propagated")
        keep("GatewayConfig", "main", "healthy")
        pod.frozen = True
        world.patch_spec("VirtualModel", "chat", current="big")
        _propagated(world, "Unknown", "Progressing")
        keep("GatewayConfig", "main", "progressing_pods")
        _propagated(world, "False", "Stragglers")
        keep("GatewayConfig", "main", "degraded_stragglers")
        pod.frozen, pod.delay_seconds = False, 3.0
        world.patch_spec("VirtualModel", "chat", current="small")
        _propagated(world, "Unknown", "Unreachable")
        keep("GatewayConfig", "main", "degraded_unreachable")
        pod.delay_seconds = 0.0
    finally:
        pod.stop()


def _propagated(world: World, status: str, reason: str) -> None:
    world.wait_condition("GatewayConfig", "main", "Propagated", status, reason, within_seconds=15)


@contextmanager
def _held(world: World, kind: str, name: str) -> Iterator[None]:
    """Keep an object from vanishing while it is deleted."""
    world.patch(kind, name, {"metadata": {"finalizers": ["ai-gateway.io/held-by-a-test"]}})
    yield
    world.patch(kind, name, {"metadata": {"finalizers": None}})
    eventually(lambda: _gone(world, kind, name), within_seconds=20)


def _gone(world: World, kind: str, name: str) -> None:
    assert not world.exists(kind, name)


def comparable(obj: Manifest) -> dict[str, Any]:
    """Return what an object's status says, without times, namespace, or what differs from run to run."""
    status = obj.get("status") or {}
    told = [
        {key: condition.get(key) for key in ("type", "status", "reason", "observedGeneration")}
        for condition in status.get("conditions") or []
    ]
    return {"observedGeneration": status.get("observedGeneration"), "conditions": sorted(told, key=lambda one: one["type"])}
