"""Text is read as kubectl reads it, and stricter where that would guess; tests/apiserver/test_cli.py asks kubectl itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.cli import strict_yaml
from aigateway_operator.cli.output import as_json, as_yaml
from aigateway_operator.cli.strict_yaml import parse_documents
from tests.yaml_rows import ROWS


def value_of(text: str) -> Any:
    """Return the value of one document without faults."""
    documents, faults = parse_documents(text)
    assert not faults, faults
    [document] = documents
    return document.value


@pytest.mark.parametrize(("text", "value"), ROWS)
def test_scalar_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    """YAML 1.1 truth values, numbers as Go reads them, dates as text."""
    got = value_of(f"a: {text}\n")["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: is there twice, on lines 1 and 3"),
        ("a:\n  1: x\n  '1': y\n", 3, "on lines 2 and 3"),
        ("a: .inf\n", 1, "a: is not a finite number"),
        ("a:\n- .NaN\n", 2, "a[0]: is not a finite number"),
        ("a: !!binary aGk=\n", 1, "has the tag"),
        ("a: !custom x\n", 1, "has the tag !custom"),
        ("[x]: y\n", 1, "has a key that is a list"),
        ("~: y\n", 1, "neither text nor a whole number"),
        ("a: &x [*x]\n", 1, "contains itself"),
        ("a: 1\n  b: 2\n", 2, "is not YAML"),
        ("a: 'open\n", 2, "is not YAML"),
        ("a: {<<: 3}\n", 1, "must be a mapping"),
        ('{"a": 1,\n"a": 2}', 2, "on lines 1 and 2"),
        ('{"a": "\\ud83d\\ude00", "b": 1, "b": 2}', 1, "'b' is there twice"),
        ('{"a": nope}{', 1, "is not JSON"),
    ],
)
def test_what_json_cannot_say_is_a_fault_with_its_line(text: str, line: int, words: str) -> None:
    """Nothing is guessed and nothing raised; the document with the fault is not handed on."""
    documents, faults = parse_documents(text)
    assert not documents
    assert faults[0].line == line, faults
    assert words in faults[0].message


def test_every_fault_of_a_text_is_told_at_once() -> None:
    """A user mends the lot; what stands before a syntax error still counts."""
    documents, faults = parse_documents("a: .inf\na: 1\n---\nb: 1\n---\nc: [\n")
    assert [document.value for document in documents] == [{"b": 1}]
    assert [fault.line for fault in faults] == [1, 2, 7]


def test_fault_never_quotes_a_value() -> None:
    """A Secret with a slip in it must not end up in a log of a pipeline."""
    text = "stringData:\n  key: 'sk-very-secret\n  other: !!binary sk-very-secret\n"
    for broken in (text, text.replace("'", ""), "a: sk-very-secret: b\n", '{"a": sk-very-secret'):
        _, faults = parse_documents(broken)
        assert faults
        assert not any("sk-very-secret" in fault.message for fault in faults)


def test_anchors_and_merge_keys_are_followed() -> None:
    """Explicit keys win over merged ones, earlier sources over later ones, wherever `<<` stands."""
    text = "one: &a {p: 1, q: 1}\ntwo: &b {q: 2, r: 2}\nthree:\n  p: 0\n  <<: [*a, *b]\n"
    assert value_of(text)["three"] == {"p": 0, "q": 1, "r": 2}


def test_aliases_that_multiply_are_refused_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte of aliases stands for billions of values; reading ends at the limit (two million, here fifty thousand)."""
    monkeypatch.setattr(strict_yaml, "MAX_VALUES", 50_000)
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    documents, faults = parse_documents("\n".join(lines))
    assert not documents
    assert "aliases that multiply" in faults[0].message


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, '{"a":' * 100_000, "- " * 5000])
def test_nesting_beyond_any_manifest_is_a_fault_and_no_crash(text: str) -> None:
    """Whatever stands in a file, the program tells and goes on."""
    documents, faults = parse_documents(text)
    assert not documents
    assert faults


def test_line_of_a_place_or_of_what_is_closest_above_it() -> None:
    """Violations are pointed at in the file, also those of what is missing."""
    [first, second] = parse_documents("# note\na: 1\n---\nspec:\n  app:\n    port: 1\n  list:\n  - x: 1\n  - y: 2\n")[0]
    assert (first.line, second.line) == (2, 4)
    places = ("spec.app.port", "spec.app.host", "spec.list[1].y", "spec.list[1]", "spec.nowhere.at.all", "", "metadata.name")
    assert [second.line_of(place) for place in places] == [6, 5, 9, 9, 4, 4, 4]


def test_documents_without_content_are_left_out() -> None:
    """Separators and comments make no objects."""
    assert parse_documents("---\n# nothing\n---\n\n---\na: 1\n...\n")[0][0].value == {"a": 1}
    assert parse_documents("") == ([], [])


def test_json_values_one_after_the_other_are_read() -> None:
    """kubectl writes and reads JSON without separators, with tabs, with escaped surrogates."""
    documents, faults = parse_documents('{"a":\t"\\ud83d\\ude00"}\n\n{"b": 1.0}')
    assert not faults
    assert [(document.value, document.line) for document in documents] == [({"a": "\U0001f600"}, 1), ({"b": 1}, 3)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_what_commands_print_reads_back_the_same(value: Any) -> None:
    """`render`, `import` and `-o yaml` quote whatever the reader, and so kubectl, would take for something else."""
    wrapped = {"value": value}
    assert value_of(as_yaml(wrapped)) == wrapped
    assert value_of(as_json(wrapped)) == wrapped
