"""How places and odd texts are written in violations."""

from __future__ import annotations

import pytest

from aigateway_operator.rules import FieldReason, Violation
from aigateway_operator.rules.misfits import misfit
from aigateway_operator.rules.violation import at, in_order, shown


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("spec", "app", "spec.app"),
        ("", "app", "app"),
        ("spec.backends", 1, "spec.backends[1]"),
        ("spec", "a.b/c", 'spec["a.b/c"]'),
        ("spec", "", 'spec[""]'),
        ("spec", "k" * 81, f'spec["{"k" * 80}…"]'),
    ],
)
def test_path_is_written_as_the_api_server_writes_it(path: str, key: str | int, expected: str) -> None:
    """Keys that would make a path ambiguous are quoted."""
    assert at(path, key) == expected


def test_shown_text_is_printable_and_short() -> None:
    """Terminal escapes, half surrogates and overlong keys cannot garble a message."""
    assert shown("a\x1b[31m\ud800ü\u202e") == "a\\x1b[31m\\ud800ü\\u202e"
    assert len(shown("x" * 10_000)) == 81


def test_violation_reads_as_path_and_message() -> None:
    """What the controller and the command line print."""
    assert str(Violation("spec.app", FieldReason.INVALID, "is odd.", "R5")) == "spec.app: is odd."


def test_violations_are_sorted_and_each_comes_once() -> None:
    """Two rules may find the same fault in the same words."""
    one, two = (Violation(path, FieldReason.INVALID, "x", "R5") for path in ("spec.b", "spec.a"))
    assert in_order([one, two, one]) == [two, one]


def test_pydantic_error_without_a_text_of_ours_keeps_pydantics() -> None:
    """A new kind of error still says something, without the value."""
    found = misfit({"type": "frozen_field", "loc": ("a",), "msg": "Field is frozen", "input": "hunter2"}, "spec.a")
    assert str(found) == "spec.a: is not valid: Field is frozen."
    found = misfit({"type": "string_pattern_mismatch", "loc": ("a",), "msg": "", "input": "", "ctx": {"pattern": "^x$"}}, "a")
    assert found.message == "must match ^x$."
