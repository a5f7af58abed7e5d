"""What pods are served once the writes of a round are done: the last good of the next round. Called by `planner` alone.

Where the round before said what is served now, only units that are other objects since are gone through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from aigateway_operator.plan import names
from aigateway_operator.plan.changes import Renewed, changed_keys
from aigateway_operator.plan.claims import Claim
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.snapshot import Served, Snapshot
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of

Landed = tuple[Unit, int]
"""A unit that pods get, and the revision of its document."""


@dataclass(slots=True)
class Serving:
    """The units that made up what the last plan said is served. A cache: it never changes a result."""

    served: Mapping[str, Served] | None = None
    landed: dict[int | None, Landed] = field(default_factory=dict)

    def after(self, snapshot: Snapshot, outcome: Outcome) -> Mapping[str, Served]:
        """Return what is served after the writes: the very mapping of now where nothing of it changes.

        What is in a document of ours that is not written stays; then come the documents that are, since a model may have moved
        from one to another.
        """
        landed = {unit.shard: (unit, outcome.revisions[unit.shard]) for unit in outcome.units if outcome.lands(unit)}
        everywhere = len(landed) == len(outcome.units) and self.landed.keys() == landed.keys()
        if everywhere and self.served is snapshot.served:
            after = _renew(snapshot, self.landed, landed)
        else:
            served = {**_stays(snapshot, outcome), **_served(snapshot, landed.values())}
            changed = changed_keys(snapshot.served, served)
            after = Renewed(served, snapshot.served, changed) if changed else snapshot.served
        self.served, self.landed = after, landed
        return after


def _renew(snapshot: Snapshot, known: Mapping[int | None, Landed], landed: Mapping[int | None, Landed]) -> Mapping[str, Served]:
    """Return what is served from the units that changed: the same claim was served with its revision before."""
    dirty = [shard for shard, one in landed.items() if known[shard][0] is not one[0]]
    gone, now = set[str](), dict[str, Served]()
    for shard in dirty:
        before, (unit, revision) = known[shard][0].entries, landed[shard]
        gone |= {claim.owner for name, claim in before.items() if unit.entries.get(name) is not claim}
        moved = (claim for name, claim in unit.entries.items() if before.get(name) is not claim)
        now |= {claim.owner: _with_revision(claim, snapshot, revision) for claim in moved}
    gone -= now.keys()
    put = {name: one for name, one in now.items() if snapshot.served.get(name) is not one}
    if not put and not gone:
        return snapshot.served
    served = {**snapshot.served, **put}
    for name in gone:
        served.pop(name, None)
    return Renewed(served, snapshot.served, {*put, *gone})


def _served(snapshot: Snapshot, landed: Iterable[Landed]) -> dict[str, Served]:
    return {
        claim.owner: _with_revision(claim, snapshot, revision) for unit, revision in landed for claim in unit.entries.values()
    }


def _stays(snapshot: Snapshot, outcome: Outcome) -> dict[str, Served]:
    stays = {unit.shard for unit in outcome.units if not outcome.lands(unit) and _is_live(snapshot, unit)}
    served: dict[str, Served] = {}
    for owner, before in snapshot.served.items() if stays else ():
        if (shard_of(before.entry.model_name, outcome.shards) if outcome.shards > 1 else None) in stays:
            served[owner] = before
    return served


def _is_live(snapshot: Snapshot, unit: Unit) -> bool:
    live = snapshot.config_maps.get(names.config_map_name(snapshot.key.name, unit.shard))
    return live is not None and live.ours


def _with_revision(claim: Claim, snapshot: Snapshot, current: int) -> Served:
    """Return what is served by a claim, with the revision at which it last changed; `current`: that of its document.

    What nobody remembers is taken from the status, if that speaks of this generation and can be true.
    """
    before = snapshot.served.get(claim.owner)
    if before is None or (before.entry.model_name, before.entry.text) != (claim.name, claim.served.entry.text):
        return replace(claim.served, revision=current)
    if before.revision is not None and before == claim.served:
        return before
    stored = snapshot.models.get(claim.owner)
    speaks = stored is not None and stored.told("observedGeneration") == stored.generation
    told = stored.told("revision") if stored is not None and speaks else 0
    return replace(claim.served, revision=before.revision or (told if 0 < told <= current else current))


def settings_after(snapshot: Snapshot, outcome: Outcome) -> Settings | None:
    """Return the settings that pods have once the writes are done."""
    unit = outcome.units[-1]
    if outcome.lands(unit):
        return unit.settings
    return snapshot.settings if _is_live(snapshot, unit) else None
