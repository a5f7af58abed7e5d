"""GatewayConfig: one accepted and one refused example of every rule, and the fixed structure over time."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from aigateway_operator.api.gatewayconfig import FIXED_SECTIONS, GatewayConfigSpec
from aigateway_operator.rules import RuleContext, check_gateway_config
from tests.unit.rules.specs import brief, make_gateway_config

CONTEXT = RuleContext("main")


def path_set(path: str, value: Any) -> dict[str, Any]:
    """Return a valid spec with `value` at the dotted `path`; `...` removes the key."""
    spec: dict[str, Any] = copy.deepcopy(make_gateway_config())
    *parents, last = path.split(".")
    here = spec
    for key in parents:
        here = here.setdefault(key, {})
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return spec


ACCEPTED: list[Any] = [
    None,
    {},
    make_gateway_config(),
    {"app": None, "storage": {"redis": None}, "webSearch": None, "delivery": {"podSelector": None}},
    path_set("app.host", "::"),
    path_set("storage.mongodb.host", "db.example.com"),
    path_set("storage.qdrant.host", "fd12::7"),
    path_set("storage.redis.enabled", False),
    path_set("log.system.storage.path", "a/..b/c..d"),
    path_set("log.system.storage.sinks", []),
    path_set("webSearch.options", {"engines": ["a", "b"], "model": "x"}),
    path_set("delivery.podSelector", {"matchExpressions": [{"key": "a.b/c", "operator": "In", "values": ["x"]}]}),
    path_set("delivery.podSelector", {"matchExpressions": [{"key": "c", "operator": "Exists"}]}),
    path_set("delivery.podSelector", {"matchLabels": {"app.kubernetes.io/name": ""}}),
    path_set("delivery.shards", 64),
]

REFUSED: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (path_set("ap", {}), [("R1", "spec.ap")]),
    (path_set("app.prot", 1), [("R1", "spec.app.prot")]),
    (path_set("app.prot", None), [("R1", "spec.app.prot")]),
    (path_set("storage.mongo", {}), [("R1", "spec.storage.mongo")]),
    (path_set("storage.redis.username", "x"), [("R1", "spec.storage.redis.username")]),
    (path_set("storage.mongodb.password", "hunter2"), [("R1", "spec.storage.mongodb.password")]),
    (path_set("storage.qdrant.tls.verify", False), [("R1", "spec.storage.qdrant.tls.verify")]),
    (path_set("webSearch.apiKey", "hunter2"), [("R1", "spec.webSearch.apiKey")]),
    (path_set("log.system.retention", 1), [("R1", "spec.log.system.retention")]),
    (path_set("log.system.storage.paths", "x"), [("R1", "spec.log.system.storage.paths")]),
    (path_set("delivery.pods", 1), [("R1", "spec.delivery.pods")]),
    (path_set("probes.period", 1), [("R1", "spec.probes.period")]),
    (path_set("storage.mongodb.host", ...), [("R3", "spec")]),
    (path_set("storage.redis", {}), [("R3", "spec")]),
    (path_set("webSearch", {}), [("R3", "spec")]),
    (path_set("app", []), [("R5", "spec.app")]),
    (path_set("app.port", 0), [("R5", "spec.app.port")]),
    (path_set("app.port", 65536), [("R5", "spec.app.port")]),
    (path_set("app.port", "8000"), [("R5", "spec.app.port")]),
    (path_set("app.port", 8000.0), [("R5", "spec.app.port")]),
    (path_set("app.port", True), [("R5", "spec.app.port")]),
    (path_set("app.port", 10**5000), [("R5", "spec.app.port")]),
    (path_set("app.debug", "false"), [("R5", "spec.app.debug")]),
    (path_set("storage.redis.port", -1), [("R5", "spec.storage.redis.port")]),
    (path_set("storage.redis.host", "r" * 254), [("R5", "spec.storage.redis.host")]),
    (path_set("storage.mongodb.database", "a b"), [("R5", "spec.storage.mongodb.database")]),
    (path_set("log.system.level", "TRACE"), [("R5", "spec.log.system.level")]),
    (path_set("log.system.level", "info"), [("R5", "spec.log.system.level")]),
    (path_set("log.system.retentionDays", 0), [("R5", "spec.log.system.retentionDays")]),
    (path_set("log.system.storage.sinks", ["file", "file"]), [("R26", "spec.log.system.storage.sinks")]),
    (path_set("log.operation.storage.sinks", ["file", 3]), [("R5", "spec.log.operation.storage.sinks[1]")]),
    (path_set("log.system.storage.sinks", ["stdout"]), [("R5", "spec.log.system.storage.sinks[0]")]),
    (path_set("log.system.storage.sinks", ["file"] * 3), [("R5", "spec.log.system.storage.sinks")]),
    (path_set("log.system.storage.path", "/var/log"), [("R5", "spec.log.system.storage.path")]),
    (path_set("probes.periodSeconds", 0), [("R5", "spec.probes.periodSeconds")]),
    (path_set("delivery.shards", 65), [("R5", "spec.delivery.shards")]),
    (path_set("delivery.podSelector", {"matchLabels": {"a": None}}), [("R5", "spec.delivery.podSelector.matchLabels.a")]),
    (path_set("delivery.podSelector", {"matchLabels": {1: "a"}}), [("R5", "spec.delivery.podSelector.matchLabels[1]")]),
    (path_set("webSearch.baseUrl", "http://api.example.com"), [("R10", "spec.webSearch.baseUrl")]),
    (path_set("webSearch.options", {"token": "x"}), [("R13", "spec.webSearch.options.token")]),
    (path_set("webSearch.options", {"a": [float("inf")]}), [("R15", "spec.webSearch.options.a[0]")]),
    (path_set("storage.redis.host", "redis://redis:6379"), [("R12", "spec.storage.redis.host")]),
    (path_set("storage.qdrant.host", "169.254.169.254"), [("R11", "spec.storage.qdrant.host")]),
    (path_set("storage.mongodb.host", "0x7f.1"), [("R9", "spec.storage.mongodb.host")]),
    (path_set("app.host", "0.0.0.0:80"), [("R12", "spec.app.host")]),
    (path_set("storage.mongodb.username", "a\x00"), [("R18", "spec.storage.mongodb.username")]),
    (path_set("storage.mongodb.username", "\ud800"), [("R18", "spec.storage.mongodb.username")]),
    (path_set("delivery.podSelector", {}), [("R19", "spec.delivery.podSelector")]),
    (path_set("delivery.podSelector", {"matchLabels": {}, "matchExpressions": []}), [("R19", "spec.delivery.podSelector")]),
    (path_set("log.system.storage.path", "../x"), [("R20", "spec.log.system.storage.path")]),
    (path_set("log.operation.storage.path", "a/../../x"), [("R20", "spec.log.operation.storage.path")]),
    (path_set("log.operation.storage.path", "a\\..\\x"), [("R20", "spec.log.operation.storage.path")]),
    (path_set("log.operation.storage.path", ".."), [("R20", "spec.log.operation.storage.path")]),
    (path_set("webSearch.options", {"a": "x" * 300_000}), [("R23", "spec")]),
    (
        path_set("storage.qdrant.tls.caSecretRef", {"name": "a", "key": ".."}),
        [("R24", "spec.storage.qdrant.tls.caSecretRef.key")],
    ),
    (
        path_set("storage.redis.passwordSecretRef", {"name": "a", "key": "..x"}),
        [("R24", "spec.storage.redis.passwordSecretRef.key")],
    ),
    (
        path_set("delivery.podSelector", {"matchLabels": {"-a": "x", "a/b/c": "y"}}),
        [
            ("R25", 'spec.delivery.podSelector.matchLabels["a/b/c"]'),
            ("R25", "spec.delivery.podSelector.matchLabels.-a"),
        ],
    ),
    (
        path_set("delivery.podSelector", {"matchExpressions": [{"key": "p" * 254 + "/a", "operator": "In"}, "x"]}),
        [
            ("R25", "spec.delivery.podSelector.matchExpressions[0].key"),
            ("R25", "spec.delivery.podSelector.matchExpressions[0].values"),
            ("R5", "spec.delivery.podSelector.matchExpressions[1]"),
        ],
    ),
    (
        path_set("delivery.podSelector", {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}),
        [("R25", "spec.delivery.podSelector.matchExpressions[0].values")],
    ),
]


@pytest.mark.parametrize("spec", ACCEPTED)
def test_legal_configuration_is_accepted_and_parses(spec: Any) -> None:
    """What passes the rules is a model, explicit nulls included; nothing at all is required."""
    assert check_gateway_config(spec, CONTEXT) == []
    GatewayConfigSpec.model_validate({} if spec is None else spec)


@pytest.mark.parametrize(("spec", "expected"), REFUSED)
def test_each_fault_is_named_once_at_its_place(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The rule and the path, no second violation for the same fault, and no value in the text."""
    found = check_gateway_config(spec, CONTEXT)
    assert sorted(brief(found)) == sorted(expected)
    assert not any("hunter2" in str(violation) for violation in found)


