"""Everything the chart renders is what the API server's own schemas say: no unknown and no doubled field."""

from __future__ import annotations

import json
from typing import Final

import pytest

from hack.controlplane import ControlPlane
from tests.chart.rendering import Object, merged, render
from tests.chart.test_chart_templates import MATRIX

pytestmark = pytest.mark.apiserver

PLURALS: Final = {
    "NetworkPolicy": "networkpolicies",
    "VirtualModel": "virtualmodels",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}
"""Where it is not the kind and an s."""
CHOSEN: Final = (
    *("separate volumes gateway", "controller mongodb", "none", "cert-manager in the controller", "preset full"),
    *("namespaces", "namespaces without webhook", "gateway alone", "gateway as manifests", "gateway in shards", "no rights"),
)
"""What the others hold, these hold too."""
NOT_HERE: Final = ("monitoring.coreos.com/", "cert-manager.io/")
"""Groups of kinds that others install; tests/chart/test_chart_templates.py looks at what refers to them."""


def path_of(obj: Object) -> str:
    """Return where an object of this kind is created."""
    group = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
    namespace = obj["metadata"].get("namespace")
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{group}{within}/{PLURALS.get(obj['kind'], obj['kind'].lower() + 's')}"


def test_every_object_is_accepted_by_strict_validation(plane: ControlPlane, namespace: str) -> None:
    """Each different object of these combinations once, by a dry run that refuses unknown and doubled fields."""
    different: dict[str, Object] = {}
    for values in map(MATRIX.__getitem__, CHOSEN):
        watched = {"watch": {"namespaces": [namespace]}} if "watch" in values else {}
        for obj in render(merged(values, watched, {"crds": {"install": False}}), "-n", namespace):
            if not obj["apiVersion"].startswith(NOT_HERE):
                different.setdefault(json.dumps(obj, sort_keys=True), obj)
    assert len(different) > 70
    faults = []
    for obj in different.values():
        if "namespace" not in obj["metadata"]:
            obj["metadata"]["name"] += f"-{namespace}"  # other tests of this control plane may have installed the chart
        if obj["kind"] == "Pod":
            obj["spec"]["serviceAccountName"] = "default"  # its own is not stored here, and a pod's has to be
        answer = plane.request("POST", f"{path_of(obj)}?dryRun=All&fieldValidation=Strict", obj)
        if answer.status not in (200, 201):
            faults.append((obj["kind"], obj["metadata"]["name"], answer.status, answer.body.get("message")))
    assert faults == []
