"""Logs on a volume of each replica's own: the operator as a StatefulSet, whose records outlive a pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack.node import Cluster
from tests.chart.conftest import StartRelease
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

VALUES = {
    "crds": {"install": False},
    "webhook": {"mode": "controller"},
    "logs": {"files": {"enabled": True}, "volume": {"persistent": True}},
}


def test_records_of_a_pod_are_there_for_the_next_one(cluster: Cluster, crds: None, release: StartRelease) -> None:
    """A pod that is deleted comes back under its name with its volume: the files hold what both said, nothing twice."""
    one = release()
    one.install(values=VALUES)
    name = f"{one.name}-aigateway-operator-0"
    first = cluster.node.of_namespace(one.namespace)[name]
    cluster.plane.kubectl("delete", "pod", name, "-n", one.namespace, "--timeout=60s", check=True)

    def both_have_spoken() -> None:
        pod = cluster.node.of_namespace(one.namespace).get(name)
        assert pod is not None, f"{name} is not back"
        assert pod.uid != first.uid, f"{name} has not been replaced yet"
        assert len(starts(cluster, one.namespace, name)) == 2, cluster.pod_report([one.namespace])

    eventually(both_have_spoken, within_seconds=30)


def starts(cluster: Cluster, namespace: str, pod: str) -> list[dict[str, Any]]:
    """Return the records in a pod's volume that say that an operator started."""
    folder = cluster.directory / "node" / "volumes" / namespace / "claims" / f"logs-{pod}"
    lines = [line for file in sorted(Path(folder).rglob("system_*.log")) for line in file.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["message"].startswith("Operator ")]
