"""Edits of stored objects: what was broken before and is not touched does not stand in the way; everything else does."""

from __future__ import annotations

from typing import Any

import pytest

from aigateway_operator.rules import RuleContext, Violation, check_edit, check_gateway_config, split_stored
from aigateway_operator.rules.ratchet import Edit
from tests.unit.rules.specs import brief, make_backend, make_gateway_config, make_virtual_model

CONTEXT = RuleContext("chat")
LOOPBACK = "http://127.0.0.1:8000"


def model_edit(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (rule, path) of what refuses the edit of a VirtualModel, and of what is tolerated."""
    edit = check_edit("VirtualModel", new, old, CONTEXT)
    return brief(list(edit.violations)), brief(list(edit.tolerated))


def test_edit_between_valid_specs_says_nothing() -> None:
    """The usual case."""
    assert check_edit("VirtualModel", make_virtual_model(current="big"), make_virtual_model(), CONTEXT) == Edit()


def test_stored_violation_is_tolerated_while_something_else_changes() -> None:
    """A model whose URL is no longer legal can still be switched off."""
    assert model_edit(make_virtual_model(baseUrl=LOOPBACK), make_virtual_model(baseUrl=LOOPBACK, use=False)) == (
        [],
        [("R11", "spec.baseUrl")],
    )


def test_equal_spec_is_never_refused() -> None:
    """A label or an annotation can be set on anything that is stored."""
    specs: list[Any] = [None, [], "x", {}, {"bogus": 1}, make_virtual_model(current="none", bogus={"a": [1]})]
    for spec in specs:
        assert check_edit("VirtualModel", spec, spec, CONTEXT).violations == (), spec


def test_one_forbidden_value_cannot_be_swapped_for_another() -> None:
    """The text is the same for both addresses, since it shows no value: the value decides."""
    old, new = make_virtual_model(baseUrl=LOOPBACK), make_virtual_model(baseUrl="http://127.0.0.1:9000")
    assert model_edit(old, new) == ([("R11", "spec.baseUrl")], [])


def test_new_violation_is_refused_beside_a_stored_one() -> None:
    """Tolerance is for the one place."""
    old = make_virtual_model(baseUrl=LOOPBACK)
    assert model_edit(old, make_virtual_model(baseUrl=LOOPBACK, current="tiny")) == (
        [("R4", "spec.current")],
        [("R11", "spec.baseUrl")],
    )


def test_same_fault_at_another_place_is_new() -> None:
    """A second backend with the same unknown key is a second fault."""
    old = make_virtual_model(backends=[make_backend(modle="a"), make_backend(name="big")])
    new = make_virtual_model(backends=[make_backend(modle="a"), make_backend(name="big", modle="a")])
    assert model_edit(old, new) == ([("R1", "spec.backends[1].modle")], [("R1", "spec.backends[0].modle")])


@pytest.mark.parametrize(("value", "refused"), [(1, False), (2, True)])
def test_key_that_no_path_can_be_read_back_from_is_judged_by_what_holds_it(value: int, refused: bool) -> None:
    """Odd keys are shown escaped and shortened; then the map around them must be as it was."""
    old, new = make_virtual_model(**{"odd key": 1}), make_virtual_model(**{"odd key": value})
    assert bool(check_edit("VirtualModel", new, old, CONTEXT).violations) == refused


@pytest.mark.parametrize("gone", [[], [make_backend(name="other")]])
def test_place_that_is_no_longer_there_is_judged_by_what_is_left(gone: list[Any]) -> None:
    """Shapes that do not match are no equal values, whatever the texts say."""
    found = [Violation("spec.backends[0].parameters.a", check_gateway_config([], CONTEXT)[0].reason, "is wrong.", "R5")]
    new, stored = split_stored(found, found, make_virtual_model(), make_virtual_model(backends=gone))
    assert (new, stored) == (found, [])
    assert split_stored(found, found, "x", make_virtual_model()) == (found, [])


def test_what_is_still_missing_is_tolerated_although_the_rest_changed() -> None:
    """There is no value to compare: the text lists what is missing."""
    old, new = make_virtual_model(gatewayRef=...), make_virtual_model(gatewayRef=..., use=False)
    assert model_edit(old, new) == ([], [("R3", "spec")])
    assert model_edit(old, make_virtual_model(gatewayRef=..., current=...)) == ([("R3", "spec")], [])


def test_name_that_cannot_change_is_tolerated() -> None:
    """`metadata.name` is not part of the spec and never changes."""
    old, new = make_gateway_config(), make_gateway_config(probes={"periodSeconds": 20})
    edit = check_edit("GatewayConfig", new, old, RuleContext("n" * 64))
    assert (edit.violations, brief(list(edit.tolerated))) == ((), [("R21", "metadata.name")])


def test_rules_on_edits_are_never_tolerated() -> None:
    """Removal and shards speak of the edit itself, so the stored object cannot have broken them."""
    old = make_gateway_config(delivery={"shards": 2})
    new = make_gateway_config(delivery={"shards": 4}, app={"host": "0.0.0.0", "port": 8000})
    edit = check_edit("GatewayConfig", new, old, RuleContext("main"))
    assert brief(list(edit.violations)) == [("R2", "spec.app.debug"), ("R22", "spec.delivery.shards")]
    assert edit.tolerated == ()