def test_required_fields_of_named_sections_come_in_one_violation() -> None:
    """A store once named needs its host, web search its provider and URL."""
    (found,) = check_gateway_config({"storage": {"redis": {}, "qdrant": {"port": 1}}, "webSearch": {}}, CONTEXT)
    assert found.message == (
        "Gateway config 'main' missing required fields: "
        "storage.redis.host, storage.qdrant.host, webSearch.provider, webSearch.baseUrl"
    )


def test_choice_names_the_closest() -> None:
    """Case is the usual fault."""
    (found,) = check_gateway_config(path_set("log.system.level", "warning"), CONTEXT)
    assert found.message == "must be one of DEBUG, INFO, WARNING or ERROR. Did you mean WARNING?"
    (found,) = check_gateway_config(path_set("log.system.level", "WARN"), CONTEXT)
    assert found.message.endswith("Did you mean WARNING?")
    (found,) = check_gateway_config(path_set("log.system.level", 7), CONTEXT)
    assert found.message.endswith("ERROR.")


def test_number_out_of_range_is_shown() -> None:
    """A number of ordinary size is no secret; the hugest cannot even be printed."""
    (found,) = check_gateway_config(path_set("app.port", 70000), CONTEXT)
    assert found.message == "must be at most 65535, not 70000."
    (found,) = check_gateway_config(path_set("app.port", 10**5000), CONTEXT)
    assert found.message == "must be at most 65535."


