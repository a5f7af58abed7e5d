"""What lands when not everything fits: the last good set, less what was deleted, with as much of the new as there is room for.

Nothing is truncated and nothing that is served vanishes. Edits of served models come first, all together if they fit, else
the ones that grow least; then new models, the smallest first. So the same set comes out in every round, and one model that
is too large keeps out itself and no other. Pure arithmetic: nothing is rendered here. Called by `plan.units`.
Source: docs/concepts.md#limits; docs/decisions.md#documents-and-plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aigateway_operator.plan.claims import Claim, still_allowed
from aigateway_operator.plan.snapshot import Served
from aigateway_operator.render.canonical import encode_text, encode_texts
from aigateway_operator.render.files import LIMIT_BYTES, render_config, render_models
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of
from aigateway_operator.rules import RuleContext

MANIFEST_OVERHEAD_BYTES: Final = 512
"""Room for the fixed part of a manifest; what it lists is counted beside."""
_LINE_BYTES: Final = 3
"""What a model's line has beside name and entry: colon, comma, newline."""

Layout = Mapping[int | None, dict[str, Claim]]
"""Shard → public name → claim; None stands for `config.yml`."""
FileBytes = Callable[[int | None, str, SecretRef | None], int]
"""Bytes that a credentials file takes in the Secret of a shard, its line in the manifest included."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """What pods have now, and the rules that it must still satisfy to be kept."""

    served: Mapping[str, Served]
    settings: Settings | None
    context: RuleContext


@dataclass(frozen=True, slots=True)
class Fitted:
    """What lands."""

    layout: Layout
    settings: Settings


def source_bytes(claims: Collection[Claim]) -> int:
    """Return the bytes that models take in the manifest of their document: `"name":"source",` each."""
    names = "".join(encode_texts([claim.name for claim in claims]))
    return len(names.encode()) + sum(len(claim.source) + 4 for claim in claims)


@dataclass(slots=True)
class _Load:
    """Bytes of one unit, kept true while models are put in and taken out."""

    shard: int | None
    file_bytes: FileBytes
    document: int = MANIFEST_OVERHEAD_BYTES
    credentials: int = MANIFEST_OVERHEAD_BYTES
    _uses: Counter[str] = field(default_factory=Counter)

    def put(self, claim: Claim) -> None:
        self.document += _claim_bytes(claim)
        self.use(claim.entry.credentials)

    def use(self, credentials: Mapping[str, SecretRef | None]) -> None:
        for file, ref in credentials.items():
            self._uses[file] += 1
            if self._uses[file] == 1:
                self.credentials += self.file_bytes(self.shard, file, ref)

    def take(self, claim: Claim) -> None:
        self.document -= _claim_bytes(claim)
        for file, ref in claim.entry.credentials.items():
            self._uses[file] -= 1
            if self._uses[file] == 0:
                self.credentials -= self.file_bytes(self.shard, file, ref)

    @property
    def size(self) -> tuple[int, int]:
        return self.document, self.credentials

    def allows(self, before: tuple[int, int]) -> bool:
        """Tell whether the unit fits, or at least did not grow from `before` where it does not."""
        return all(now <= max(LIMIT_BYTES, then) for now, then in zip(self.size, before, strict=True))


def _claim_bytes(claim: Claim) -> int:
    line = len(encode_text(claim.name).encode()) + len(claim.entry.text.encode()) + _LINE_BYTES
    return line + source_bytes((claim,))


def fit(wanted: Layout, settings: Settings, last_good: LastGood, shards: int, file_bytes: FileBytes) -> Fitted:
    """Return what lands of `wanted`, of which something does not fit. `shards`: number of shards, 1 for none."""
    claims = [claim for entries in wanted.values() for claim in entries.values()]
    base = _as_served(claims, wanted, last_good, shards)
    chosen = settings
    if last_good.settings is not None:
        then, now = _loads(base, last_good.settings, file_bytes), _loads(base, settings, file_bytes)
        chosen = settings if now[None].allows(then[None].size) else last_good.settings
    placed = {claim.owner for entries in base.values() for claim in entries.values()}
    edited: Layout = {
        shard: {name: claim for name, claim in entries.items() if claim.owner in placed} for shard, entries in wanted.items()
    }
    before, after = _loads(base, chosen, file_bytes), _loads(edited, chosen, file_bytes)
    layout = edited if all(after[shard].allows(load.size) for shard, load in before.items()) else base
    _move_in(layout, claims, _loads(layout, chosen, file_bytes), shards)
    return Fitted(layout, chosen)


def _as_served(claims: Iterable[Claim], wanted: Layout, last_good: LastGood, shards: int) -> Layout:
    """Return every model in the place it has now, less those that are gone, lost their name, or break rules meanwhile."""
    layout: Layout = {shard: {} for shard in wanted}
    for claim in sorted(claims, key=lambda claim: claim.owner):
        before = last_good.served.get(claim.owner)
        if before is None or before.source != claim.source:
            continue
        same = claim.entry == before.entry
        if same or still_allowed(before, last_good.context):
            place = layout[_shard_of(before.entry.model_name, shards)]
            stays = claim if same else Claim(claim.owner, before.entry, before.source, kept=True)
            place.setdefault(before.entry.model_name, stays)
    return layout


def _move_in(layout: Layout, claims: Iterable[Claim], loads: Mapping[int | None, _Load], shards: int) -> None:
    """Put in what there is room for, served models before new ones, until nothing more goes in."""
    places = {claim.owner: claim for entries in layout.values() for claim in entries.values()}
    pending = [claim for claim in claims if places.get(claim.owner) != claim]
    pending.sort(key=lambda claim: _cost(claim, places.get(claim.owner)))
    while pending:
        left = [claim for claim in pending if not _move(claim, places, layout, loads, shards)]
        if len(left) == len(pending):
            break
        pending = left


def _cost(claim: Claim, now: Claim | None) -> tuple[bool, int, str]:
    growth = _claim_bytes(claim) - (_claim_bytes(now) if now is not None else 0)
    return now is None, growth, claim.name


def _move(claim: Claim, places: dict[str, Claim], layout: Layout, loads: Mapping[int | None, _Load], shards: int) -> bool:
    """Put a model where it wants to be, if the place is free and there is room; tell whether it is there."""
    shard, now = _shard_of(claim.name, shards), places.get(claim.owner)
    entries, load = layout[shard], loads[shard]
    holder = entries.get(claim.name)
    if holder is not None and holder.owner != claim.owner:
        return False
    before = load.size
    if now is not None:
        loads[_shard_of(now.name, shards)].take(now)
    load.put(claim)
    if not load.allows(before):
        load.take(claim)
        if now is not None:
            loads[_shard_of(now.name, shards)].put(now)
        return False
    if now is not None:
        del layout[_shard_of(now.name, shards)][now.name]
    entries[claim.name] = places[claim.owner] = claim
    return True


def _loads(layout: Layout, settings: Settings, file_bytes: FileBytes) -> dict[int | None, _Load]:
    return {shard: _load(shard, entries.values(), settings, file_bytes) for shard, entries in layout.items()}


def _load(shard: int | None, claims: Iterable[Claim], settings: Settings, file_bytes: FileBytes) -> _Load:
    load = _Load(shard, file_bytes)
    if shard is None:
        load.document += render_config(settings, ()).size_bytes
        load.use(settings.credentials)
    else:
        load.document += render_models(shard, ()).size_bytes
    for claim in claims:
        load.put(claim)
    return load


def _shard_of(model_name: str, shards: int) -> int | None:
    return shard_of(model_name, shards) if shards > 1 else None
