"""examples/02-pods on a real API server: admitted under Pod Security `restricted`, and both programs follow their gateway."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.controlplane import ControlPlane
from hack.kubelet import FAST, KubeletVolumes, StandInPod
from hack.operatorprocess import OperatorProcess
from tests.eventually import eventually
from tests.examples.pod_programs import EXAMPLE, LANGUAGES, RunningProgram, command_of

pytestmark = pytest.mark.apiserver

ROOT = EXAMPLE.parents[1]
NAMESPACE = "ai"
MERGE = "application/merge-patch+json"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
OURS = f"/apis/ai-gateway.io/v1alpha1/namespaces/{NAMESPACE}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
FILES = {language: EXAMPLE / f"2{number}-deployment-{language}.yaml" for number, language in enumerate(LANGUAGES)}


@pytest.fixture(scope="module")
def applied(plane: ControlPlane) -> Iterator[str]:
    """The folder, applied with kubectl while the operator runs; what kubectl said. Its namespace is gone afterwards."""
    with OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": NAMESPACE}):
        done = plane.kubectl("apply", "-f", EXAMPLE, check=True)
        yield done.stdout + done.stderr
        plane.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}")

        def is_gone() -> None:
            assert plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}").status == 404

        eventually(is_gone, within_seconds=60)


def template_of(language: str) -> dict[str, Any]:
    """Return the pod template of a Deployment of the example."""
    template: dict[str, Any] = yaml.safe_load(FILES[language].read_text())["spec"]["template"]
    return template


def admit(plane: ControlPlane, template: dict[str, Any]) -> tuple[int, str]:
    """Ask the API server whether it would take a pod of this template; nothing is created."""
    pod = {"metadata": {"name": "tried", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    answer = plane.request("POST", f"{CORE}/pods?dryRun=All", pod)
    return answer.status, json.dumps(answer.body)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pods_of_the_deployment_pass_the_restricted_standard(plane: ControlPlane, applied: str, language: str) -> None:
    """kubectl prints no warning, a pod is admitted, and one that may run as root is not: the standard is really enforced."""
    assert "warning" not in applied.lower(), applied
    assert f"deployment.apps/gateway-{language} created" in applied
    template = template_of(language)
    assert admit(plane, template)[0] == 201
    loose = copy.deepcopy(template)
    del loose["spec"]["securityContext"]
    status, body = admit(plane, loose)
    assert (status, "violates PodSecurity" in body) == (403, True), body


@pytest.mark.parametrize("shards", [1, 3])
def test_bare_deployment_patched_with_mount_is_admitted_and_mounts_every_object(
    plane: ControlPlane, applied: str, tmp_path: Path, shards: int
) -> None:
    """`aigateway mount` needs nothing but the gateway: the patch goes in as it is printed, in the strictest namespace."""
    name = f"bare-{shards}"
    spec = {"delivery": {"shards": shards, "podSelector": {"matchLabels": {"team": name}}}}
    body = {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": name}, "spec": spec}
    assert plane.request("POST", f"{OURS}/gatewayconfigs", body).status == 201
    bare = yaml.safe_load(FILES["go"].read_text())
    pod = bare["spec"]["template"]["spec"]
    bare["metadata"]["name"] = name
    bare["spec"]["selector"]["matchLabels"] = bare["spec"]["template"]["metadata"]["labels"] = {"app": name}
    del pod["volumes"], pod["containers"][0]["volumeMounts"], pod["containers"][0]["env"], pod["containers"][0]["ports"][1]
    assert plane.request("POST", DEPLOYMENTS, bare).status == 201
    patch = aigateway(plane, "mount", name, "-n", NAMESPACE, "--patch")
    (tmp_path / "mount.yaml").write_text(patch)
    plane.kubectl("patch", "deployment", name, "-n", NAMESPACE, "--patch-file", tmp_path / "mount.yaml", check=True)
    stored = plane.request("GET", f"{DEPLOYMENTS}/{name}").body["spec"]["template"]
    assert stored["metadata"]["labels"] == {"app": name, "team": name}
    assert "subPath" not in json.dumps(stored)
    assert admit(plane, stored)[0] == 201
    mounted = {
        (kind, source[kind]["name"])
        for volume in stored["spec"]["volumes"]
        for source in (volume.get("projected") or {}).get("sources", [])
        for kind in source
    }

    def all_are_mounted() -> None:
        made = set()
        for plural, kind in (("configmaps", "configMap"), ("secrets", "secret")):
            listed = plane.request("GET", f"{CORE}/{plural}?labelSelector=ai-gateway.io/gateway={name}").body["items"]
            made |= {(kind, item["metadata"]["name"]) for item in listed}
        assert made == mounted

    eventually(all_are_mounted, within_seconds=30)
    policy = aigateway(plane, "mount", name, "-n", NAMESPACE, "--network-policy")
    assert plane.kubectl("apply", "-f", "-", input=policy).returncode == 0


def aigateway(plane: ControlPlane, *arguments: str) -> str:
    """Run the command line on the control plane; return what it printed."""
    environment = {"PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(plane.kubeconfig), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "aigateway_operator", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_network_policy_of_the_example_is_what_mount_prints(plane: ControlPlane, applied: str) -> None:
    """The committed file cannot fall behind the command."""
    printed = yaml.safe_load(aigateway(plane, "mount", "main", "-n", NAMESPACE, "--network-policy"))
    assert yaml.safe_load((EXAMPLE / "30-network-policy.yaml").read_text()) == printed


@pytest.fixture
def kubelet(plane: ControlPlane, applied: str) -> Iterator[KubeletVolumes]:
    """A kubelet for the example's pods."""
    with KubeletVolumes(plane, NAMESPACE, timing=FAST) as started:
        yield started


