"""Every workload the chart renders is admitted where PodSecurity `restricted` is enforced, without one warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.node import Cluster
from hack.tools import KUBERNETES
from tests.chart.conftest import StartRelease
from tests.chart.releases import CHART

pytestmark = pytest.mark.apiserver

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")
PRESETS = sorted(CHART.glob("values-*.yaml"))
ALL: dict[str, Any] = {
    "gateway": {"enabled": True},
    "logs": {"files": {"enabled": True}, "mongodb": {"existingSecret": "mongodb"}},
    "controller": {"replicas": 2},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": ALL,
    "volumes": {**ALL, "logs": {**ALL["logs"], "volume": {"persistent": True}}},
    "webhook in the controller": {"webhook": {"mode": "controller"}},
}


@pytest.mark.parametrize("name", [*VARIANTS, *(preset.name for preset in PRESETS)])
def test_every_workload_is_admitted_as_restricted_without_a_warning(
    cluster: Cluster, release: StartRelease, name: str, tmp_path: Path
) -> None:
    """A dry run of each workload and of each pod it would make, hooks and tests included; the server says no word."""
    one = release()
    preset = next((file for file in PRESETS if file.name == name), None)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(VARIANTS.get(name, {})))
    files = ["-f", str(preset or values)]
    text = cluster.helm("template", one.name, CHART, "-n", one.namespace, "--kube-version", KUBERNETES, *files).stdout
    found = [item for item in yaml.safe_load_all(text) if item and item["kind"] in KINDS]
    assert found, "no workload was rendered"
    pods = [pod_of(item) for item in found]
    for account in {pod["spec"].get("serviceAccountName", "default") for pod in pods}:
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
        assert cluster.plane.request("POST", f"/api/v1/namespaces/{one.namespace}/serviceaccounts", body).status in (201, 409)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*found, *pods]})
    done = cluster.plane.kubectl("apply", "--dry-run=server", "-n", one.namespace, "-f", "-", input=listed)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the server warns"
    assert len(done.stdout.splitlines()) == len(found) + len(pods)


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that a workload makes: it is pods that PodSecurity refuses, templates are only warned about."""
    template = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
    name = f"{workload['metadata']['name']}-{workload['kind'].lower()}-pod"
    labels = template["metadata"].get("labels", {})
    claims = [one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates") or []]
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    spec = template["spec"] | {"volumes": [*(template["spec"].get("volumes") or []), *volumes]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
