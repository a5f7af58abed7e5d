"""Rendered entries: what was written once is checked again before it is kept as last good."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from aigateway_operator.rules import RuleContext, check_entry
from tests.unit.rules.specs import CONTEXT, brief


def make_entry(**changes: Any) -> dict[str, Any]:
    """Return a legal entry with two backends, with `changes` on top; a change to `...` removes the key."""
    backend = {"model": "m", "base_url": "https://api.example.com", "api_key_ref": "a.b", "parameters": {"temperature": 0}}
    entry = {
        "use": True,
        "current": "small",
        "base_url": "https://api.example.com",
        "proxy_key_ref": "chat.key",
        "small": dict(backend),
        "big": {**backend, "base_url": None},
    }
    return {key: value for key, value in {**entry, **changes}.items() if value is not ...}


@pytest.mark.parametrize("changes", [{}, {"base_url": None, "big": ...}, {"current": "big", "use": False}, {"future_key": 7}])
def test_legal_entry_is_kept(changes: dict[str, Any]) -> None:
    """Also one without a URL of its own, and one with a plain key of a later minor version."""
    assert check_entry("chat", make_entry(**changes), CONTEXT) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"current": "tiny"}, ("R4", "virtual_models.chat.current")),
        ({"current": None}, ("R4", "virtual_models.chat.current")),
        ({"current": ["small"]}, ("R4", "virtual_models.chat.current")),
        ({"current": "base_url"}, ("R4", "virtual_models.chat.current")),
        ({"current": "proxy_key", "proxy_key": {}}, ("R4", "virtual_models.chat.current")),
        ({"small": "x"}, ("R4", "virtual_models.chat.current")),
        ({"base_url": "http://169.254.169.254"}, ("R11", "virtual_models.chat.base_url")),
        ({"base_url": None}, ("R8", "virtual_models.chat.big.base_url")),
        ({"big": {"base_url": "https://127.1"}}, ("R9", "virtual_models.chat.big.base_url")),
        ({"big": {"parameters": {"stream": True}}}, ("R14", "virtual_models.chat.big.parameters.stream")),
        ({"big": {"parameters": {"api_key": "x"}}}, ("R13", "virtual_models.chat.big.parameters.api_key")),
        ({"big": {"parameters": {"a": "x" * 2_000_000}}}, ("R23", "virtual_models.chat")),
    ],
)
def test_entry_that_breaks_a_rule_is_named_with_its_place(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    """Paths follow the document that pods read."""
    assert brief(check_entry("chat", make_entry(**changes), CONTEXT)) == [expected]


def test_entry_without_backends_says_so_and_odd_names_are_quoted() -> None:
    """A model name may hold dots and slashes."""
    (found,) = check_entry("org/model.v1", {}, CONTEXT)
    assert found.path == 'virtual_models["org/model.v1"].current'
    assert "Backends: none." in found.message


def test_a_policy_that_became_stricter_reaches_old_entries() -> None:
    """What was legal under AIGATEWAY_ALLOW_ADDRESSES is refused once the setting is gone."""
    entry = make_entry(base_url="http://127.0.0.1:8000")
    allowed = RuleContext("chat", allow_addresses=(ip_network("127.0.0.0/8"),))
    assert check_entry("chat", entry, allowed) == []
    assert brief(check_entry("chat", entry, CONTEXT)) == [("R11", "virtual_models.chat.base_url")]
