"""One unit → the writes of its ConfigMap and its credentials Secret, if they differ from what is live.

What a unit and the live objects were found to agree on is remembered by identity, so that a unit of which nothing changed
costs a few comparisons. Called by `planner` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from aigateway_config import documents
from aigateway_operator.plan import names
from aigateway_operator.plan.changes import identical
from aigateway_operator.plan.credentials import CredentialSet, credentials_of
from aigateway_operator.plan.numbers import Numbers, highest_live
from aigateway_operator.plan.outcome import Outcome, WrittenDocument
from aigateway_operator.plan.result import Write
from aigateway_operator.plan.snapshot import LiveObject, Snapshot, Stored
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.files import Document, render_credentials_manifest, render_manifest

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A document with its manifest, and what that was rendered from: the very document, so its entries and sources, and these.

    digest: of the manifest.
    """

    written: WrittenDocument
    lineage: str
    shards: int
    digest: str

    def speaks_of(self, document: Document, lineage: str, shards: int, revision: int) -> bool:
        """Tell whether it is the manifest of that document."""
        same = self.written.document is document
        return same and (self.lineage, self.shards, self.written.revision) == (lineage, shards, revision)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit goes: what is live there, None where nothing is."""

    config_map_name: str
    secret_name: str
    config_map: LiveObject | None
    secret: LiveObject | None


@dataclass(frozen=True, slots=True)
class Settled:
    """That these agree: nothing is to be written and nothing falls due, whatever the time is. Compared by identity."""

    unit: Unit
    place: Place
    written: WrittenDocument
    credentials_revision: int

    def is_live(self, snapshot: Snapshot) -> bool:
        """Tell whether what is live is what was found to agree."""
        place = self.place
        return (
            snapshot.config_maps.get(place.config_map_name) is place.config_map
            and snapshot.secrets_live.get(place.secret_name) is place.secret
        )


@dataclass(slots=True)
class Ledger:
    """What rounds remember of their writes, by shard. A cache: it never changes a result.

    settled: under these conditions: uid of the GatewayConfig, number of shards, files of the mirror's own. live: the mappings
    of live objects that agree with all of it; highest: the highest numbers in them, as `numbers.highest_live`.
    """

    manifests: dict[int | None, Rendered] = field(default_factory=dict)
    settled: dict[int | None, Settled] = field(default_factory=dict)
    conditions: tuple[str, int, Mapping[str, bytes | None]] | None = field(default=None, repr=False)
    live: tuple[Mapping[str, LiveObject], ...] = ()
    highest: tuple[int, int] = 0, 0

    def begin(self, snapshot: Snapshot, lineage: str, shards: int, own: Mapping[str, bytes | None]) -> None:
        """Forget what was settled under other conditions, or does not agree with what is live now."""
        if self.conditions != (lineage, shards, own):
            self.settled.clear()
            self.conditions = lineage, shards, own
        live = snapshot.config_maps, snapshot.secrets_live
        if not identical(self.live, live):
            self.settled = {shard: settled for shard, settled in self.settled.items() if settled.is_live(snapshot)}
            self.live, self.highest = live, highest_live(snapshot)


@dataclass(slots=True)
class Writing:
    """The writes of one round, gathered unit by unit.

    unreferenced: as in `Snapshot`. wakes: seconds until something falls due. drops_only: what is written of credentials drops
    files that are not named any more, and does nothing else. own: as `mirroring.own_files` says. proved: as in
    `credentials.credentials_of`.
    """

    snapshot: Snapshot
    gateway: Stored
    outcome: Outcome
    numbers: Numbers
    ledger: Ledger
    now: float
    own: Mapping[str, bytes | None]
    proved: Callable[[], bool]
    secret_writes: list[Write] = field(default_factory=list)
    document_writes: list[Write] = field(default_factory=list)
    unreferenced: dict[tuple[str, str], float] = field(default_factory=dict)
    wakes: list[float] = field(default_factory=list)
    drops_only: bool = True

    def take(self, units: Iterable[Unit]) -> None:
        """Decide what is to be written of each unit."""
        known, revisions = ({} if self.numbers.outrun else self.ledger.settled), self.outcome.revisions
        for unit in units:
            shard = unit.shard
            settled = known.get(shard)
            if settled is not None and settled.unit is unit:
                revisions[shard] = settled.written.revision
                self.outcome.written[shard] = settled.written
                self.numbers.credentials[shard] = settled.credentials_revision
            else:
                self._take(unit)

    def _take(self, unit: Unit) -> None:
        """Decide what is to be written of one unit that may not agree with what is live."""
        outcome, place = self.outcome, self._place(unit)
        own = self.own if unit.settings is not None else {}
        self.ledger.settled.pop(unit.shard, None)
        reason = _blocked(self.snapshot, place, outcome)
        if reason is not None:
            outcome.blocked[unit.shard] = reason
            return
        wanted = credentials_of(unit, self.snapshot, place.secret, place.secret_name, self.now, proved=self.proved, own=own)
        self.unreferenced.update({(place.secret_name, file): since for file, since in wanted.unreferenced_since.items()})
        self.wakes.extend([wanted.wake_after_seconds] if wanted.wake_after_seconds is not None else [])
        if wanted.too_large:
            outcome.too_large[unit.shard] = frozenset(wanted.too_large)
        secret = self._credentials_write(unit, wanted, place)
        self.drops_only = self.drops_only and (not secret or wanted.only_drops(place.secret))
        self.secret_writes.extend(secret)
        if not unit.fits:
            self._keep_revision(unit, place)
            return
        document = self._document_write(unit, place)
        self.document_writes.extend(document)
        if not (secret or document or wanted.too_large or wanted.unreferenced_since) and wanted.wake_after_seconds is None:
            unit.document.let_go()
            settled = Settled(unit, place, outcome.written[unit.shard], self.numbers.credentials[unit.shard])
            self.ledger.settled[unit.shard] = settled

    def _place(self, unit: Unit) -> Place:
        gateway, snapshot = self.gateway.name, self.snapshot
        config_map, secret = names.config_map_name(gateway, unit.shard), names.credentials_name(gateway, unit.shard)
        return Place(config_map, secret, snapshot.config_maps.get(config_map), snapshot.secrets_live.get(secret))

    def _credentials_write(self, unit: Unit, wanted: CredentialSet, place: Place) -> list[Write]:
        """Return the write of a unit's credentials Secret, if it differs from what is live."""
        manifest_file, live, numbers = documents.credentials_manifest(unit.shard), place.secret, self.numbers

        def manifest(revision: int) -> bytes:
            return render_credentials_manifest(
                gateway=self.snapshot.key,
                lineage=self.gateway.uid,
                shard=unit.shard,
                revision=revision,
                keys=wanted.files,
                missing=wanted.missing,
            )

        revision = None
        if live is not None and live.credentials is not None:
            known = numbers.credentials[unit.shard] = live.credentials.revision
            as_known = {**wanted.digests(live), manifest_file: sha256(manifest(known)).hexdigest()}
            stays = not numbers.must_move(manifest_file)
            if stays and live.intact and live.digests == as_known:
                return []
            revision = known if stays and as_known.items() <= live.digests.items() else None
        if revision is None:
            revision = numbers.credentials[unit.shard] = numbers.take_credentials()
        values = {**wanted.values, manifest_file: manifest(revision)}
        return [Write(SECRET, place.secret_name, live, values, frozenset(wanted.keep))]

    def _document_write(self, unit: Unit, place: Place) -> list[Write]:
        """Return the write of a unit's ConfigMap, if it differs from what is live, and note its revision."""
        document, live, numbers, manifests = unit.document, place.config_map, self.numbers, self.ledger.manifests
        same = live is not None and live.manifest is not None and live.verified and live.manifest.sha256 == document.digest
        same = same and not numbers.must_move(document.file)
        revision = live.manifest.revision if same and live is not None and live.manifest is not None else numbers.next_revision
        self.outcome.revisions[unit.shard] = revision
        rendered = manifests.get(unit.shard)
        if rendered is None or not rendered.speaks_of(document, self.gateway.uid, self.outcome.shards, revision):
            rendered = manifests[unit.shard] = self._render_manifest(unit, revision)
        self.outcome.written[unit.shard] = rendered.written
        wanted = {document.file: document.digest, document.manifest_file: rendered.digest}
        if live is not None and live.intact and live.digests == wanted:
            return []
        values = {document.file: document.content, document.manifest_file: rendered.written.manifest}
        if not self.own:  # a mirror sends the bytes once more; else the write has the last use of them, and no round may follow
            document.let_go()
        return [Write(CONFIG_MAP, place.config_map_name, live, values, digests=wanted)]

    def _render_manifest(self, unit: Unit, revision: int) -> Rendered:
        lineage, shards = self.gateway.uid, self.outcome.shards
        manifest = render_manifest(
            unit.document, gateway=self.snapshot.key, lineage=lineage, shards=shards, revision=revision, sources=unit.sources
        )
        return Rendered(WrittenDocument(revision, unit.document, manifest), lineage, shards, sha256(manifest).hexdigest())

    def _keep_revision(self, unit: Unit, place: Place) -> None:
        """Note the revision of a document that stays as it is, since not even its last good set can be written."""
        if place.config_map is not None and place.config_map.manifest is not None:
            self.outcome.revisions[unit.shard] = place.config_map.manifest.revision


def _blocked(snapshot: Snapshot, place: Place, outcome: Outcome) -> str | None:
    """Return why a unit cannot be written: one of its names belongs to somebody else; None if nothing is in the way."""
    gateway = snapshot.key.name
    for kind, name, live in (
        (CONFIG_MAP, place.config_map_name, place.config_map),
        (SECRET, place.secret_name, place.secret),
    ):
        if live is None or live.ours:
            continue
        if live.former:
            return f"{kind} '{name}' of the former GatewayConfig '{gateway}' is still being garbage-collected."
        outcome.taken.append(f"{kind} '{name}'")
        return f"{kind} '{name}' exists and is not controlled by GatewayConfig '{gateway}': delete or rename it."
    return None
