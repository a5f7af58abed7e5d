"""Label selectors as text, and as a webhook configuration wants them."""

from __future__ import annotations

import pytest

from aigateway_operator.api.label_selector import parse_label_selector


@pytest.mark.parametrize(
    ("text", "expressions"),
    [
        ("team=a", [("team", "In", ["a"])]),
        ("team==a", [("team", "In", ["a"])]),
        ("team=", [("team", "In", [""])]),
        ("team!=a", [("team", "NotIn", ["a"])]),
        ("team in (a, b)", [("team", "In", ["a", "b"])]),
        ("team notin (a,b),tier=x", [("team", "NotIn", ["a", "b"]), ("tier", "In", ["x"])]),
        ("example.com/aigateway", [("example.com/aigateway", "Exists", None)]),
        ("!off, on", [("off", "DoesNotExist", None), ("on", "Exists", None)]),
    ],
)
def test_every_form_of_a_requirement_is_understood(text: str, expressions: list[tuple[str, str, list[str] | None]]) -> None:
    """As the API server reads the same text in a query."""
    assert parse_label_selector(text) == {
        "matchExpressions": [
            {"key": key, "operator": operator, **({} if values is None else {"values": values})}
            for key, operator, values in expressions
        ]
    }


def test_nothing_said_selects_all() -> None:
    """As an empty LabelSelector does."""
    assert parse_label_selector(" ") == {}


@pytest.mark.parametrize(
    "text", ["a=b=c", "=a", "team in a", "team in ()", "a,,b", "te am", "a in (b c)", "-a=b", f"a={'b' * 64}"]
)
def test_what_is_no_selector_is_named(text: str) -> None:
    """With the forms there are; the API server would refuse every LIST instead."""
    with pytest.raises(ValueError, match=r"no label selector: .*; parts are key=value"):
        parse_label_selector(text)


def test_every_part_that_is_wrong_is_named_and_no_other() -> None:
    """All at once, so that a selector is mended in one go."""
    with pytest.raises(ValueError, match="'a=b=c', 'te am'; parts are") as refused:
        parse_label_selector("team=x, a=b=c, !off, te am")
    assert "team=x" not in str(refused.value)
