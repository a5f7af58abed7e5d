"""VirtualModel: one accepted and one refused example of every rule, all violations at once, one for each fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aigateway_config.documents import RESERVED_BACKEND_NAMES
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.rules import FieldReason, check_virtual_model, effective_model_name
from aigateway_operator.rules.size import GIVE_UP_BYTES, estimate_bytes
from tests.unit.rules.specs import CONTEXT, brief, make_backend, make_virtual_model

KEYLESS = make_backend(apiKeySecretRef=None, parameters=None, baseUrl=None)


def with_backend(**changes: Any) -> dict[str, Any]:
    """Return a spec with one backend, called small."""
    return make_virtual_model(backends=[make_backend(**changes)])


ACCEPTED = [
    make_virtual_model(),
    make_virtual_model(use=False, current="big", modelName="Org/Model:v1", probe={"enabled": True}),
    make_virtual_model(modelName="模型-1"),
    make_virtual_model(modelName=None, probe=None),
    make_virtual_model(backends=[KEYLESS]),
    make_virtual_model(baseUrl=..., backends=[make_backend(baseUrl="http://vllm.ai.svc:8000/v1")]),
    make_virtual_model(backends=[make_backend(name=f"b{index}") for index in range(32)], current="b31"),
    with_backend(parameters={"stop": None, "logit_bias": {"50256": -100}}),
    with_backend(model="meta-llama/Llama 3"),
    make_virtual_model(proxyKeySecretRef={"name": "a.b-c", "key": ".dot_ok"}),
]

REFUSED: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (make_virtual_model(modelname="x"), [("R1", "spec.modelname")]),
    (make_virtual_model(**{"a b\n": None}), [("R1", 'spec["a b\\n"]')]),
    (make_virtual_model(gatewayRef={"name": "main", "namespace": "x"}), [("R1", "spec.gatewayRef.namespace")]),
    (with_backend(base_url="https://x.example"), [("R1", "spec.backends[0].base_url")]),
    (make_virtual_model(probe={"enabled": True, "path": "/"}), [("R1", "spec.probe.path")]),
    (make_virtual_model(gatewayRef=...), [("R3", "spec")]),
    (make_virtual_model(use=None), [("R3", "spec")]),
    (make_virtual_model(proxyKeySecretRef={}), [("R3", "spec")]),
    (with_backend(model=...), [("R3", "spec")]),
    (make_virtual_model(current="tiny"), [("R4", "spec.current")]),
    (make_virtual_model(current="Small"), [("R5", "spec.current")]),
    (make_virtual_model(current=1), [("R5", "spec.current")]),
    (make_virtual_model(use="yes"), [("R5", "spec.use")]),
    (make_virtual_model(use=1), [("R5", "spec.use")]),
    (make_virtual_model(backends=[]), [("R5", "spec.backends")]),
    (make_virtual_model(backends={}), [("R5", "spec.backends")]),
    (make_virtual_model(backends=[make_backend(), None]), [("R5", "spec.backends[1]")]),
    (make_virtual_model(backends=[make_backend(name=f"b{i}") for i in range(33)], current="b0"), [("R5", "spec.backends")]),
    (make_virtual_model(modelName="a b"), [("R5", "spec.modelName")]),
    (make_virtual_model(modelName="a\n"), [("R5", "spec.modelName")]),
    (make_virtual_model(modelName="a\ufeff"), [("R5", "spec.modelName")]),
    (make_virtual_model(modelName=""), [("R5", "spec.modelName")]),
    (make_virtual_model(modelName="m" * 254), [("R5", "spec.modelName")]),
    (make_virtual_model(gatewayRef={"name": "Main"}), [("R5", "spec.gatewayRef.name")]),
    (make_virtual_model(gatewayRef={"name": "m" * 64}), [("R5", "spec.gatewayRef.name")]),
    (make_virtual_model(proxyKeySecretRef={"name": "A_B", "key": "k"}), [("R5", "spec.proxyKeySecretRef.name")]),
    (make_virtual_model(proxyKeySecretRef={"name": "a", "key": "k/x"}), [("R5", "spec.proxyKeySecretRef.key")]),
    (make_virtual_model(proxyKeySecretRef="sk-hunter2"), [("R5", "spec.proxyKeySecretRef")]),
    (with_backend(apiKeySecretRef="sk-hunter2"), [("R5", "spec.backends[0].apiKeySecretRef")]),
    (with_backend(name="Small", parameters={}), [("R4", "spec.current"), ("R5", "spec.backends[0].name")]),
    (make_virtual_model(backends=[make_backend(), make_backend(name=7)]), [("R5", "spec.backends[1].name")]),
    (with_backend(model=""), [("R5", "spec.backends[0].model")]),
    (with_backend(parameters=[]), [("R5", "spec.backends[0].parameters")]),
    (make_virtual_model(baseUrl=""), [("R5", "spec.baseUrl")]),
    (make_virtual_model(baseUrl="https://a.example/" + "x" * 2048), [("R5", "spec.baseUrl")]),
    (make_virtual_model(baseUrl=7), [("R5", "spec.baseUrl")]),
    (make_virtual_model(backends=[make_backend()] * 3), [("R6", "spec.backends[1].name"), ("R6", "spec.backends[2].name")]),
    (make_virtual_model(baseUrl=...), [("R8", "spec.baseUrl")]),
    (make_virtual_model(baseUrl=None), [("R8", "spec.baseUrl")]),
    (make_virtual_model(baseUrl="https://127.1/v1"), [("R9", "spec.baseUrl")]),
    (with_backend(baseUrl="http://api.example.com"), [("R10", "spec.backends[0].baseUrl")]),
    (with_backend(baseUrl="https://169.254.169.254"), [("R11", "spec.backends[0].baseUrl")]),
    (with_backend(parameters={"a": {"api_key": "x"}}), [("R13", "spec.backends[0].parameters.a.api_key")]),
    (with_backend(parameters={"stream": True}), [("R14", "spec.backends[0].parameters.stream")]),
    (with_backend(parameters={"a": float("nan")}), [("R15", "spec.backends[0].parameters.a")]),
    (with_backend(parameters={"": 1}), [("R16", 'spec.backends[0].parameters[""]')]),
    (with_backend(parameters={f"k{i}": i for i in range(65)}), [("R16", "spec.backends[0].parameters")]),
    (with_backend(model="a\x00b"), [("R18", "spec.backends[0].model")]),
    (with_backend(model="a\u2028b"), [("R18", "spec.backends[0].model")]),
    (with_backend(model="a\ud800b"), [("R18", "spec.backends[0].model")]),
    (make_virtual_model(modelName="\ud800"), [("R18", "spec.modelName")]),
    (with_backend(parameters={"a": "\ud800"}), [("R18", "spec.backends[0].parameters.a")]),
    (with_backend(parameters={"a": "x" * 300_000}), [("R23", "spec")]),
    (make_virtual_model(proxyKeySecretRef={"name": "a", "key": ".."}), [("R24", "spec.proxyKeySecretRef.key")]),
    (with_backend(apiKeySecretRef={"name": "a", "key": "."}), [("R24", "spec.backends[0].apiKeySecretRef.key")]),
]


@pytest.mark.parametrize(
    ("spec", "path", "written"),
    [
        (make_virtual_model(gatewayRef="main"), "spec.gatewayRef", " Write {name: …}."),
        (make_virtual_model(proxyKeySecretRef="hunter2"), "spec.proxyKeySecretRef", " Write {name: …, key: …}."),
        (with_backend(apiKeySecretRef="hunter2"), "spec.backends[0].apiKeySecretRef", " Write {name: …, key: …}."),
        (make_virtual_model(gatewayRef=["main"]), "spec.gatewayRef", ""),
        (make_virtual_model(backends="small"), "spec.backends", ""),
        (make_virtual_model(use="yes"), "spec.use", ""),
    ],
)
def test_a_name_in_place_of_a_reference_is_told_how_references_are_written(
    spec: dict[str, Any], path: str, written: str
) -> None:
    """`gatewayRef: main` is the obvious guess. What stands there is not shown: it may be the key itself."""
    (found,) = check_virtual_model(spec, CONTEXT)
    assert (found.path, found.message.partition(".")[2]) == (path, written)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("spec", ACCEPTED)
def test_legal_model_is_accepted_and_parses(spec: dict[str, Any]) -> None:
    """What passes the rules is a model, explicit nulls included."""
    assert check_virtual_model(spec, CONTEXT) == []
    VirtualModelSpec.model_validate(spec)


@pytest.mark.parametrize(("spec", "expected"), REFUSED)
def test_each_fault_is_named_once_at_its_place(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The rule and the path, no second violation for the same fault, and no value in the text."""
    found = check_virtual_model(spec, CONTEXT)
    assert sorted(brief(found)) == expected
    assert not any("hunter2" in str(violation) for violation in found)