def test_name_must_fit_into_a_label() -> None:
    """Generated objects carry the gateway's name as a label."""
    assert check_gateway_config({}, replace(CONTEXT, name="n" * 63)) == []
    assert brief(check_gateway_config({}, replace(CONTEXT, name="n" * 64))) == [("R21", "metadata.name")]
    found = check_gateway_config([], replace(CONTEXT, name="n" * 64))
    assert brief(found) == [("R21", "metadata.name"), ("R5", "spec")]


def test_endless_spec_is_refused_by_size_alone() -> None:
    """As for VirtualModel."""
    loop: dict[str, Any] = {}
    loop["a"] = loop
    assert brief(check_gateway_config(path_set("webSearch.options", loop), CONTEXT)) == [("R23", "spec")]


REMOVED = [
    ("app", "Keep it"),
    ("app.port", "To go back, set it to its default 8000."),
    ("app.debug", "set it to its default false."),
    ("app.host", "set it to its default 0.0.0.0."),
    ("storage", "set enabled: false"),
    ("storage.redis", "set enabled: false"),
    ("storage.redis.port", "set it to its default 6379."),
    ("storage.redis.host", "Keep it"),
    ("webSearch", "Keep it"),
    ("webSearch.options", "set it to its default {}."),
    ("webSearch.provider", "Keep it"),
    ("log", "Keep it"),
    ("log.system", "Keep it"),
    ("log.system.level", "set it to its default INFO."),
    ("log.system.storage.sinks", "set it to its default [mongodb, file]."),
]


