"""Every folder of examples that is for a cluster, applied to a real API server, ends Ready and serves what it names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.controlplane import ControlPlane
from hack.operatorprocess import OperatorProcess
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/00-namespace.yaml"))
KINDS = {"VirtualModel": "virtualmodels", "GatewayConfig": "gatewayconfigs"}


def manifests(example: Path) -> list[dict[str, Any]]:
    """Return every object of a folder, in the order kubectl takes them."""
    return [obj for file in sorted(example.glob("*.yaml")) for obj in yaml.safe_load_all(file.read_text()) if obj]


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount, for the namespaces that examples use."""
    namespaces = {obj["metadata"].get("namespace") for example in EXAMPLES for obj in manifests(example)} - {None}
    with OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": ",".join(sorted(namespaces))}) as started:
        yield started


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.name)
def example(request: pytest.FixtureRequest, plane: ControlPlane, operator: OperatorProcess) -> Iterator[Path]:
    """One folder, applied with kubectl for all tests that read what becomes of it; its namespaces are gone afterwards."""
    folder: Path = request.param
    plane.kubectl("apply", "-f", folder, check=True)
    yield folder
    for obj in manifests(folder):
        if obj["kind"] == "Namespace":
            path = f"/api/v1/namespaces/{obj['metadata']['name']}"
            plane.request("DELETE", path)

            def is_gone(path: str = path) -> None:
                assert plane.request("GET", path).status == 404

            eventually(is_gone, within_seconds=60)


def test_every_resource_ends_ready(plane: ControlPlane, example: Path) -> None:
    """Each VirtualModel and GatewayConfig is Ready for its present generation within seconds."""
    ours = [obj for obj in manifests(example) if obj["kind"] in KINDS]
    assert ours
    for obj in ours:
        meta = obj["metadata"]
        path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{meta['namespace']}/{KINDS[obj['kind']]}/{meta['name']}"

        def is_ready(path: str = path) -> None:
            body = plane.request("GET", path).body
            ready = [c for c in body.get("status", {}).get("conditions", []) if c["type"] == "Ready"]
            assert ready, f"{path} has no Ready condition"
            assert (ready[0]["status"], ready[0].get("observedGeneration")) == ("True", body["metadata"]["generation"]), ready

        eventually(is_ready, within_seconds=30)


def test_documents_hold_every_model_under_its_public_name(plane: ControlPlane, example: Path) -> None:
    """The document of each gateway lists exactly the models that name it, with their switch and live backend."""
    objects = manifests(example)
    models = [obj for obj in objects if obj["kind"] == "VirtualModel"]
    for gateway in (obj for obj in objects if obj["kind"] == "GatewayConfig"):
        meta = gateway["metadata"]
        expected = {
            obj["spec"].get("modelName", obj["metadata"]["name"]): (obj["spec"]["use"], obj["spec"]["current"])
            for obj in models
            if (obj["metadata"]["namespace"], obj["spec"]["gatewayRef"]["name"]) == (meta["namespace"], meta["name"])
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/configmaps/{meta['name']}-config"

        def is_rendered(path: str = path, expected: dict[str, tuple[bool, str]] = expected) -> None:
            answer = plane.request("GET", path)
            assert answer.status == 200, answer.body
            served = json.loads(answer.body["data"]["config.yml"])["ai-gateway"]["virtual_models"]
            assert {name: (entry["use"], entry["current"]) for name, entry in served.items()} == expected

        eventually(is_rendered, within_seconds=30)


def test_no_document_holds_a_value_of_a_secret(plane: ControlPlane, example: Path) -> None:
    """What the example's Secrets hold is in no ConfigMap of its namespaces."""
    objects = manifests(example)
    values = {value for obj in objects if obj["kind"] == "Secret" for value in obj.get("stringData", {}).values()}
    gateways = [obj["metadata"] for obj in objects if obj["kind"] == "GatewayConfig"]
    assert values
    assert gateways
    for meta in gateways:
        path = f"/api/v1/namespaces/{meta['namespace']}/configmaps/{meta['name']}-config"

        def is_there(path: str = path) -> Any:
            answer = plane.request("GET", path)
            assert answer.status == 200, answer.body
            return answer.body

        text = json.dumps(eventually(is_there, within_seconds=30))
        assert [value for value in values if value in text] == []
