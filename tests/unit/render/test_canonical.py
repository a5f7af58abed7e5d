"""Canonical JSON: the same bytes for the same value, read as that value by JSON and YAML parsers alike."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.errors import RenderError
from aigateway_operator.render.canonical import encode, encode_text, encode_texts
from tests.reference_renderer import canonical

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_parser_reads_the_value_that_was_written(value: Any) -> None:
    """json, orjson and PyYAML agree with what went in, whatever text and numbers are in it."""
    text = encode(value)
    assert "\n" not in text
    assert _alike(json.loads(text), value)
    assert _alike(orjson.loads(text), value)
    assert _alike(yaml.safe_load(text), value)


def _alike(left: Any, right: Any) -> bool:
    """Tell whether two values are equal, and of one type: 1, 1.0 and True are three things."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_alike(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_alike, left, right))
    return bool(left == right)


@given(VALUES)
def test_the_reference_renderer_writes_the_same_bytes(value: Any) -> None:
    """Two programs that share no code agree on the canonical form."""
    assert encode(value) == canonical(value)


@given(st.dictionaries(TEXTS, st.integers()))
def test_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    """A mapping filled in another order gives the same text."""
    assert encode(dict(reversed(value.items()))) == encode(value)


@given(VALUES, VALUES)
def test_different_values_have_different_texts(left: Any, right: Any) -> None:
    """Nothing that differs is written alike, or its digest would not differ."""
    assert (encode(left) == encode(right)) == (canonical(left) == canonical(right))
    if encode(left) == encode(right):
        assert _alike(left, right)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e16, "1.0e+16"), (1.5e300, "1.5e+300"), (5e-324, "5.0e-324"), (-0.0, "-0.0"), (0.2, "0.2"), (3.0, "3.0")],
)
def test_floats_have_a_point_and_a_signed_exponent(number: float, text: str) -> None:
    """PyYAML takes `1e16` for text."""
    assert encode(number) == text
    assert yaml.safe_load(text) == number


@pytest.mark.parametrize(
    "char", ["\x00", "\x1f", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ud800", "\ufeff", "\ufffe", "\uffff"]
)
def test_characters_that_yaml_refuses_or_changes_are_escaped(char: str) -> None:
    """C0, C1, DEL, U+0085, separators, surrogates and non-characters never stand in a document as they are."""
    assert char not in encode(f"a{char}b")
    assert json.loads(encode(f"a{char}b")) == f"a{char}b"


def test_printable_text_of_any_script_is_left_as_it_is() -> None:
    """People read documents."""
    assert encode("grüß 模型 😀") == '"grüß 模型 😀"'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1: "x"}, {"a": {None: 1}}, object(), b"bytes", {1, 2}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    """A fault of ours ends in a RenderError, never in a document that cannot be parsed."""
    with pytest.raises(RenderError):
        encode(value)


def test_tuples_are_lists() -> None:
    """Frozen values render like the lists they stand for."""
    assert encode((1, ("a", True, False, None))) == '[1,["a",true,false,null]]'


@given(st.lists(st.text(st.sampled_from('ab"\\\x7f\n\u2028\u00e4'), max_size=2), max_size=4))
def test_many_texts_are_encoded_as_each_of_them_is(texts: list[str]) -> None:
    """Whether all are plain or one of them holds a quote, a backslash, a control character or more than ASCII."""
    assert encode_texts(texts) == [encode_text(text) for text in texts]