@pytest.mark.parametrize("name", sorted(RESERVED_BACKEND_NAMES))
def test_backend_may_not_take_the_place_of_a_fixed_key(name: str) -> None:
    """Those that are DNS labels are refused as reserved; those with '_' can be no DNS label in the first place."""
    found = check_virtual_model(make_virtual_model(backends=[make_backend(name=name)], current=name), CONTEXT)
    assert ("R7" if "_" not in name else "R5", "spec.backends[0].name") in brief(found)


def test_all_missing_fields_are_named_in_one_violation() -> None:
    """Those of backends and references too, in the phrase that CRD and command line use."""
    spec = {"current": "a", "baseUrl": "https://x.example", "proxyKeySecretRef": {"name": "a"}, "backends": [{"name": "a"}]}
    (found,) = check_virtual_model(spec, CONTEXT)
    assert found.reason is FieldReason.REQUIRED
    assert str(found) == (
        "spec: Virtual model 'chat' missing required fields: gatewayRef, use, proxyKeySecretRef.key, backends[0].model"
    )


@pytest.mark.parametrize("spec", [None, {}])
def test_absent_spec_lacks_every_required_field(spec: object) -> None:
    """An explicit null is an absent spec."""
    (found,) = check_virtual_model(spec, CONTEXT)
    assert "gatewayRef, use, current, proxyKeySecretRef, backends" in found.message


