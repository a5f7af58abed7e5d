"""The committed CRDs on the real API server: accepted, explained, and behaving as users and admission need.

What they refuse is in test_bad_manifests.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.api.crd import KINDS, Kind, root_schema
from aigateway_operator.api.crd_schema import walk
from aigateway_operator.api.gatewayconfig import LogStorage
from aigateway_operator.api.virtualmodel import Backend
from hack.apiclient import Response
from hack.controlplane import ControlPlane
from tests.apiserver.test_bad_manifests import gateway_config, path_of, virtual_model

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
FULL = {"VirtualModel": virtual_model, "GatewayConfig": gateway_config}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def create(plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Store an object as a client would that asks for no field validation; return it as stored."""
    answer = plane.request("POST", f"{path_of(namespace, manifest)}?fieldValidation=Ignore", manifest)
    assert answer.status == 201, answer.body
    return dict(answer.body)


def apply(plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> Response:
    """Server-side apply."""
    path = f"{path_of(namespace, manifest, manifest['metadata']['name'])}?fieldManager=test"
    return plane.request("PATCH", path, manifest, content_type="application/apply-patch+yaml")


@EVERY_KIND
def test_api_server_accepts_the_crd_strictly(plane: ControlPlane, kind: Kind) -> None:
    """No unknown or doubled field, no CEL beyond the budget, a structural schema; served in its only version."""
    crd = yaml.safe_load((ROOT / "crds" / f"{kind.plural}.yaml").read_text())
    name = crd["metadata"]["name"]
    stored = plane.request("GET", f"{CRDS}/{name}").body
    crd["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    answer = plane.request("PUT", f"{CRDS}/{name}?dryRun=All&fieldValidation=Strict", crd)
    assert answer.status == 200, answer.body
    conditions = {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("virtualmodel.spec.backends.model", Backend.model_fields["model"].description),
        ("gwc.spec.log.operation.storage.path", LogStorage.model_fields["path"].description),
        ("vmodel.status.conditions.reason", "One CamelCase word."),
    ],
)
def test_kubectl_explain_shows_the_docstring(plane: ControlPlane, place: str, text: str) -> None:
    """The models are the documentation."""
    shown = plane.kubectl("explain", place, check=True).stdout
    assert " ".join(text.split()) in " ".join(shown.split())


@EVERY_KIND
def test_unknown_key_survives_in_every_declared_object(plane: ControlPlane, namespace: str, kind: Kind) -> None:
    """Admission is handed what is stored: it can name a misspelt key at any depth only if nothing is pruned before."""
    manifest = copy.deepcopy(FULL[kind.name]())
    declared = [path for path, schema in walk(root_schema(kind)["properties"]["spec"], "spec") if "properties" in schema]
    for path in declared:
        _holder(manifest, path)["mispelt"] = {"deeply": [path]}
    stored = create(plane, namespace, manifest)
    kept = [path for path in declared if _holder(stored, path).get("mispelt") == {"deeply": [path]}]
    assert kept == declared


def _holder(manifest: dict[str, Any], path: str) -> dict[str, Any]:
    holder: Any = manifest
    for step in path.split("."):
        holder = holder[step.removesuffix("[]")]
        if step.endswith("[]"):
            holder = holder[0]
    assert isinstance(holder, dict)
    return holder


@EVERY_KIND
def test_fresh_object_is_never_taken_for_done(plane: ControlPlane, namespace: str, kind: Kind) -> None:
    """Status is there in the answer to the create, with nobody watching; `kubectl wait` does not return."""
    stored = create(plane, namespace, FULL[kind.name]())
    [condition] = stored["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
    assert condition["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    name = f"{kind.plural}/{stored['metadata']['name']}"
    waited = plane.kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=0s", name)
    assert waited.returncode != 0


@EVERY_KIND
def test_spec_is_stored_as_it_was_written(plane: ControlPlane, namespace: str, kind: Kind) -> None:
    """No default is put into spec, neither in a small object nor in a full one."""
    full = FULL[kind.name]()
    small = copy.deepcopy(full)
    small["metadata"]["name"] = "small"
    if kind.name == "GatewayConfig":
        small["spec"] = {"storage": {"redis": {"host": "r"}}, "log": {}, "delivery": {}}
    else:
        del small["spec"]["probe"], small["spec"]["modelName"]
    for manifest in (full, small):
        assert create(plane, namespace, manifest)["spec"] == manifest["spec"]


@pytest.mark.parametrize("value", [{}, {"other": {"nested": None}}])
def test_open_maps_can_be_emptied_and_replaced_by_server_side_apply(plane: ControlPlane, namespace: str, value: Any) -> None:
    """A map that is not atomic is refused when emptied: what is left of it is null (Kubernetes 1.36)."""
    config, model = gateway_config(), virtual_model()
    assert apply(plane, namespace, config).status == 201
    assert apply(plane, namespace, model).status == 201
    config["spec"]["webSearch"]["options"] = value
    model["spec"]["backends"][0]["parameters"] = value
    answer = apply(plane, namespace, config)
    assert answer.status == 200, answer.body
    assert answer.body["spec"]["webSearch"]["options"] == value
    answer = apply(plane, namespace, model)
    assert answer.status == 200, answer.body
    assert answer.body["spec"]["backends"][0]["parameters"] == value


def test_two_appliers_may_own_a_backend_each(plane: ControlPlane, namespace: str) -> None:
    """Backends are a list-map by name: one manager adds its own without naming the others'."""
    model = virtual_model()
    assert apply(plane, namespace, model).status == 201
    extra = {**model, "spec": {"backends": [{"name": "third", "model": "m"}]}}
    path = f"{path_of(namespace, model, 'chat')}?fieldManager=other"
    answer = plane.request("PATCH", path, extra, content_type="application/apply-patch+yaml")
    assert answer.status == 200, answer.body
    assert [backend["name"] for backend in answer.body["spec"]["backends"]] == ["small", "big", "third"]


def test_models_can_be_selected_by_gateway_and_backend(plane: ControlPlane, namespace: str) -> None:
    """`kubectl get vmodel --field-selector spec.gatewayRef.name=main`."""
    for name, gateway, current in (("a", "main", "small"), ("b", "main", "big"), ("c", "other", "small")):
        model = virtual_model()
        model["metadata"]["name"] = name
        model["spec"] |= {"gatewayRef": {"name": gateway}, "current": current}
        create(plane, namespace, model)

    def names(selector: str) -> list[str]:
        shown = plane.kubectl("get", "vmodel", "-n", namespace, "--field-selector", selector, "-o", "json", check=True)
        return [item["metadata"]["name"] for item in json.loads(shown.stdout)["items"]]

    assert names("spec.gatewayRef.name=main") == ["a", "b"]
    assert names("spec.current=small,spec.use=true") == ["a", "c"]


def test_kubectl_get_shows_both_kinds_by_their_category(plane: ControlPlane, namespace: str) -> None:
    """The columns of the design, with what is known of a fresh object."""
    create(plane, namespace, virtual_model())
    create(plane, namespace, gateway_config())
    shown = plane.kubectl("get", "ai-gateway", "-n", namespace, check=True).stdout
    lines = [line.split() for line in shown.splitlines() if line]
    assert ["NAME", "GATEWAY", "MODEL", "CURRENT", "USE", "READY", "AGE"] in lines
    assert ["NAME", "REVISION", "PODS", "DATASTORES", "READY", "AGE"] in lines
    [model] = [line for line in lines if line[0].startswith("virtualmodel.")]
    assert model[1:5] == ["main", "small", "true", "Unknown"]
    short = plane.kubectl("get", "gwc/main", "vmodel/chat", "-n", namespace, "-o", "name", check=True).stdout.split()
    assert short == ["gatewayconfig.ai-gateway.io/main", "virtualmodel.ai-gateway.io/chat"]