def written(plane: ControlPlane) -> tuple[dict[str, Any], int]:
    """Return the manifest of `config.yml` and the credentials revision, as the operator has written them."""
    config = plane.request("GET", f"{CORE}/configmaps/main-config")
    credentials = plane.request("GET", f"{CORE}/secrets/main-credentials")
    assert (config.status, credentials.status) == (200, 200)
    names = json.loads(base64.b64decode(credentials.body["data"]["_manifest.json"]))
    return json.loads(config.body["data"]["config.manifest.json"]), names["credentialsRevision"]


def in_step(plane: ControlPlane, program: RunningProgram) -> None:
    """Assert that a pod says it runs exactly what the operator has written, and nothing is wrong."""
    manifest, credentials_revision = written(plane)
    answer = program.answer()
    assert answer.error is None
    assert answer.lineage == manifest["lineage"]
    running = {file: (one.revision, one.digest) for file, one in answer.documents.items()}
    assert running == {"config.yml": (manifest["revision"], manifest["sha256"])}
    assert answer.credentials == {"_manifest.json": credentials_revision}


@pytest.mark.parametrize("language", LANGUAGES)
def test_pod_follows_a_flip_and_a_rotated_secret_without_a_restart(
    plane: ControlPlane, applied: str, kubelet: KubeletVolumes, language: str
) -> None:
    """Ready by its own probe; what it serves and what it says it runs change with the resource; the process stays the same."""
    pod = StandInPod.start(
        kubelet, f"gateway-{language}", template_of(language), command_of(language), environment={"LISTEN_HOST": "{ip}"}
    )
    try:
        assert pod.process is not None
        program, process = RunningProgram(pod.process, pod.ip), pod.process.pid
        eventually(lambda: in_step(plane, program), within_seconds=30)
        for current, served in (("big", "gpt-4o"), ("small", "gpt-4o-mini")):
            patched = plane.request("PATCH", f"{OURS}/virtualmodels/chat", {"spec": {"current": current}}, content_type=MERGE)
            assert patched.status == 200, patched.body

            def flipped(expected: dict[str, Any]) -> None:
                assert program.models() == {"chat": expected}

            wanted = {"current": current, "model": served, "keyed": True}
            eventually(lambda wanted=wanted: flipped(wanted), within_seconds=30)  # type: ignore[misc]  # bound at once
            eventually(lambda: in_step(plane, program), within_seconds=30)
        before = program.answer()
        value = {"stringData": {"api-key": f"canary-of-{language}"}}
        assert plane.request("PATCH", f"{CORE}/secrets/openai", value, content_type=MERGE).status == 200

        def rotated() -> None:
            assert (program.answer().credentials_revision or 0) > (before.credentials_revision or 0)

        eventually(rotated, within_seconds=30)
        in_step(plane, program)
        assert program.answer().documents == before.documents, "a rotated Secret is no new document"
        assert pod.process.pid == process
        assert f"canary-of-{language}" not in pod.log
    finally:
        pod.delete()