@pytest.mark.parametrize("spec", [[], "x", 1, True, 1.5])
def test_spec_that_is_no_mapping_is_one_violation(spec: object) -> None:
    """Nothing else can be said of it."""
    assert brief(check_virtual_model(spec, CONTEXT)) == [("R5", "spec")]


def test_unlike_faults_come_in_one_answer_sorted_by_path() -> None:
    """Structure does not hide meaning: a user mends the lot at once."""
    spec = make_virtual_model(
        current="tiny", bogus=1, baseUrl="http://x.y", backends=[make_backend(parameters={"token": 1}), make_backend(model=1)]
    )
    found = check_virtual_model(spec, CONTEXT)
    assert brief(found) == [
        ("R13", "spec.backends[0].parameters.token"),
        ("R5", "spec.backends[1].model"),
        ("R6", "spec.backends[1].name"),
        ("R10", "spec.baseUrl"),
        ("R1", "spec.bogus"),
        ("R4", "spec.current"),
    ]


def test_unknown_key_names_the_allowed_ones_and_the_closest() -> None:
    """The phrase that users know, then the remedy; snake_case is recognised as the same key."""
    (found,) = check_virtual_model(make_virtual_model(base_url="x"), CONTEXT)
    assert found.message.startswith("Cannot add new key 'base_url' to fixed structure at spec. Allowed keys: gatewayRef, ")
    assert found.message.endswith("Did you mean 'baseUrl'?")
    (found,) = check_virtual_model(make_virtual_model(backends=[{"name": "small", "model": "a", "api_key": "x"}]), CONTEXT)
    assert found.message.endswith("Did you mean 'apiKeySecretRef'?")
    (found,) = check_virtual_model(make_virtual_model(zzz="x"), CONTEXT)
    assert "Did you mean" not in found.message
    (found,) = check_virtual_model(make_virtual_model(**{"baseUrll" * 20: "x"}), CONTEXT)
    assert "Did you mean" not in found.message


def test_current_lists_the_backends_there_are() -> None:
    """The remedy holds the names to choose from."""
    (found,) = check_virtual_model(make_virtual_model(current="tiny"), CONTEXT)
    assert "'tiny' names no backend. Backends: small, big." in found.message


def test_missing_base_url_names_the_backends_without_one() -> None:
    """Backends that name one are fine without the model's."""
    (found,) = check_virtual_model(make_virtual_model(baseUrl=...), CONTEXT)
    assert "missing required fields: baseUrl" in found.message
    assert "without one: backends[0]." in found.message


def test_odd_object_name_is_escaped_in_messages() -> None:
    """The command line may see any metadata.name."""
    (found,) = check_virtual_model({}, replace(CONTEXT, name="a\x1b[31m"))
    assert "'a\\x1b[31m'" in found.message


def test_hundreds_of_violations_are_capped_and_counted() -> None:
    """256 are listed, one more says how many are not, and the answer comes fast."""
    found = check_virtual_model(make_virtual_model(**{f"k{index}": 1 for index in range(1000)}), CONTEXT)
    assert len(found) == 257
    assert found[0].message == "744 more violations are not listed. Mend these first."
    assert [violation.path for violation in found] == sorted(violation.path for violation in found)


def test_spec_that_unfolds_without_end_is_refused_by_size_alone() -> None:
    """YAML aliases make a small file an endless tree; beyond 1 MiB nothing else is looked at."""
    bomb: Any = "x"
    for _ in range(60):
        bomb = [bomb] * 10
    assert brief(check_virtual_model(make_virtual_model(bogus=bomb), CONTEXT)) == [("R23", "spec")]
    assert GIVE_UP_BYTES < estimate_bytes(bomb) < GIVE_UP_BYTES + 100
    loop: dict[str, Any] = {}
    loop["a"] = loop
    assert brief(check_virtual_model(make_virtual_model(bogus=loop), CONTEXT)) == [("R23", "spec")]


def test_large_spec_below_the_point_of_giving_up_gets_all_its_violations() -> None:
    """Between 256 KiB and 1 MiB the size is one violation among others."""
    spec = make_virtual_model(backends=[make_backend(parameters={"a": "ü" * 150_000})], current="tiny")
    assert brief(check_virtual_model(spec, CONTEXT)) == [("R23", "spec"), ("R4", "spec.current")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"modelName": "Public"}, "Public"),
        ({"modelName": None}, "chat"),
        ({"modelName": ""}, "chat"),
        ({"modelName": 7}, "chat"),
        ({}, "chat"),
        (None, "chat"),
        ([], "chat"),
    ],
)
def test_public_name_is_model_name_or_else_the_objects(spec: object, expected: str) -> None:
    """Whatever the spec is, there is a name to speak of."""
    assert effective_model_name(spec, "chat") == expected
