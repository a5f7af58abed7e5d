"""What pods are served once the writes of a round are done: the last good of the next round. Called by `planner` alone.

Where the round before said what is served now, only units that are other objects since are gone through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aigateway_operator.plan import names
from aigateway_operator.plan.changes import Renewed, changed_keys
from aigateway_operator.plan.claims import Claim
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.snapshot import Served, Snapshot
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of


@dataclass(slots=True)
class Serving:
    """The units that made up what the last plan said is served, none if not all of them landed. It never changes a result."""

    served: Mapping[str, Served] | None = None
    units: list[Unit] = field(default_factory=list)

    def after(self, snapshot: Snapshot, outcome: Outcome) -> Mapping[str, Served]:
        """Return what is served after the writes: the very mapping of now where nothing of it changes.

        What is in a document of ours that is not written stays; then come the documents that are, since a model may have moved
        from one to another.
        """
        everywhere = outcome.everything_lands
        if everywhere and len(self.units) == len(outcome.units) and self.served is snapshot.served:
            after = _renew(snapshot, self.units, outcome)
        else:
            served = {**_stays(snapshot, outcome), **_served(snapshot, outcome)}
            changed = changed_keys(snapshot.served, served)
            after = Renewed(snapshot.served, {name: served.get(name) for name in changed}) if changed else snapshot.served
        self.served, self.units = after, outcome.units if everywhere else []
        return after


def _renew(snapshot: Snapshot, known: list[Unit], outcome: Outcome) -> Mapping[str, Served]:
    """Return what is served from the units that changed: the same claim was served with its revision before."""
    gone, now = set[str](), dict[str, Served]()
    for was, unit in zip(known, outcome.units, strict=True):
        if was is unit:
            continue
        before, revision = was.entries, outcome.revisions[unit.shard]
        gone |= {claim.owner for name, claim in before.items() if unit.entries.get(name) is not claim}
        moved = (claim for name, claim in unit.entries.items() if before.get(name) is not claim)
        now |= {claim.owner: _with_revision(claim, snapshot, revision) for claim in moved}
    changes: dict[str, Served | None] = {name: one for name, one in now.items() if snapshot.served.get(name) is not one}
    changes |= dict.fromkeys(gone - now.keys())
    return Renewed(snapshot.served, changes) if changes else snapshot.served


def _served(snapshot: Snapshot, outcome: Outcome) -> dict[str, Served]:
    return {
        claim.owner: _with_revision(claim, snapshot, outcome.revisions[unit.shard])
        for unit in outcome.units
        if outcome.lands(unit)
        for claim in unit.entries.values()
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
    if before is None or (before.entry.model_name, before.entry.text) != (claim.name, claim.entry.text):
        return Served(claim.entry, claim.source, current)
    if before.revision is not None and (before.entry, before.source) == (claim.entry, claim.source):
        return before
    stored = snapshot.models.get(claim.owner)
    speaks = stored is not None and stored.told("observedGeneration") == stored.generation
    told = stored.told("revision") if stored is not None and speaks else 0
    return Served(claim.entry, claim.source, before.revision or (told if 0 < told <= current else current))


def settings_after(snapshot: Snapshot, outcome: Outcome) -> Settings | None:
    """Return the settings that pods have once the writes are done."""
    unit = outcome.units[-1]
    if outcome.lands(unit):
        return unit.settings
    return snapshot.settings if _is_live(snapshot, unit) else None
