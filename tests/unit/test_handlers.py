"""What is handed over of kopf's events, and what kopf is left with."""

from __future__ import annotations

from aigateway_operator.handlers import take_from
from tests.apiserver.world import virtual_model


def test_kopf_is_left_with_neither_spec_nor_status_of_what_it_saw() -> None:
    """Its views refer to each other, so that all they show stays in memory until the collector comes by."""
    seen = virtual_model("chat")
    seen["metadata"] |= {"resourceVersion": "7", "managedFields": [{"manager": "kubectl"}]}
    seen["status"] = {"conditions": []}
    spec = seen["spec"]
    taken = take_from(seen)
    assert taken["spec"] is spec
    assert taken["status"] == {"conditions": []}
    assert taken["metadata"] == seen["metadata"] == {"name": "chat", "resourceVersion": "7"}
    assert seen.keys() == {"apiVersion", "kind", "metadata"}
