"""What statuses say while the API server refuses the documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from aigateway_operator.api.conditions import ConditionType
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.refusal import refused
from aigateway_operator.plan.snapshot import Stored
from tests.builders import make_virtual_model, make_world

TEXT = "PUT ConfigMap ai/main-config: exceeded quota"


def saying(stored: Stored, generation: int, *conditions: tuple[str, str, str], **fields: Any) -> Stored:
    """Return an object whose status says this of a generation: (type, status, reason)."""
    said = [
        {"type": kind, "status": status, "reason": reason, "message": "m", "observedGeneration": generation}
        for kind, status, reason in conditions
    ]
    return replace(stored, status=pack(orjson.dumps({"observedGeneration": generation, **fields, "conditions": said})))


def test_only_what_would_have_been_new_is_told_as_refused() -> None:
    """An edit that rules refuse keeps its own reason, a model that is served as before is not mentioned."""
    world = make_world(make_virtual_model("chat"), make_virtual_model("same"), make_virtual_model("broken"))
    world.models["same"] = saying(world.models["same"], 1, ("Ready", "True", "Ready"), ("Programmed", "True", "Programmed"))
    world.apply(make_virtual_model("chat", current="big"), make_virtual_model("broken", current="none"))
    world.models["chat"] = saying(world.models["chat"], 1, ("Programmed", "True", "Programmed"))
    world.restart()
    snapshot, made = world.snapshot(), world.plan()
    told = {status.name: {one.type: one for one in status.verdicts} for status in refused(snapshot, made.statuses, TEXT)}
    assert told.keys() >= {"chat", "broken", "main"}
    assert "same" not in told
    for name in ("chat", "main"):
        for condition in (ConditionType.PROGRAMMED, ConditionType.READY):
            verdict = told[name][condition]
            assert (verdict.status, verdict.reason) == ("False", "WriteRefused")
            assert TEXT in verdict.message
    assert told["broken"][ConditionType.ACCEPTED].reason == "Invalid"
    assert told["broken"][ConditionType.PROGRAMMED].reason == "KeptLastGood"


def test_fields_keep_what_pods_run() -> None:
    """A revision that was not written is not claimed."""
    world = make_world(make_virtual_model("chat"))
    world.apply(make_virtual_model("chat", current="big"))
    assert world.gateway is not None
    proved = ("Propagated", "True", "Propagated")
    world.gateway = saying(world.gateway, 1, ("Ready", "True", "Ready"), proved, revision=1, pods="2/2")
    snapshot, made = world.snapshot(), world.plan()
    wished = {status.name: status for status in made.statuses}
    (gateway,) = [status for status in refused(snapshot, made.statuses, TEXT) if status.name == "main"]
    assert wished["main"].fields["revision"] == 2
    assert gateway.fields == {"revision": 1, "pods": "2/2"}
    verdicts = {one.type: one for one in gateway.verdicts}
    assert verdicts[ConditionType.PROPAGATED].reason == "Propagated"
    world.gateway = saying(world.gateway, 1, ("Propagated", "True", "ReasonOfALaterVersion"))
    (gateway,) = [status for status in refused(world.snapshot(), made.statuses, TEXT) if status.name == "main"]
    assert {one.type: one.reason for one in gateway.verdicts}[ConditionType.PROPAGATED] == "NoSelector"
