"""plan(): one snapshot → what should be true now. Called by the reconciler, and by `aigateway render`, `diff` and `local`.

The order: assess each object alone, settle who is served under which name, compose documents within the limit, decide on
credentials, number revisions, compare with what is live, and say of every object what its status should be.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import sha256

from aigateway_config import documents
from aigateway_operator.plan import names
from aigateway_operator.plan.claims import Claim, settle_claims
from aigateway_operator.plan.credentials import CredentialSet, credentials_of, file_bytes
from aigateway_operator.plan.fitting import LastGood
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.plan.snapshot import LiveObject, Served, Snapshot, Stored
from aigateway_operator.plan.statuses import gateway_status, model_statuses
from aigateway_operator.plan.units import Unit, compose_units
from aigateway_operator.render.files import render_credentials_manifest, render_manifest
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"


def plan(snapshot: Snapshot, memo: Memo, now: float) -> Plan:
    """Return the plan for one gateway. `now`: seconds on the clock of `snapshot`'s times. Raises nothing for any object."""
    assessments = memo.assess_models(snapshot.models, snapshot.context)
    outcome = Outcome(assessments, settle_claims(snapshot, assessments))
    gateway = snapshot.gateway
    if gateway is None:
        return Plan(statuses=tuple(model_statuses(snapshot, memo, outcome)))
    outcome.gateway = memo.assess_gateway(gateway, snapshot.context)
    settings = outcome.gateway.settings or snapshot.settings
    if settings is None or gateway.deleting:
        outcome.served = snapshot.served
        statuses = (*model_statuses(snapshot, memo, outcome), gateway_status(snapshot, outcome))
        return Plan(statuses=statuses, served=snapshot.served, settings=snapshot.settings)
    return _write_out(snapshot, memo, now, outcome, gateway, settings)


def _write_out(snapshot: Snapshot, memo: Memo, now: float, outcome: Outcome, gateway: Stored, settings: Settings) -> Plan:
    outcome.shards = _shards(snapshot, outcome)
    last_good = LastGood(snapshot.served, snapshot.settings, snapshot.context)
    sizes = partial(file_bytes, snapshot)
    outcome.units = compose_units(outcome.claims, settings, outcome.shards, last_good, sizes, memo.renderings)
    numbers = _Numbers(snapshot, gateway)
    secret_writes: list[Write] = []
    document_writes: list[Write] = []
    unreferenced: dict[tuple[str, str], float] = {}
    wakes: list[float] = []
    for unit in outcome.units:
        reason = _blocked(snapshot, unit, outcome)
        if reason is not None:
            outcome.blocked[unit.shard] = reason
            continue
        secret_name = names.credentials_name(gateway.name, unit.shard)
        live = snapshot.secrets_live.get(secret_name)
        wanted = credentials_of(unit, snapshot, live, secret_name, now)
        unreferenced.update({(secret_name, file): since for file, since in wanted.unreferenced_since.items()})
        wakes.extend([wanted.wake_after_seconds] if wanted.wake_after_seconds is not None else [])
        outcome.too_large[unit.shard] = frozenset(wanted.too_large)
        secret_writes.extend(_credentials_write(snapshot, gateway, unit, wanted, live, numbers))
        if unit.fits:
            document_writes.extend(_document_write(snapshot, gateway, unit, outcome, numbers))
        else:
            _keep_revision(snapshot, gateway, unit, outcome)
    outcome.served = _served_after(snapshot, outcome)
    return Plan(
        writes=(*secret_writes, *document_writes),
        statuses=(*model_statuses(snapshot, memo, outcome), gateway_status(snapshot, outcome)),
        served=outcome.served,
        settings=_settings_after(snapshot, outcome),
        revision=outcome.revision,
        credentials_revision=numbers.credentials_revision,
        unreferenced_since=unreferenced,
        wake_after_seconds=min(wakes, default=None),
    )


class _Numbers:
    """Counters of one round: everything that changes in it gets the same next number.

    Seeded from what is live and what status says, so that a number is never used twice within a lineage.
    """

    def __init__(self, snapshot: Snapshot, gateway: Stored) -> None:
        told = gateway.told("rollout", "credentialsRevision")
        rendered = [live.manifest.revision for live in snapshot.config_maps.values() if live.ours and live.manifest]
        credentials = [live.credentials.revision for live in snapshot.secrets_live.values() if live.ours and live.credentials]
        self.next_revision = 1 + max([gateway.told("revision"), *rendered])
        self.next_credentials = 1 + max([told, *credentials])
        self.credentials_revision = max(credentials, default=0)

    def take_credentials(self) -> int:
        """Return the number for a credentials Secret that changes in this round."""
        self.credentials_revision = self.next_credentials
        return self.next_credentials


