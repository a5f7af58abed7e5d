"""Pods for tests on the real API server: a kubelet's stand-in a test, and pods on it that are gone afterwards.

The machinery is `hack.kubelet`, which the demo uses too; here is what only tests want. A test file imports the fixtures it
asks for: `from tests.pods import kubelet, start_pod  # noqa: F401`.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hack.controlplane import ControlPlane
from hack.kubelet import FAST, KubeletVolumes, StandInPod

STATUS_PATH = "/aigateway/v1/config"
StartPod = Callable[..., StandInPod]


def mount_template(gateway: str = "main", *, shards: int = 1, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a pod template that mounts a gateway's documents and credentials, as `aigateway mount` prints it.

    Volumes are `aigateway-config` and `aigateway-credentials`; the container's environment names both folders.
    """
    from aigateway_operator.cli.mounting import deployment_patch  # late: pods need no operator

    patch = deployment_patch(gateway, shards=shards, status_port=8081, labels=labels or {"app": "gateway"}, container="gateway")
    template: dict[str, Any] = patch["spec"]["template"]
    template["spec"]["containers"][0]["image"] = "stand-in"
    template["spec"]["automountServiceAccountToken"] = False
    return template


@pytest.fixture
def kubelet(plane: ControlPlane, namespace: str) -> Iterator[KubeletVolumes]:
    """A kubelet with short, fixed delays for the test's namespace."""
    with KubeletVolumes(plane, namespace, timing=FAST) as started:
        yield started


@pytest.fixture
def start_pod(kubelet: KubeletVolumes) -> Iterator[StartPod]:
    """Starts pods as `StandInPod.start` does (name, template, command …); all are deleted after the test."""
    started: list[StandInPod] = []

    def start(name: str, template: dict[str, Any], command: Sequence[str | Path] | None = None, **more: Any) -> StandInPod:
        pod = StandInPod.start(kubelet, name, template, command, **more)
        started.append(pod)
        return pod

    yield start
    for pod in started:
        pod.delete()


def ask(pod: StandInPod, port: int = 8081, path: str = STATUS_PATH, timeout_seconds: float = 2.0) -> dict[str, Any]:
    """Return what a pod answers; an AssertionError when it answers nothing or no JSON, so that `eventually` asks again."""
    connection = http.client.HTTPConnection(pod.ip, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{pod.name}: HTTP {answer.status}: {text!r}"
        body: dict[str, Any] = json.loads(text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AssertionError(f"pod {pod.name} does not answer at {pod.ip}:{port}: {error}\n{pod.log}") from error
    finally:
        connection.close()
    return body
