"""Units: a document with its credentials Secret. Decides which entries go into each, within the limit of a ConfigMap.

With one shard there is one unit (`config.yml`); with more there is one for the settings and one a shard. What to do when a
unit would pass the limit is decided in `plan.fitting`. Only units of which something changed are composed; the others are the
very objects of the round before, by which whoever made something from one knows that it still holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

from aigateway_operator.plan.changes import identical
from aigateway_operator.plan.claims import Claim, Claims
from aigateway_operator.plan.credentials import file_bytes
from aigateway_operator.plan.fitting import MANIFEST_OVERHEAD_BYTES, Fitted, LastGood, fit, source_bytes
from aigateway_operator.plan.names import credentials_name
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import LiveObject, Snapshot
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.files import LIMIT_BYTES, render_config, render_models
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of

Entries = Mapping[str, Claim]
_WANTED_BYTES = attrgetter("wanted_bytes")


@dataclass(frozen=True, slots=True)
class _Composed:
    """A unit, and what its size was told from: the live credentials Secret, and the states of the Secrets it names.

    as_of: the round's mapping of all Secrets in which those states were last looked up.
    """

    unit: Unit
    live: LiveObject | None
    states: tuple[SecretState | None, ...]
    as_of: Mapping[str, SecretState]


@dataclass(slots=True)
class Composer:
    """Documents rendered before, so that only dirty shards are rendered. A cache: it never changes a result.

    By shard, and by whether the set had to be fitted: a unit that is too large is composed both ways in each round.
    wanted: the units that hold all that is wanted; of what they were made from but their entries, `made_from` is the same.
    """

    _known: dict[tuple[int | None, bool], _Composed] = field(default_factory=dict)
    _layout: dict[int | None, Entries] = field(default_factory=dict)
    _shards: int = 0
    _wanted: dict[int | None, Unit] = field(default_factory=dict)
    _made_from: tuple[object, ...] = ()

    def compose(self, snapshot: Snapshot, claims: Claims, settings: Settings, shards: int) -> list[Unit]:
        """Return the units in the order in which they are written: shards first, `config.yml` last."""
        dirty, made_from = self._lay_out(claims, shards), (settings, snapshot.secrets, snapshot.secrets_live)
        if not identical(self._made_from, made_from):
            dirty, self._made_from = self._layout.keys(), made_from
        for shard in dirty:
            self._wanted[shard] = self._compose(snapshot, shard, self._layout[shard], settings, fitted=False)
        units = [self._wanted[shard] for shard in self._layout]
        if max(map(_WANTED_BYTES, units)) <= LIMIT_BYTES:
            if len(self._known) > len(units):
                self._known = {place: composed for place, composed in self._known.items() if not place[1]}
            return units
        last_good = LastGood(snapshot.served, snapshot.settings, snapshot.context)

        def sizes(shard: int | None, file: str, ref: SecretRef | None) -> int:
            return file_bytes(snapshot, shard, file, ref)

        wanted = {shard: dict(entries) for shard, entries in self._layout.items()}
        fitted = fit(wanted, settings, last_good, shards, sizes)
        return [self._fitted(snapshot, unit, fitted, settings) for unit in units]

    def _lay_out(self, claims: Claims, shards: int) -> Collection[int | None]:
        """Put every winner into the shard its public name belongs to, `config.yml` last; return the shards that changed."""
        moved = claims.moved
        if shards != self._shards:
            self._layout = {shard: {} for shard in range(shards)} if shards > 1 else {}
            self._layout[None], self._shards, moved = {}, shards, claims.moved | claims.winners.keys()
            self._known.clear()
            self._wanted.clear()
            self._made_from = ()
        renewed: dict[int | None, dict[str, Claim]] = {}
        for name in moved:
            shard = shard_of(name, shards) if shards > 1 else None
            if shard not in renewed:
                renewed[shard] = dict(self._layout[shard])
            claim = claims.winners.get(name)
            if claim is None:
                renewed[shard].pop(name, None)
            else:
                renewed[shard][name] = claim
        self._layout.update(renewed)
        claims.moved.clear()
        return renewed.keys()

    def _fitted(self, snapshot: Snapshot, unit: Unit, fitted: Fitted, settings: Settings) -> Unit:
        """Return the unit that is written instead of `unit`, which holds all that is wanted."""
        entries = fitted.layout[unit.shard]
        composed = self._compose(snapshot, unit.shard, entries, fitted.settings, fitted=True)
        return replace(
            composed,
            wanted_bytes=unit.wanted_bytes,
            held_out=frozenset(claim.owner for name, claim in unit.entries.items() if entries.get(name) != claim),
            settings_held_out=unit.shard is None and fitted.settings != settings,
        )

    def _compose(self, snapshot: Snapshot, shard: int | None, entries: Entries, settings: Settings, *, fitted: bool) -> Unit:
        own_settings = settings if shard is None else None
        known = self._known.get((shard, fitted))
        unit = known.unit if known is not None and _same(known.unit, entries, own_settings) else None
        unit = unit or _render(shard, entries, settings)
        live = snapshot.secrets_live.get(credentials_name(snapshot.key.name, shard))
        same_sizes = known is not None and known.live is live
        if known is not None and known.unit is unit and same_sizes and known.as_of is snapshot.secrets:
            return unit
        states = tuple(map(snapshot.secrets.get, unit.secrets))
        if known is not None and known.unit is unit and same_sizes and identical(known.states, states):
            self._known[shard, fitted] = replace(known, as_of=snapshot.secrets)
            return unit
        sizes = sum(file_bytes(snapshot, shard, file, ref) for file, ref in unit.credentials.items())
        # Another object even if the sizes are the same: what was made from the one before may be out of date.
        unit = replace(unit, wanted_bytes=max(unit.size_bytes, MANIFEST_OVERHEAD_BYTES + sizes))
        self._known[shard, fitted] = _Composed(unit, live, states, snapshot.secrets)
        return unit


def _same(unit: Unit, entries: Entries, settings: Settings | None) -> bool:
    return (unit.entries is entries or unit.entries == entries) and unit.settings == settings


def _render(shard: int | None, entries: Entries, settings: Settings) -> Unit:
    rendered = [claim.entry for claim in entries.values()]
    document = render_config(settings, rendered) if shard is None else render_models(shard, rendered)
    credentials: dict[str, SecretRef | None] = dict(settings.credentials) if shard is None else {}
    for entry in rendered:
        credentials.update(entry.credentials)
    return Unit(
        shard,
        document,
        entries,
        settings if shard is None else None,
        document.size_bytes + source_bytes(entries.values()) + MANIFEST_OVERHEAD_BYTES,
        credentials,
        tuple({ref.secret: None for ref in credentials.values() if ref is not None}),
    )
