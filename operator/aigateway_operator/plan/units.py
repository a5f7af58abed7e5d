"""Units: a document with its credentials Secret. Decides which entries go into each, within the limit of a ConfigMap.

With one shard there is one unit (`config.yml`); with more there is one for the settings and one a shard. What to do when a
unit would pass the limit is decided in `plan.fitting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aigateway_operator.plan.claims import Claim, Claims
from aigateway_operator.plan.fitting import MANIFEST_OVERHEAD_BYTES, FileBytes, Fitted, LastGood, Layout, fit, source_bytes
from aigateway_operator.render.files import LIMIT_BYTES, Document, render_config, render_models
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of


@dataclass(frozen=True, slots=True)
class Unit:
    """One document and what it holds; `shard` None: `config.yml`, and only then are there `settings`.

    size_bytes: the document and its manifest. wanted_bytes: the size that everything wanted would have, of the document or of
    the credentials, whichever is larger. held_out: models whose newest version does not fit. settings_held_out: the settings
    are the last good ones, since the newest do not fit.
    """

    shard: int | None
    document: Document
    entries: Mapping[str, Claim]
    settings: Settings | None
    size_bytes: int
    wanted_bytes: int = 0
    held_out: frozenset[str] = frozenset()
    settings_held_out: bool = False

    @property
    def fits(self) -> bool:
        """Whether it can be written. False: even the last good set is too large, and what is live stays as it is."""
        return self.size_bytes <= LIMIT_BYTES

    @property
    def sources(self) -> dict[str, str]:
        """Public model name → `name/uid8`."""
        return {model_name: claim.served.source for model_name, claim in self.entries.items()}

    def credentials(self) -> dict[str, SecretRef | None]:
        """Return every credentials file that the document names, with the Secret behind it where known."""
        named: dict[str, SecretRef | None] = dict(self.settings.credentials) if self.settings else {}
        for claim in self.entries.values():
            named.update(claim.served.entry.credentials)
        return named


@dataclass(frozen=True, slots=True)
class Rendered:
    """The manifest of a document, and what it was rendered from: the very document, so its entries and sources, and these."""

    document: Document
    lineage: str
    shards: int
    revision: int
    manifest: bytes
    digest: str

    def speaks_of(self, document: Document, lineage: str, shards: int, revision: int) -> bool:
        """Tell whether it is the manifest of that document."""
        same = self.document is document
        return same and (self.lineage, self.shards, self.revision) == (lineage, shards, revision)


@dataclass(slots=True)
class Renderings:
    """Documents rendered before, so that only dirty shards are rendered. A cache: it never changes a result.

    By shard, and by whether the set had to be fitted: a unit that is too large is composed both ways in each round.
    manifests: by shard.
    """

    known: dict[tuple[int | None, bool], Unit] = field(default_factory=dict)
    manifests: dict[int | None, Rendered] = field(default_factory=dict)


def compose_units(
    claims: Claims, settings: Settings, shards: int, last_good: LastGood, file_bytes: FileBytes, renderings: Renderings
) -> list[Unit]:
    """Return the units in the order in which they are written: shards first, `config.yml` last."""
    wanted = _lay_out(claims, shards)
    units = [_compose(shard, entries, settings, file_bytes, renderings, fitted=False) for shard, entries in wanted.items()]
    if all(unit.wanted_bytes <= LIMIT_BYTES for unit in units):
        return units
    fitted = fit(wanted, settings, last_good, shards, file_bytes)
    return [_fitted(unit, fitted, settings, file_bytes, renderings) for unit in units]


def _lay_out(claims: Claims, shards: int) -> Layout:
    """Return every winner in the shard its public name belongs to; `config.yml` comes last."""
    layout: dict[int | None, dict[str, Claim]] = {shard: {} for shard in range(shards)} if shards > 1 else {}
    layout[None] = {}
    for model_name, claim in claims.winners.items():
        layout[shard_of(model_name, shards) if shards > 1 else None][model_name] = claim
    return layout


def _fitted(unit: Unit, fitted: Fitted, settings: Settings, file_bytes: FileBytes, renderings: Renderings) -> Unit:
    """Return the unit that is written instead of `unit`, which holds all that is wanted."""
    entries = fitted.layout[unit.shard]
    composed = _compose(unit.shard, entries, fitted.settings, file_bytes, renderings, fitted=True)
    return replace(
        composed,
        wanted_bytes=unit.wanted_bytes,
        held_out=frozenset(claim.owner for name, claim in unit.entries.items() if entries.get(name) != claim),
        settings_held_out=unit.shard is None and fitted.settings != settings,
    )


def _compose(
    shard: int | None,
    entries: Mapping[str, Claim],
    settings: Settings,
    file_bytes: FileBytes,
    renderings: Renderings,
    *,
    fitted: bool,
) -> Unit:
    own_settings = settings if shard is None else None
    known = renderings.known.get((shard, fitted))
    if known is not None and known.entries == entries and known.settings == own_settings:
        unit = known
    else:
        rendered = [claim.served.entry for claim in entries.values()]
        document = render_config(settings, rendered) if shard is None else render_models(shard, rendered)
        sources = sum(map(source_bytes, entries.values()))
        unit = Unit(shard, document, entries, own_settings, len(document.content) + sources + MANIFEST_OVERHEAD_BYTES)
        renderings.known[shard, fitted] = unit
    credentials = MANIFEST_OVERHEAD_BYTES + sum(file_bytes(shard, file, ref) for file, ref in unit.credentials().items())
    return replace(unit, wanted_bytes=max(unit.size_bytes, credentials))
