"""Whatever stands in `spec`, the rules answer: no exception, soon, printable, and never "fine" for what no model takes."""

from __future__ import annotations

import copy
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.rules import Violation, check_entry, check_gateway_config, check_virtual_model
from tests.unit.rules.specs import CONTEXT, make_gateway_config, make_virtual_model

_TEXT = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["small", "https://a.example", "..", "\ud800", "a\x00"]
)
_KEYS = st.sampled_from(
    [
        "name",
        "key",
        "model",
        "use",
        "current",
        "backends",
        "baseUrl",
        "parameters",
        "options",
        "storage",
        "redis",
        "host",
        "port",
        "app",
        "log",
        "path",
        "tls",
        "token",
        "[key]",
    ]
)
_ODD = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT
_JSON = st.recursive(
    _ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | _TEXT, inner, max_size=5), max_leaves=20
)


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the location of every key and item inside `value`."""
    if not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [place for key, inner in items for place in ((*here, key), *_places(inner, (*here, key)))]


@st.composite
def damaged(draw: st.DrawFn, spec: dict[str, Any]) -> Any:
    """Draw `spec` with up to four places replaced by any JSON, or with keys added there."""
    result = copy.deepcopy(spec)
    for _ in range(draw(st.integers(0, 4))):
        *parents, last = draw(st.sampled_from(_places(result)))
        holder: Any = result
        for step in parents:
            holder = holder[step]
        if isinstance(holder, dict) and draw(st.booleans()):
            last = draw(_KEYS | _TEXT)
        holder[last] = draw(_JSON)
    return result


def _assert_sound(found: list[Violation], spec: Any, model: type[BaseModel]) -> None:
    assert [violation.path for violation in found] == sorted(violation.path for violation in found)
    assert len(set(found)) == len(found)
    assert len(found) <= 257
    for violation in found:
        assert str(violation).isprintable()
        assert len(str(violation)) < 8000
    if not found:
        model.model_validate({} if spec is None else spec)
        return
    if all(violation.rule in ("R1", "R3", "R5") for violation in found):
        try:
            model.model_validate(spec)
        except ValidationError:
            return
        raise AssertionError(f"the model takes it, the rules say {[str(violation) for violation in found]}")


@settings(max_examples=500, deadline=None)
@given(_JSON | damaged(make_virtual_model()))
def test_virtual_model_rules_answer_to_any_json(spec: Any) -> None:
    """And what they accept, the model accepts: plan parses it without a second thought."""
    _assert_sound(check_virtual_model(spec, CONTEXT), spec, VirtualModelSpec)


@settings(max_examples=500, deadline=None)
@given(_JSON | damaged(make_gateway_config()), _JSON | damaged(make_gateway_config()))
def test_gateway_config_rules_answer_to_any_json(spec: Any, old: Any) -> None:
    """Also when the stored spec is any JSON."""
    _assert_sound(check_gateway_config(spec, CONTEXT), spec, GatewayConfigSpec)
    check_gateway_config(spec, CONTEXT, old_spec=old)


@settings(max_examples=200, deadline=None)
@given(_TEXT, st.dictionaries(_KEYS | _TEXT, _JSON, max_size=6))
def test_entry_rules_answer_to_any_mapping(name: str, entry: dict[str, Any]) -> None:
    """An entry read back from a ConfigMap may have been edited by hand."""
    assert check_entry(name, entry, CONTEXT) != []


def test_worst_specs_are_answered_within_a_second() -> None:
    """As large as the gate lets through: unknown keys, wrong items, secrets, long names, deep nesting."""
    unknown = {f"k{index}" * 5: index for index in range(15_000)}
    items = [None] * 100_000
    names = [{"name": f"b{index}", "model": "m"} for index in range(8_000)]
    options = {f"k{i}": {f"token{j}": [[{"token": "x"}]] for j in range(60)} for i in range(64)}
    specs: list[Any] = [
        make_virtual_model(**unknown),
        make_virtual_model(backends=items),
        make_virtual_model(backends=names, current="none", baseUrl=None),
        make_virtual_model(backends=[{"name": "small", "model": "m", "parameters": options}]),
        make_virtual_model(baseUrl="https://" + "a." * 100_000),
        make_virtual_model(baseUrl="https://" + "%" * 200_000),
        make_virtual_model(baseUrl="https://a/" + "/." * 100_000),
        make_virtual_model(modelName="ü" * 100_000),
    ]
    for spec in specs:
        started = time.thread_time()
        assert check_virtual_model(spec, CONTEXT) != []
        assert time.thread_time() - started < 1.0
