"""The controller's records: each edit once, by the leader, with its trace through rendering and pods; none after a restart."""

from __future__ import annotations

from typing import Any

from aigateway_logs import OperationRecord, trace_of_generation
from aigateway_operator.kube.resources import VIRTUAL_MODELS
from tests.unit.reconcile.objects import model
from tests.unit.reconcile.test_propagation import follow, furnish
from tests.unit.reconcile.world import World, world
from tests.virtual_time import virtual


class Kept:
    """Keeps records in memory; fulfils `Recorder`."""

    def __init__(self, *, keeps_operations: bool = True) -> None:
        self.records: list[OperationRecord] = []
        self.keeps_operations = keeps_operations

    def operation_nowait(self, record: OperationRecord) -> None:
        self.records.append(record)

    def of(self, operation: str, **metadata: Any) -> list[OperationRecord]:
        """Return the records of one operation whose metadata has these values."""
        found = [record for record in self.records if record.operation == operation]
        return [record for record in found if metadata.items() <= dict(record.metadata).items()]


def trace_of(at: World, name: str = "chat") -> str:
    """Return the trace id of a model's generation now."""
    metadata = at.cluster.read(VIRTUAL_MODELS, "ai", name)["metadata"]
    return trace_of_generation(metadata["uid"], metadata["generation"])


def flip(at: World, **spec: Any) -> None:
    """Edit the model."""
    stored = at.cluster.read(VIRTUAL_MODELS, "ai", "chat")
    at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec={**stored["spec"], **spec})


@virtual
async def test_an_edit_is_told_once_with_its_fields_and_its_trace_reaches_the_pods() -> None:
    """config_update, render and rollout carry one id; the rounds that follow tell nothing again."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        await follow(at)
        furnish(at, 2)
        at.lead()
        await at.settle()
        kept.records.clear()
        flip(at, current="big")
        await at.settle(70)
    (stored,), (written,), (proved,) = kept.of("config_update"), kept.of("render"), kept.of("rollout")
    trace = trace_of(at)
    assert [record.trace_id for record in (stored, written, proved)] == [trace] * 3
    assert stored.metadata["changes"] == [{"path": "spec.current", "old": "small", "new": "big"}]
    assert (stored.metadata["previous_version"], stored.metadata["new_version"]) == (1, 2)
    assert stored.status == written.status == proved.status == "success"
    assert written.metadata["traces"] == proved.metadata["traces"] == [trace]
    assert (proved.metadata["desired"], proved.metadata["updated"]) == (2, 2)


@virtual
async def test_a_burst_is_one_revision_that_lists_every_trace() -> None:
    """Nothing of a burst is lost, though it is rendered once."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        at.lead()
        await at.settle()
        kept.records.clear()
        for number in range(20):
            at.cluster.make(VIRTUAL_MODELS, model(f"m{number}"))
        await at.settle()
        expected = {trace_of(at, f"m{number}") for number in range(20)}
    assert {record.trace_id for record in kept.of("config_update", change_type="create")} == expected
    told = [trace for record in kept.of("render") for trace in record.metadata["traces"]]
    assert sorted(told) == sorted(expected)


@virtual
async def test_an_edit_that_rules_refuse_is_told_as_failure_with_the_reason() -> None:
    """The webhook was down: the object is stored and not accepted."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        at.lead()
        await at.settle()
        flip(at, current="none")
        await at.settle()
    (refused,) = [record for record in kept.of("config_update") if record.status == "failure"]
    assert refused.response_data is not None
    assert "Invalid" in refused.response_data["message"]


@virtual
async def test_who_begins_to_lead_tells_only_what_status_does_not_know() -> None:
    """A restart tells nothing anew; an edit made meanwhile is told once, although what was there before is not known."""
    first = Kept()
    async with world(World(recorder=first)) as at:
        at.furnish()
        at.lead()
        await at.settle()
    later = Kept()
    async with world(World(at.cluster, recorder=later)) as again:
        again.lead()
        await again.settle()
        assert later.of("config_update") == later.of("rollout") == []
    flip(at, current="big")
    last = Kept()
    async with world(World(at.cluster, recorder=last)) as third:
        third.lead()
        await third.settle()
    (told,) = last.of("config_update")
    assert (told.trace_id, told.metadata["new_version"]) == (trace_of(at), 2)


@virtual
async def test_a_standby_tells_nothing_and_remembers_nothing() -> None:
    """Or every edit would be told as often as there are replicas."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.stand_by()
        at.furnish()
        await at.settle()
        assert kept.records == []
        at.lead()
        await at.settle()
        assert len(kept.of("config_update")) == 2, "model and gateway"


@virtual
async def test_a_deletion_is_told_as_such() -> None:
    """By the trace of what was deleted."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        at.lead()
        await at.settle()
        trace = trace_of(at)
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat")
        await at.settle()
    (gone,) = kept.of("config_update", change_type="delete")
    assert gone.trace_id == trace
    assert trace in kept.of("render")[-1].metadata["traces"]


@virtual
async def test_pods_that_stay_behind_are_told_once() -> None:
    """A rollout that does not end is news once, not every round."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        furnish(at, 1)
        at.lead()
        await at.settle(200)
    failed = [record for record in kept.of("rollout") if record.status == "failure"]
    assert len(failed) == 1
    assert failed[0].metadata["stragglers"] or failed[0].metadata["unreachable"]


@virtual
async def test_while_a_pod_stays_behind_each_edit_is_named_once_and_once_more_when_all_run_it() -> None:
    """One pod that hangs for a week must not make every record list every edit since; what was proved late is still told."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        await follow(at)
        furnish(at, 1)
        at.lead()
        await at.settle(30)
        kept.records.clear()
        at.fleet.frozen.add("gateway-0")
        traces = []
        for number in range(5):
            flip(at, current=("big", "small")[number % 2])
            await at.settle(30)
            traces.append(trace_of(at))
        failed = [record.metadata["traces"] for record in kept.of("rollout")]
        assert failed == [[trace] for trace in traces]
        kept.records.clear()
        at.fleet.frozen.clear()
        await at.settle(200)
    (proved,) = kept.of("rollout")
    assert proved.status == "success"
    assert proved.metadata["traces"] == traces


@virtual
async def test_where_nobody_keeps_records_none_is_made_and_what_was_missed_is_not_made_up_for() -> None:
    """Making them takes longer than a round of a burst takes to plan; once somebody keeps them, it begins with what is new."""
    kept = Kept(keeps_operations=False)
    async with world(World(recorder=kept)) as at:
        at.furnish()
        at.lead()
        await at.settle()
        flip(at, current="big")
        at.cluster.make(VIRTUAL_MODELS, model("late"))
        await at.settle()
        at.cluster.remove(VIRTUAL_MODELS, "ai", "late")
        await at.settle()
        assert not kept.records
        kept.keeps_operations = True
        flip(at, current="small")
        await at.settle()
    assert [record.trace_id for record in kept.of("config_update")] == [trace_of(at)]
    assert [record.metadata["traces"] for record in kept.of("render")] == [[trace_of(at)]]
