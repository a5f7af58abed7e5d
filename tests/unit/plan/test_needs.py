"""Which keys of which Secrets rounds need to know, as uses come and go."""

from __future__ import annotations

from aigateway_operator.plan.needs import Needs
from aigateway_operator.render.references import SecretRef

PROXY, OTHER, ELSEWHERE = SecretRef("keys", "proxy"), SecretRef("keys", "other"), SecretRef("openai", "api-key")


def test_a_key_is_needed_as_long_as_anybody_names_it() -> None:
    """Two models share one; the first that goes takes nothing from the second, and the Secret stays while any key is used."""
    needs = Needs()
    needs.swap(None, {"a": PROXY, "b": OTHER, "c": None})
    needs.swap(None, {"a": PROXY, "b": ELSEWHERE})
    assert needs.keys() == {"keys": {"proxy", "other"}, "openai": {"api-key"}}
    needs.swap({"a": PROXY, "b": ELSEWHERE}, None)
    assert needs.keys() == {"keys": {"proxy", "other"}}
    needs.swap({"a": PROXY, "b": OTHER, "c": None}, {"a": OTHER})
    assert needs.keys() == {"keys": {"other"}}
    needs.swap({"a": OTHER}, None)
    assert needs.keys() == {}


def test_the_same_keys_are_the_same_mapping() -> None:
    """Whoever remembers what it was made from sees by identity that nothing is to be done."""
    needs = Needs()
    needs.swap(None, {"a": PROXY})
    before = needs.keys()
    needs.swap({"a": PROXY}, {"b": PROXY})
    assert needs.keys() is before
