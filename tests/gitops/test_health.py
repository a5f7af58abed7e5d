"""Health and actions in Argo CD: on recorded objects as upstream tests them, and on live ones of a real operator.

`AIGATEWAY_RECORD=1` writes the recorded objects anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.argocd import documents
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World
from tests.gitops.argolua import CUSTOMIZATIONS, ROOT, ArgoLua, LuaError, merge_patch
from tests.gitops.states import bring_about, comparable

KINDS = ("VirtualModel", "GatewayConfig")


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


HEALTH = [(kind, case) for kind in KINDS for case in _load(CUSTOMIZATIONS / kind / "health_test.yaml")["tests"]]
ACTIONS = CUSTOMIZATIONS / "VirtualModel" / "actions"
CASES = _load(ACTIONS / "action_test.yaml")


@pytest.mark.parametrize(("kind", "case"), HEALTH, ids=lambda value: value if isinstance(value, str) else value["inputPath"])
def test_health_of_recorded_objects(lua: ArgoLua, kind: str, case: dict[str, Any]) -> None:
    """State and message are those of health_test.yaml."""
    assert lua.health(_load(CUSTOMIZATIONS / kind / case["inputPath"])) == case["healthStatus"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_recorded_object_is_forgotten(kind: str) -> None:
    """Each file of testdata is asked about."""
    asked = {case["inputPath"] for of, case in HEALTH if of == kind}
    assert asked == {f"testdata/{path.name}" for path in (CUSTOMIZATIONS / kind / "testdata").iterdir()}


@pytest.mark.parametrize("case", CASES["discoveryTests"], ids=lambda case: case["inputPath"])
def test_actions_that_make_no_sense_are_disabled(lua: ArgoLua, case: dict[str, Any]) -> None:
    """Names, switches, icons and parameters are exactly those of action_test.yaml."""
    found = [
        {"name": name, "disabled": False, **action} for name, action in lua.actions(_load(ACTIONS / case["inputPath"])).items()
    ]
    assert sorted(found, key=lambda one: str(one["name"])) == sorted(case["result"], key=lambda one: str(one["name"]))


@pytest.mark.parametrize("case", CASES["actionTests"], ids=lambda case: f"{case['action']}-{case['inputPath']}")
def test_actions_change_one_value(lua: ArgoLua, case: dict[str, Any]) -> None:
    """What comes out is the expected object, or the expected refusal."""
    obj = _load(ACTIONS / case["inputPath"])
    if "expectedErrorMessage" in case:
        with pytest.raises(LuaError, match=f"^{re.escape(case['expectedErrorMessage'])}$"):
            lua.act(obj, case["action"], case.get("parameters"))
        return
    changed = lua.act(obj, case["action"], case.get("parameters"))
    assert changed == _load(ACTIONS / case["expectedOutputPath"])
    assert list(merge_patch(obj, changed)) in (["spec"], [])


@pytest.mark.parametrize("library", ["string", "math", "io", "os", "debug"])
def test_the_interpreter_lends_no_more_than_argo_cd(lua: ArgoLua, library: str) -> None:
    """Or a script would pass here and fail there."""
    assert lua.run(f"return {{there = tostring({library} ~= nil)}}", {}) == {"there": "false"}


def test_a_script_that_hangs_is_ended(lua: ArgoLua) -> None:
    """After a second, as in Argo CD."""
    with pytest.raises(LuaError, match="deadline"):
        lua.run("while true do end", {})


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"observedGeneration": 3}])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_a_judgement_is_progressing(lua: ArgoLua, kind: str, status: Any) -> None:
    """Whatever part of the status is missing, it is never taken for done, and no script fails."""
    obj = {"kind": kind, "metadata": {"name": "x", "generation": 3}, "spec": {}, "status": status}
    assert lua.health(obj)["status"] == "Progressing"


def _judged(kind: str, *conditions: tuple[str, str, str, str], **status: Any) -> dict[str, Any]:
    """Return an object whose present generation was judged so: (type, status, reason, message)."""
    told = [dict(zip(("type", "status", "reason", "message"), one, strict=True)) for one in conditions]
    spec = {"use": True, "current": "small"}
    return {
        "kind": kind,
        "metadata": {"name": "chat", "generation": 3},
        "spec": spec,
        "status": {"observedGeneration": 3, "conditions": told, **status},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_operator_does_not_know_yet_is_progressing(lua: ArgoLua, kind: str) -> None:
    """A Secret that cannot be read now is no reason to page anybody, nor to let the next wave go."""
    obj = _judged(kind, ("Ready", "Unknown", "Pending", "Secret 'keys' cannot be read."))
    assert lua.health(obj) == {"status": "Progressing", "message": "Secret 'keys' cannot be read."}


@pytest.mark.parametrize("kind", KINDS)
def test_a_reason_is_told_once(lua: ArgoLua, kind: str) -> None:
    """Ready may give the reason of Programmed itself."""
    obj = _judged(
        kind, ("Programmed", "False", "KeptLastGood", "Still served."), ("Ready", "False", "KeptLastGood", "Still served.")
    )
    assert lua.health(obj) == {"status": "Degraded", "message": "KeptLastGood: Still served."}


def test_callers_know_a_model_by_its_public_name(lua: ArgoLua) -> None:
    """Which is not always that of the object."""
    obj = _judged("VirtualModel", ("Ready", "True", "Ready", "Served as 'fast'."), modelName="fast")
    assert lua.health(obj)["message"].startswith("Served as 'fast' by backend 'small'.")


@pytest.mark.parametrize("name", sorted(documents()))
def test_configuration_of_argo_cd_holds_the_scripts(name: str) -> None:
    """What people paste is what is tested; `python -m hack.argocd` writes it."""
    assert (ROOT / "config" / "argocd" / name).read_text() == documents()[name]


def test_pasted_scripts_are_read_as_they_are() -> None:
    """YAML gives back each script unchanged, in the ConfigMap and in the values of Argo CD's chart."""
    data = yaml.safe_load(documents()["argocd-cm.yaml"])["data"]
    assert yaml.safe_load(documents()["values.yaml"])["configs"]["cm"] == data
    for kind in KINDS:
        assert (
            data[f"resource.customizations.health.ai-gateway.io_{kind}"] == (CUSTOMIZATIONS / kind / "health.lua").read_text()
        )
    actions = yaml.safe_load(data["resource.customizations.actions.ai-gateway.io_VirtualModel"])
    assert actions["discovery.lua"] == (ACTIONS / "discovery.lua").read_text()
    scripts = {one["name"]: one["action.lua"] for one in actions["definitions"]}
    assert scripts == {path.parent.name: path.read_text() for path in ACTIONS.glob("*/action.lua")}