def _shards(snapshot: Snapshot, outcome: Outcome) -> int:
    """Return the number of shards: what documents were written with, since it cannot change, else what the spec says."""
    for _, live in sorted(snapshot.config_maps.items()):
        if live.ours and live.manifest is not None and live.verified:
            return live.manifest.shards
    spec = outcome.gateway.spec if outcome.gateway else None
    return spec.delivery.shards if spec is not None else 1


def _blocked(snapshot: Snapshot, unit: Unit, outcome: Outcome) -> str | None:
    """Return why a unit cannot be written: one of its names belongs to somebody else; None if nothing is in the way."""
    gateway = snapshot.key.name
    for kind, name, objects in (
        (CONFIG_MAP, names.config_map_name(gateway, unit.shard), snapshot.config_maps),
        (SECRET, names.credentials_name(gateway, unit.shard), snapshot.secrets_live),
    ):
        live = objects.get(name)
        if live is None or live.ours:
            continue
        if live.former:
            return f"{kind} '{name}' of the former GatewayConfig '{gateway}' is still being garbage-collected."
        outcome.taken.append(f"{kind} '{name}'")
        return f"{kind} '{name}' exists and is not controlled by GatewayConfig '{gateway}': delete or rename it."
    return None


def _credentials_write(
    snapshot: Snapshot, gateway: Stored, unit: Unit, wanted: CredentialSet, live: LiveObject | None, numbers: _Numbers
) -> list[Write]:
    """Return the write of a unit's credentials Secret, if it differs from what is live."""
    manifest_file = documents.credentials_manifest(unit.shard)

    def manifest(revision: int) -> bytes:
        return render_credentials_manifest(
            gateway=snapshot.key,
            lineage=gateway.uid,
            shard=unit.shard,
            revision=revision,
            keys=wanted.files,
            missing=wanted.missing,
        )

    revision = None
    if live is not None and live.credentials is not None:
        known = live.credentials.revision
        as_known = {**wanted.digests(live), manifest_file: sha256(manifest(known)).hexdigest()}
        if live.intact and live.digests == as_known:
            return []
        revision = known if as_known.items() <= live.digests.items() else None
    values = {**wanted.values, manifest_file: manifest(numbers.take_credentials() if revision is None else revision)}
    return [Write(SECRET, names.credentials_name(gateway.name, unit.shard), live, values, frozenset(wanted.keep))]


def _document_write(snapshot: Snapshot, gateway: Stored, unit: Unit, outcome: Outcome, numbers: _Numbers) -> list[Write]:
    """Return the write of a unit's ConfigMap, if it differs from what is live, and note its revision."""
    document = unit.document
    name = names.config_map_name(gateway.name, unit.shard)
    live = snapshot.config_maps.get(name)
    same = live is not None and live.manifest is not None and live.verified and live.manifest.sha256 == document.digest
    revision = live.manifest.revision if same and live is not None and live.manifest is not None else numbers.next_revision
    outcome.revisions[unit.shard] = revision
    manifest = render_manifest(
        document, gateway=snapshot.key, lineage=gateway.uid, shards=outcome.shards, revision=revision, sources=unit.sources
    )
    wanted = {document.file: document.digest, document.manifest_file: sha256(manifest).hexdigest()}
    if live is not None and live.intact and live.digests == wanted:
        return []
    return [Write(CONFIG_MAP, name, live, {document.file: document.content, document.manifest_file: manifest})]


def _keep_revision(snapshot: Snapshot, gateway: Stored, unit: Unit, outcome: Outcome) -> None:
    """Note the revision of a document that stays as it is, since not even its last good set can be written."""
    live = snapshot.config_maps.get(names.config_map_name(gateway.name, unit.shard))
    if live is not None and live.manifest is not None:
        outcome.revisions[unit.shard] = live.manifest.revision


def _served_after(snapshot: Snapshot, outcome: Outcome) -> dict[str, Served]:
    """Return what pods are served once the writes are done: the last good of the next round.

    What is in a document of ours that is not written stays; then come the documents that are, since a model may have moved
    from one to another.
    """
    stays = {unit.shard for unit in outcome.units if not outcome.lands(unit) and _is_live(snapshot, unit)}
    served: dict[str, Served] = {}
    for owner, before in snapshot.served.items() if stays else ():
        if (shard_of(before.entry.model_name, outcome.shards) if outcome.shards > 1 else None) in stays:
            served[owner] = before
    for unit in filter(outcome.lands, outcome.units):
        current = outcome.revisions[unit.shard]
        for claim in unit.entries.values():
            served[claim.owner] = _with_revision(claim, snapshot, current)
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


def _settings_after(snapshot: Snapshot, outcome: Outcome) -> Settings | None:
    """Return the settings that pods have once the writes are done."""
    unit = outcome.units[-1]
    if outcome.lands(unit):
        return unit.settings
    return snapshot.settings if _is_live(snapshot, unit) else None
