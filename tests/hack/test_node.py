"""The stand-in node: what stands for a container, where a Service leads, how probes count, and one pod from start to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hack.node import Cluster
from hack.node.containers import CannotStart, program_of
from hack.node.probes import Probe, ask
from hack.node.services import NoEndpoint, Services
from hack.node.status import ContainerState, pod_status
from hack.process import ServerError
from tests.eventually import eventually


def pod(**spec: Any) -> dict[str, Any]:
    """Return a pod of one container."""
    container = {"name": "one", "image": "aigateway-operator:1", **spec}
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}}
    return {"metadata": metadata, "spec": {"containers": [container]}, "status": {"podIP": "127.1.2.3"}}


def test_a_program_gets_what_its_container_is_given(tmp_path: Path) -> None:
    """Fields, Secrets, other variables, and mount paths as folders of this machine; it listens on its pod's address."""
    body = pod(
        args=["run", "--log-dir=/logs/today", "$(NAME)"],
        env=[
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": True}}},
            {"name": "GREETING", "value": "I am $(NAME), $(OTHER), $$(NAME)"},
            {"name": "FOLDER", "value": "/logs"},
        ],
        volumeMounts=[{"name": "logs", "mountPath": "/logs"}, {"name": "tmp", "mountPath": "/tmp"}],
    )
    program = program_of(body["spec"]["containers"][0], body, {("Secret", "keys"): {"k": b"v"}}, tmp_path)
    assert program.command == (sys.executable, "-m", "aigateway_operator", "run", f"--log-dir={tmp_path}/logs/today", "p")
    expected = {"NAME": "p", "KEY": "v", "GREETING": "I am p, $(OTHER), $(NAME)", "FOLDER": f"{tmp_path}/logs"}
    assert {name: program.environment.get(name) for name in expected} == expected
    assert "NONE" not in program.environment
    assert program.environment["TMPDIR"] == f"{tmp_path}/tmp"
    assert program.environment["AIGATEWAY_HEALTH_HOST"] == "127.1.2.3"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]}, 'secret "keys" not found'),
        ({"command": ["/bin/sh", "-c", "true"]}, "'/bin/sh' cannot be run"),
    ],
)
def test_a_container_that_cannot_start_says_why(tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    """A missing Secret and another program than the image's own are named."""
    body = pod(**spec)
    with pytest.raises(CannotStart, match=message):
        program_of(body["spec"]["containers"][0], body, {}, tmp_path)


def test_a_service_leads_to_ready_pods_only() -> None:
    """By cluster IP and by name; never to a pod that is not ready or is being deleted."""
    services = Services()
    spec = {"clusterIP": "10.0.0.7", "selector": {"app": "web"}, "ports": [{"name": "https", "port": 443, "targetPort": "in"}]}
    services.set_service(("ns", "web"), {"spec": spec})
    one = pod(ports=[{"name": "in", "containerPort": 8443}])
    with pytest.raises(NoEndpoint, match="no ready endpoint"):
        services.resolve("10.0.0.7", 443)
    services.set_pod(("ns", "p"), one)
    with pytest.raises(NoEndpoint):
        services.resolve("web.ns.svc", 443)
    one["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert services.resolve("10.0.0.7", 443) == services.resolve("web.ns.svc", 443) == ("127.1.2.3", 8443)
    assert services.resolve("127.0.0.1", 9) == ("127.0.0.1", 9)
    with pytest.raises(NoEndpoint, match="no port 80"):
        services.resolve("10.0.0.7", 80)
    services.set_pod(("ns", "p"), {**one, "metadata": {**one["metadata"], "deletionTimestamp": "now"}})
    with pytest.raises(NoEndpoint):
        services.resolve("10.0.0.7", 443)


def test_a_service_leads_to_pods_of_its_own_namespace_that_it_selects() -> None:
    """Labels are the same in every namespace where the chart is installed; without a selector somebody else says where to."""
    services = Services()
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    services.set_service(("ns", "web"), {"spec": {"selector": {"app": "web"}, "ports": ports}})
    services.set_service(("ns", "external"), {"spec": {"ports": ports}})
    ready = pod()
    ready["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    services.set_pod(("other", "p"), {**ready, "metadata": {**ready["metadata"], "namespace": "other"}})
    with pytest.raises(NoEndpoint):
        services.resolve("web.ns.svc", 443)
    services.set_pod(("ns", "p"), ready)
    assert services.resolve("web.ns.svc", 443) == ("127.1.2.3", 8443)
    with pytest.raises(NoEndpoint):
        services.resolve("external.ns.svc", 443)


@pytest.mark.parametrize(("code", "good"), [(200, True), (302, True), (404, False), (503, False)])
def test_a_probe_takes_an_error_for_a_no(code: int, good: bool) -> None:
    """As a kubelet does: 200 to 399 is a yes; a pod that answers 503 while it drains gets no more callers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        spec = {"httpGet": {"path": "/readyz", "port": server.server_port}, "timeoutSeconds": 20}
        assert ask(spec, {}, "127.0.0.1", lambda _: 0) is good
        thread.join(20)


def test_conditions_keep_their_time_until_they_change() -> None:
    """Whoever reads since when a pod is ready must not be told of the last look."""
    state = ContainerState("one", "image", phase="running", ready=True)
    before = pod_status({}, "127.1.2.3", "Running", [state], [])
    for condition in before["conditions"]:
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    state.ready = False
    after = pod_status(before, "127.1.2.3", "Running", [state], [])
    moved = {one["type"] for one in after["conditions"] if one["lastTransitionTime"] != "2020-01-01T00:00:00Z"}
    assert moved == {"ContainersReady", "Ready"}


def test_a_probe_changes_its_mind_at_its_thresholds() -> None:
    """Ready at the first success; not ready after two failures in a row, asked a period apart."""
    probe = Probe({"periodSeconds": 5, "failureThreshold": 2}, 100.0, at_first=False)
    assert probe.due(100.0)
    probe.note(True, 100.0)
    assert probe.good
    assert not probe.due(104.9)
    assert probe.due(105.0)
    probe.note(False, 105.0)
    assert probe.good
    probe.note(True, 110.0)
    probe.note(False, 115.0)
    assert probe.good
    probe.note(False, 120.0)
    assert not probe.good


@pytest.mark.apiserver
def test_a_pod_of_a_deployment_is_run_restarted_and_ended(cluster: Cluster) -> None:
    """Ready by a probe that is asked, started again when it dies, replaced when it is deleted, gone with its Deployment."""
    labels = {"app": "gateway"}
    container = {
        "name": "gateway", "image": "aigateway-gateway:1", "args": ["gateway"],
        "env": [{"name": "AIGATEWAY_GATEWAY_PORT", "value": "8000"}, {"name": "AIGATEWAY_GATEWAY_DRAIN_SECONDS", "value": "0"}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/api/v1/health/live", "port": "http"}},
    }  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    path = "/apis/apps/v1/namespaces/default/deployments"
    metadata = {"name": "gateway"}
    made = cluster.plane.request(
        "POST", path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    )
    assert made.status == 201, made.body
    cluster.plane.kubectl("rollout", "status", "deploy/gateway", "--timeout=30s", check=True)
    (first,) = cluster.node.of_namespace("default").values()
    one = first.containers[0]
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)

    def runs_again() -> None:
        status = cluster.plane.request("GET", first.path).body["status"]
        assert status["containerStatuses"][0]["restartCount"] == 1, status
        assert status["containerStatuses"][0]["ready"], status

    eventually(runs_again, within_seconds=20)
    cluster.plane.kubectl("delete", "pod", first.name, "--timeout=30s", check=True)
    cluster.plane.kubectl("rollout", "status", "deploy/gateway", "--timeout=30s", check=True)
    (second,) = cluster.node.of_namespace("default").values()
    assert second.ip != first.ip
    cluster.plane.kubectl("delete", "deploy", "gateway", "--timeout=30s", check=True)

    def nothing_runs() -> None:
        assert cluster.node.of_namespace("default") == {}
        assert second.containers[0].pid is None

    eventually(nothing_runs, within_seconds=20)


@pytest.mark.apiserver
def test_helm_failures_say_what_the_pods_said(cluster: Cluster, tmp_path: Path) -> None:
    """A chart that cannot be read is a ServerError with Helm's own words."""
    with pytest.raises(ServerError, match=r"helm install x .*Chart\.yaml file is missing"):
        cluster.helm("install", "x", tmp_path)
