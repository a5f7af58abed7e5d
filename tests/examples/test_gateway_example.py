"""examples/03-gateway on a real API server: admitted under Pod Security `restricted`; callers feel a flip, and it is proved."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI

from hack.controlplane import ControlPlane
from hack.kubelet import FAST, KubeletVolumes, StandInPod
from hack.kubelet.pods import PYTHON
from hack.operatorprocess import OperatorProcess
from tests.eventually import eventually
from tests.stub_upstream import StubUpstream

pytestmark = pytest.mark.apiserver

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "03-gateway"
NAMESPACE = "ai"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
OURS = f"/apis/ai-gateway.io/v1alpha1/namespaces/{NAMESPACE}"
MERGE = "application/merge-patch+json"
LOOPBACK = {"AIGATEWAY_ALLOW_ADDRESSES": "127.0.0.0/8"}
PLACES = {
    "AIGATEWAY_GATEWAY_HOST": "{ip}",
    "AIGATEWAY_GATEWAY_STATUS_HOST": "{ip}",
    "AIGATEWAY_GATEWAY_DRAIN_SECONDS": "0",
}
"""What differs from a container: all pods share one machine."""


@pytest.fixture(scope="module")
def applied(plane: ControlPlane) -> Iterator[str]:
    """The folder, applied with kubectl while the operator runs; what kubectl said. Its namespace is gone afterwards."""
    with OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": NAMESPACE, **LOOPBACK}):
        done = plane.kubectl("apply", "-f", EXAMPLE, check=True)
        yield done.stdout + done.stderr
        plane.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}")

        def is_gone() -> None:
            assert plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}").status == 404

        eventually(is_gone, within_seconds=60)


def template() -> dict[str, Any]:
    """Return the pod template of the Deployment."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLE / "20-deployment.yaml").read_text())["spec"]["template"]
    return found


def test_pods_pass_the_restricted_standard(plane: ControlPlane, applied: str) -> None:
    """kubectl prints no warning, a pod is admitted, and one that may run as root is not: the standard is really enforced."""
    assert "warning" not in applied.lower(), applied
    loose = copy.deepcopy(template())
    del loose["spec"]["securityContext"]
    for one, expected in ((template(), 201), (loose, 403)):
        pod = {"metadata": {"name": "tried", "labels": one["metadata"]["labels"]}, "spec": one["spec"]}
        answer = plane.request("POST", f"{CORE}/pods?dryRun=All", pod)
        assert answer.status == expected, json.dumps(answer.body)


def test_every_path_that_is_written_to_is_a_volume() -> None:
    """The root file system is read-only: working directory and workers' folder are mounted writable, and nothing else is."""
    container = template()["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {container["workingDir"], environment["AIGATEWAY_WORKERS_DIR"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_callers_feel_a_flip_and_both_pods_prove_it(plane: ControlPlane, applied: str) -> None:
    """Two pods of the Deployment's template serve a caller; after `current` is flipped, the other backend answers on both."""
    with StubUpstream() as upstream, KubeletVolumes(plane, NAMESPACE, timing=FAST) as kubelet:
        patch(plane, {"baseUrl": upstream.base_url})
        command = [PYTHON, "-m", "aigateway_operator", *template()["spec"]["containers"][0]["command"][1:]]
        pods: list[StandInPod] = []
        try:
            for number in range(2):
                name = f"gateway-{number}"
                pods.append(StandInPod.start(kubelet, name, template(), command, environment={**PLACES, **LOOPBACK}))
            for current, served in (("small", "gpt-4o-mini"), ("big", "gpt-4o")):
                patch(plane, {"current": current})
                eventually(lambda current=current: propagated(plane, current), within_seconds=30)  # type: ignore[misc]  # bound
                for pod in pods:
                    assert call(pod, upstream) == served, pod.log
                    assert upstream.requests[-1].headers["Authorization"] == "Bearer example-openai-key"
            assert "example-" not in "".join(pod.log for pod in pods)
        finally:
            for pod in pods:
                pod.delete()


def patch(plane: ControlPlane, spec: dict[str, Any]) -> None:
    """Edit model `chat`."""
    answer = plane.request("PATCH", f"{OURS}/virtualmodels/chat", {"spec": spec}, content_type=MERGE)
    assert answer.status == 200, answer.body


def propagated(plane: ControlPlane, current: str) -> None:
    """Assert that `current` is written, and that both pods have proved to run it."""
    written = plane.request("GET", f"{CORE}/configmaps/main-config").body["data"]
    assert json.loads(written["config.yml"])["ai-gateway"]["virtual_models"]["chat"]["current"] == current
    revision = json.loads(written["config.manifest.json"])["revision"]
    status = plane.request("GET", f"{OURS}/gatewayconfigs/main").body["status"]
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    said = next((one["message"] for one in status["conditions"] if one["type"] == "Propagated"), "")
    assert (status["revision"], status["pods"], conditions["Propagated"]) == (revision, "2/2", "True"), said


def call(pod: StandInPod, upstream: StubUpstream) -> str:
    """Ask a pod, and return which model the upstream was asked for."""
    with OpenAI(base_url=f"http://{pod.ip}:8000/v1", api_key="example-caller-key-of-chat", max_retries=0, timeout=5) as client:
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hello"}])
    return str(upstream.requests[-1].body["model"])
