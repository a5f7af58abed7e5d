"""What a round costs, counted in calls and not in time: it follows what changed, and not how many models there are."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from aigateway_operator.plan import known, statuses, units, writing
from aigateway_operator.plan.changes import Renewed
from aigateway_operator.plan.memo import referenced_secrets
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.result import Plan
from aigateway_operator.plan.snapshot import Snapshot
from tests.builders import (
    World,
    apply_plan,
    make_backend,
    make_gateway_config,
    make_secret_state,
    make_virtual_model,
)

PER_SHARD = 50
COUNTED = {
    "assessed": (known, "assess_model"),
    "documents": (units, "_render"),
    "manifests": (writing, "render_manifest"),
    "credentials": (writing, "credentials_of"),
    "statuses": (statuses, "_model_status"),
}


class Gateway(World):
    """Plans once where tests plan twice and compare."""

    def plan(self) -> Plan:
        snapshot = self.snapshot()
        referenced_secrets(snapshot, self.memo)
        return plan(snapshot, self.memo, self.now)

    def round(self) -> Plan:
        made = self.plan()
        assert self.gateway is not None
        apply_plan(self.objects, made, self.gateway)
        self.served, self.settings, self.unreferenced_since = made.served, made.settings, made.unreferenced_since
        for status in made.statuses:
            self._write_status(status)
        return made


def gateway(shards: int) -> Gateway:
    """Return a gateway at rest, each model with a Secret of its own."""
    world = Gateway()
    world.apply(make_gateway_config(delivery={"shards": shards}))
    for number in range(shards * PER_SHARD):
        world.secrets[f"key-{number}"] = make_secret_state(proxy="caller")
        ref = {"name": f"key-{number}", "key": "proxy"}
        world.apply(make_virtual_model(f"m{number}", proxyKeySecretRef=ref, backends=[make_backend()]))
    while world.round().writes or world.round().statuses[:-1]:
        pass
    return world


def edit(world: World, model: str = "m7", upstream: str = "another") -> None:
    """Edit one model; the name of its Secret stays."""
    spec = world.models[model].parse_spec()
    world.apply(make_virtual_model(model, proxyKeySecretRef=spec["proxyKeySecretRef"], backends=[make_backend(model=upstream)]))


def test_an_edit_costs_one_model_and_its_shard_among_two_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is assessed, rendered or said of any other model; the round after it looks at the written shard once more."""
    world, calls = gateway(shards=40), Counter[str]()
    for name, (module, function) in COUNTED.items():
        monkeypatch.setattr(module, function, _counting(getattr(module, function), name, calls))
    edit(world)
    made = world.round()
    assert [write.kind for write in made.writes] == ["ConfigMap"]
    assert [status.name for status in made.statuses] == ["m7", "main"]
    assert calls == {"assessed": 1, "documents": 1, "manifests": 1, "credentials": 1, "statuses": 1}
    calls.clear()
    assert world.round().writes == ()
    assert calls == {"credentials": 1, "statuses": 1}, "what was written is compared once, and the status that was written"
    calls.clear()
    world.secrets["key-9"] = make_secret_state(proxy="rotated")
    assert [write.kind for write in world.round().writes] == ["Secret"]
    assert calls == {"credentials": 1}


def _counting(real: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **named: Any) -> Any:
        calls[name] += 1
        return real(*arguments, **named)

    return counting


def test_calls_of_a_round_grow_with_shards_and_not_with_models() -> None:
    """The same edit in a gateway of twice the size: a few calls more for each further document, none for each model."""
    counts, size = [], None
    for shards in (8, 16):
        world = gateway(shards)
        held = [unit for unit in map(world.manifest, range(shards)) if size in {None, len(unit["sources"])}]
        size, model = len(held[0]["sources"]), next(iter(held[0]["sources"]))
        edit(world, model)
        counts.append(_calls_of(world, world.snapshot(), model))
    assert counts[1] - counts[0] < 8 * 10, f"{counts}: more than 10 calls for each of 8 further shards of {PER_SHARD} models"


def test_no_mapping_of_all_models_is_gone_through_for_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither copied nor compared nor counted, also where C does it: ten thousand of them are cold when an edit comes."""
    world, walks = gateway(shards=8), list[str]()
    edit(world)
    snapshot = world.snapshot()
    for way in ("whole", "_merged", "__iter__", "items", "values"):
        monkeypatch.setattr(Renewed, way, _noting(getattr(Renewed, way), way, walks))
    referenced_secrets(snapshot, world.memo)
    made = plan(snapshot, world.memo, world.now)
    assert [write.kind for write in made.writes] == ["ConfigMap"]
    assert [status.name for status in made.statuses] == ["m7", "main"]
    assert walks == []
    assert isinstance(made.served, Renewed)
    assert isinstance(snapshot.served, Renewed)
    assert made.served.shared is snapshot.served.shared, "what is served is another copy"
    assert made.served["m7"] is not snapshot.served["m7"]


def _noting(real: Callable[..., Any], way: str, walks: list[str]) -> Callable[..., Any]:
    def noting(mapping: Renewed[str, object]) -> Any:
        walks.append(way)
        return real(mapping)

    return noting


def _calls_of(world: World, snapshot: Snapshot, model: str) -> int:
    """Count the calls of the operator's own functions in a plan and its statuses, each step of a generator being one."""
    count = 0

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call" and "aigateway_operator" in frame.f_code.co_filename

    sys.setprofile(note)
    try:
        referenced_secrets(snapshot, world.memo)
        said = plan(snapshot, world.memo, world.now).statuses
    finally:
        sys.setprofile(None)
    assert [status.name for status in said] == [model, "main"]
    return count