@pytest.mark.apiserver
def test_the_patch_leaves_the_rest_of_argo_cds_configuration_alone(world: World) -> None:
    """The command of docs/gitops.md, on a ConfigMap that has something already."""
    plane, name = world.plane, world.namespace
    plane.kubectl("create", "configmap", "argocd-cm", "-n", name, "--from-literal=url=https://argocd.example.com", check=True)
    file = ROOT / "config" / "argocd" / "argocd-cm.yaml"
    plane.kubectl("patch", "configmap", "argocd-cm", "-n", name, "--patch-file", file, check=True)
    expected = {"url": "https://argocd.example.com", **yaml.safe_load(file.read_text())["data"]}
    assert world.get("ConfigMap", "argocd-cm")["data"] == expected


@pytest.mark.apiserver
def test_health_and_actions_on_live_objects(world: World, start_operator: StartOperator, lua: ArgoLua) -> None:
    """Every state, brought about by a real operator, is what was recorded, and has the recorded health.

    Then each action is run as Argo CD runs it, and what it does is judged by the API server.
    """
    states = bring_about(world, start_operator)
    if os.environ.get("AIGATEWAY_RECORD"):
        for name, obj in states.items():
            path = CUSTOMIZATIONS / name.replace("/", "/testdata/")
            obj["metadata"].pop("managedFields")  # as kubectl shows it
            text = yaml.safe_dump(obj, sort_keys=True, width=1000).replace(world.namespace, "ai")
            path.with_suffix(".yaml").write_text(text)
    recorded = {f"{kind}/{Path(case['inputPath']).stem}": (kind, case) for kind, case in HEALTH}
    assert set(states) == set(recorded)
    for name, (kind, case) in recorded.items():
        assert comparable(states[name]) == comparable(_load(CUSTOMIZATIONS / kind / case["inputPath"])), name
        assert lua.health(states[name])["status"] == case["healthStatus"]["status"], name
    world.create(_fresh(states["VirtualModel/healthy"]))
    for action, parameters, expected in (
        ("switch-backend", {"backend": "big"}, {"current": "big"}),
        ("switch-backend", {}, {"current": "small"}),
        ("turn-off", {}, {"use": False}),
        ("turn-on", {}, {"use": True}),
    ):
        before = world.get("VirtualModel", "chat")
        after = world.patch("VirtualModel", "chat", merge_patch(before, lua.act(before, action, parameters)))
        assert after["spec"] == {**before["spec"], **expected}


def _fresh(obj: dict[str, Any]) -> dict[str, Any]:
    return {**{key: obj[key] for key in ("apiVersion", "kind", "spec")}, "metadata": {"name": obj["metadata"]["name"]}}
