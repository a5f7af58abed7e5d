"""Pieces of CEL: texts with holes, paths, the list of required fields. That the API server takes them is tested on it."""

from __future__ import annotations

import pytest

from aigateway_operator.api.cel import NamedList, Rule, has_path, hole, joined_where, named_lists, required_fields
from aigateway_operator.api.crd_rules import fields_required_by_rule, gateway_config_rules, virtual_model_rules
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.virtualmodel import VirtualModelSpec


def test_text_without_holes_is_a_plain_message() -> None:
    """No expression to evaluate, and none that could fail."""
    assert Rule("true", "is so.").schema() == {"rule": "true", "message": "is so.", "reason": "FieldValueInvalid"}


def test_hole_becomes_an_expression_and_a_dot_in_the_static_text() -> None:
    """The static text is what the API server falls back to; quotes inside are escaped for CEL."""
    schema = Rule("true", f"'{hole('self.a')}' is \"odd\".", ".a", "FieldValueForbidden", optional_old_self=True).schema()
    assert schema == {
        "rule": "true",
        "message": "'…' is \"odd\".",
        "messageExpression": '"\'" + self.a + "\' is \\"odd\\"."',
        "fieldPath": ".a",
        "reason": "FieldValueForbidden",
        "optionalOldSelf": True,
    }


def test_text_of_nothing_but_a_hole_is_its_expression() -> None:
    """No empty strings are added up."""
    assert Rule("true", hole("self.a")).schema()["messageExpression"] == "self.a"


def test_path_is_guarded_step_by_step() -> None:
    """`has(self.a.b)` alone is an error where `a` is absent."""
    assert has_path("self", "a", "b") == "has(self.a) && has(self.a.b)"


def test_word_that_cel_reserves_is_refused_as_a_field() -> None:
    """It would need escaping, which nothing here does."""
    with pytest.raises(TypeError, match="namespace"):
        has_path("self", "namespace")


def test_list_in_text_is_written_out() -> None:
    """Each text comes with a comma before it, and the first comma is cut."""
    assert joined_where([("a", "'x'"), ("b", "'y'")]) == "((a ? ', ' + 'x' : '') + (b ? ', ' + 'y' : '')).substring(2)"


def test_required_fields_are_found_at_every_depth_in_order() -> None:
    """In the order in which the rules name them; items of lists are apart."""
    assert list(required_fields(VirtualModelSpec)) == [
        ("gatewayRef",), ("gatewayRef", "name"), ("use",), ("current",), ("proxyKeySecretRef",),
        ("proxyKeySecretRef", "name"), ("proxyKeySecretRef", "key"), ("backends",),
    ]  # fmt: skip
    assert list(named_lists(VirtualModelSpec)) == [NamedList(("backends",), 32, ("model",))]


def test_key_of_a_list_map_stays_required_in_the_schema() -> None:
    """The API server insists on it; other required fields of items are asked for in words of ours."""
    assert "spec.backends[].model" in fields_required_by_rule(VirtualModelSpec)
    assert "spec.backends[].name" not in fields_required_by_rule(VirtualModelSpec)
    assert "spec.storage.mongodb.tls.caSecretRef.key" in fields_required_by_rule(GatewayConfigSpec)


def test_model_without_lists_or_required_fields_has_none() -> None:
    """Plain fields ask for nothing."""

    class Plain(SpecModel):
        """Nothing required."""

        a: int = 1

    assert list(required_fields(Plain)) == []
    assert list(named_lists(Plain)) == []


def test_rules_on_removal_stand_on_the_parent_of_every_kept_key() -> None:
    """A rule on the key itself does not run when the key is gone; what may go has none."""
    rules = gateway_config_rules()
    kept = {
        (place, rule["fieldPath"]) for place, listed in rules.items() for rule in listed if "Cannot delete" in rule["message"]
    }
    assert ("", ".spec.storage") in kept
    assert ("spec.storage", ".mongodb") in kept
    assert ("spec.log.operation.storage", ".sinks") in kept
    assert ("spec.webSearch", ".options") in kept
    assert not {field for _, field in kept if "username" in field or "Ref" in field or "tls" in field}
    assert not {place for place, _ in kept if place.startswith(("spec.delivery", "spec.probes"))}


def test_only_transition_rules_use_the_stored_object() -> None:
    """VirtualModels are free to change: none of their rules looks back."""
    assert [rule for listed in virtual_model_rules().values() for rule in listed if "oldSelf" in rule["rule"]] == []
