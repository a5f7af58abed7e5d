"""What a round says a moment after its documents: nothing of it is lost by what happens in that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS
from aigateway_operator.plan import planner, statuses
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.snapshot import Snapshot
from tests.unit.reconcile.test_journal import Kept, flip
from tests.unit.reconcile.world import World, world
from tests.virtual_time import virtual


async def written(at: World, backend: str = "big") -> None:
    """Wait until a document is written, and not a millisecond longer."""
    for _ in range(1000):
        if at.served()["chat"]["current"] == backend:
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("the edit was not served")


@virtual
async def test_a_stop_right_after_a_write_leaves_its_record() -> None:
    """An update of the operator must not make a hole in the audit trail: the next process finds nothing to write."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        await at.settle()
        kept.records.clear()
        flip(at, current="big")
        await written(at)
        assert kept.of("render") == [], "else this shows nothing"
    assert [record.metadata["revision"] for record in kept.of("render")] == [2]


@virtual
async def test_a_loss_of_leadership_right_after_a_write_leaves_its_record_and_writes_no_status() -> None:
    """What a former leader wishes for is the next one's business, and is said again when it leads again."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        await at.settle()
        kept.records.clear()
        rounds = at.controller.rounds["changed"]
        flip(at, current="big")
        await written(at)
        while at.controller.rounds["changed"] == rounds:
            await asyncio.sleep(0.0005)
        at.stand_by()
        said = at.cluster.count("patch_status")
        await asyncio.sleep(30)
        assert at.cluster.count("patch_status") == said
        assert at.controller.statuses.idle, "wishes of a former leader"
        assert [record.metadata["revision"] for record in kept.of("render")] == [2]
        at.lead()
        await at.settle()
        assert at.condition("Ready") == ("True", "Ready")
        assert at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["status"]["revision"] == 2
        assert at.cluster.count("replace", CONFIG_MAPS) == 1


@virtual
async def test_a_round_that_begins_at_once_after_another_takes_nothing_from_it() -> None:
    """An edit that comes while the documents of one before are written slowly has waited long enough when they are."""
    kept = Kept()
    async with world(World(recorder=kept)) as at:
        at.furnish()
        await at.settle()
        kept.records.clear()
        gate = at.cluster.hang("replace", resource=CONFIG_MAPS)
        flip(at, current="big")
        await asyncio.sleep(0.01)
        flip(at, current="small")
        await asyncio.sleep(1.2)
        gate.set()
        await at.settle()
        assert [record.metadata["revision"] for record in kept.of("render")] == [2, 3]
        assert at.controller.rounds["fault"] == 0
        assert at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["status"]["revision"] == 3
        assert at.condition("Ready") == ("True", "Ready")


@virtual
async def test_what_could_not_be_told_is_told_by_another_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in the making of statuses: the documents are written, and nothing else would wake the gateway."""
    make, faults = statuses.statuses, 0

    def broken(snapshot: Snapshot, memo: Memo, outcome: Outcome) -> Iterator[StatusWrite]:
        nonlocal faults
        for number, status in enumerate(make(snapshot, memo, outcome)):
            if faults and number:
                faults -= 1
                raise RuntimeError("a fault of ours")
            yield status

    async with world() as at:
        at.furnish()
        await at.settle()
        monkeypatch.setattr(planner, "statuses", broken)
        faults = 1
        flip(at, current="big")
        await written(at)
        await at.settle(60)
        assert (faults, at.controller.rounds["fault"]) == (0, 1)
        assert at.condition("Ready") == ("True", "Ready")
        assert at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["status"]["revision"] == 2
        assert at.cluster.count("replace", CONFIG_MAPS) == 1