@pytest.mark.parametrize(("path", "remedy"), REMOVED)
@pytest.mark.parametrize("gone", [..., None])
def test_key_of_a_fixed_section_must_not_vanish(path: str, remedy: str, gone: object) -> None:
    """Removed or set to null: one violation at the place, with the phrase that users know and what to do instead."""
    old = make_gateway_config()
    found = check_gateway_config(path_set(path, gone), CONTEXT, old_spec=old)
    parent, _, key = f"spec.{path}".rpartition(".")
    assert brief(found) == [("R2", f"spec.{path}")]
    assert found[0].message.startswith(f"Cannot delete key '{key}' from {parent}. Structure is fixed. ")
    assert remedy in found[0].message


@pytest.mark.parametrize(
    "path",
    [
        "storage.mongodb.username",
        "storage.mongodb.passwordSecretRef",
        "storage.qdrant.tls",
        "storage.qdrant.tls.caSecretRef",
        "storage.qdrant.tls.enabled",
        "delivery",
        "delivery.podSelector",
        "probes",
        "probes.periodSeconds",
    ],
)
def test_key_that_pods_need_not_keep_may_go(path: str) -> None:
    """User names, secret references and TLS come and go; delivery and probes are not what pods read."""
    assert check_gateway_config(path_set(path, ...), CONTEXT, old_spec=make_gateway_config()) == []


def test_unset_key_may_be_set_and_values_may_change() -> None:
    """Fixed means the keys that are there, not their values; entries of an open map are free."""
    new = make_gateway_config(
        app={"host": "0.0.0.0", "port": 9000}, webSearch={"provider": "x", "baseUrl": "http://s", "options": {}}
    )
    old = {"app": {"port": 8000}, "webSearch": {"provider": "y", "baseUrl": "http://t", "options": {"a": 1}}}
    assert check_gateway_config(new, CONTEXT, old_spec=old) == []


@pytest.mark.parametrize("old", [None, [], "x", {}, {"app": []}, {"app": None}, {"app": {"bogus": 1}}, {"bogus": {}}])
def test_stored_spec_without_known_keys_asks_for_nothing(old: object) -> None:
    """What was stored while the webhook was away may have any shape; removing what was never legal mends it."""
    assert check_gateway_config({"app": {}}, CONTEXT, old_spec=old) == []


def test_section_of_another_shape_is_reported_once() -> None:
    """A wrong type is not a deletion of all that was inside."""
    found = check_gateway_config(path_set("app", 7), CONTEXT, old_spec=make_gateway_config())
    assert brief(found) == [("R5", "spec.app")]


@pytest.mark.parametrize("section", FIXED_SECTIONS)
def test_section_emptied_names_each_key_that_went(section: str) -> None:
    """Emptying is removing every key at once; each is named, nothing below a vanished key is named again."""
    old = make_gateway_config()
    found = check_gateway_config(path_set(section, {}), CONTEXT, old_spec=old)
    assert sorted(brief(found)) == sorted(("R2", f"spec.{section}.{key}") for key in old[section])


@pytest.mark.parametrize("section", FIXED_SECTIONS)
@pytest.mark.parametrize("value", [[], "x", 0, False, 1.5])
def test_section_of_any_other_type_is_one_violation(section: str, value: Any) -> None:
    """Falsy values are no way around it."""
    found = check_gateway_config(path_set(section, value), CONTEXT, old_spec=make_gateway_config())
    assert brief(found) == [("R5", f"spec.{section}")]


@pytest.mark.parametrize(
    ("before", "now", "accepted"),
    [(1, 2, False), (..., 2, False), (2, ..., False), (..., 1, True), (1, ..., True), (4, 4, True)],
)
def test_shards_never_change(before: Any, now: Any, accepted: bool) -> None:
    """Unset is 1; setting it to 1 is no change."""
    old, new = path_set("delivery.shards", before), path_set("delivery.shards", now)
    expected = [] if accepted else [("R22", "spec.delivery.shards")]
    assert brief(check_gateway_config(new, CONTEXT, old_spec=old)) == expected
    assert check_gateway_config(new, CONTEXT) == []
