"""Texts that several layers share open with the phrases users know and end with a remedy."""

from __future__ import annotations

import pytest

from aigateway_operator.api import texts
from aigateway_operator.api.fixed import deletion_remedy
from aigateway_operator.api.gatewayconfig import App, GatewayConfigSpec, LogStorage, MongoDB, Storage, WebSearch

ALLOWED = ["host", "port", "debug"]


def test_unknown_key_is_named_with_place_allowed_keys_and_closest_match() -> None:
    """All that is needed to mend it."""
    assert texts.cannot_add_key("spec.app", "prot", ALLOWED) == (
        "Cannot add new key 'prot' to fixed structure at spec.app. Allowed keys: host, port, debug. Did you mean 'port'?"
    )


@pytest.mark.parametrize(
    ("key", "allowed", "guess"),
    [("base_url", ["baseUrl"], "baseUrl"), ("BASE-URL", ["baseUrl"], "baseUrl"), ("zzz", ALLOWED, "")],
)
def test_other_ways_to_write_a_key_are_recognized(key: str, allowed: list[str], guess: str) -> None:
    """snake_case of the rendered file is the likeliest slip; a far word gets no guess."""
    assert texts.cannot_add_key("spec", key, allowed).endswith(f"Did you mean '{guess}'?" if guess else "host, port, debug.")


def test_no_close_match_is_sought_when_not_asked() -> None:
    """The search costs time for each of thousands of keys."""
    assert texts.cannot_add_key("spec.app", "prot", ALLOWED, guess=False).endswith("debug.")


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        (App, "port", "To go back, set it to its default 8000."),
        (App, "debug", "To go back, set it to its default false."),
        (LogStorage, "sinks", "To go back, set it to its default [mongodb, file]."),
        (Storage, "redis", "To do without it, keep its keys and set enabled: false."),
        (GatewayConfigSpec, "storage", "Keep it, and set enabled: false in the stores to do without."),
        (GatewayConfigSpec, "log", "Keep it; what it holds may change."),
        (MongoDB, "host", "Keep it; what it holds may change."),
        (WebSearch, "options", "To go back, set it to its default {}."),
    ],
)
def test_remedy_for_a_removed_key_says_what_to_write(model: type[App], key: str, expected: str) -> None:
    """A default where there is one, `enabled: false` for a store."""
    assert deletion_remedy(model, key) == expected
    assert texts.cannot_delete_key("spec.app", key, expected).startswith(
        f"Cannot delete key '{key}' from spec.app. Structure is fixed. "
    )
