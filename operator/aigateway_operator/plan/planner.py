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
from aigateway_operator.plan.claims import Claim
from aigateway_operator.plan.credentials import CredentialSet, credentials_of, file_bytes
from aigateway_operator.plan.fitting import LastGood
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.mirroring import mirror_target, own_files
from aigateway_operator.plan.numbers import Numbers
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.probing import probing_of
from aigateway_operator.plan.propagation import is_proved, make_target
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.plan.snapshot import LiveObject, Served, Snapshot, Stored
from aigateway_operator.plan.statuses import gateway_status, model_statuses
from aigateway_operator.plan.units import Rendered, Renderings, Unit, compose_units
from aigateway_operator.render.files import render_credentials_manifest, render_manifest
from aigateway_operator.render.settings import Settings
from aigateway_operator.render.shards import shard_of

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"


def plan(snapshot: Snapshot, memo: Memo, now: float) -> Plan:
    """Return the plan for one gateway. `now`: seconds on the clock of `snapshot`'s times. Raises nothing for any object."""
    assessments = memo.assess_models(snapshot.models, snapshot.context)
    outcome = Outcome(assessments, memo.settle_claims(snapshot, assessments))
    gateway = snapshot.gateway
    if gateway is None:
        return Plan(statuses=tuple(model_statuses(snapshot, memo, outcome)))
    outcome.gateway = memo.assess_gateway(gateway, snapshot.context)
    if outcome.gateway.spec is not None:
        outcome.probing = probing_of(outcome.gateway.spec, snapshot.secrets, (one.backends for one in assessments.values()))
    settings = outcome.gateway.settings or snapshot.settings
    if settings is None or gateway.deleting:
        outcome.served = snapshot.served
        statuses = (*model_statuses(snapshot, memo, outcome), gateway_status(snapshot, outcome))
        return Plan(statuses=statuses, served=snapshot.served, settings=snapshot.settings, probing=outcome.probing)
    return _write_out(snapshot, memo, now, outcome, gateway, settings)


def _write_out(snapshot: Snapshot, memo: Memo, now: float, outcome: Outcome, gateway: Stored, settings: Settings) -> Plan:
    outcome.shards = _shards(snapshot, outcome)
    last_good = LastGood(snapshot.served, snapshot.settings, snapshot.context)
    sizes = partial(file_bytes, snapshot)
    outcome.units = compose_units(outcome.claims, settings, outcome.shards, last_good, sizes, memo.renderings)
    numbers = Numbers(snapshot, gateway)
    secret_writes: list[Write] = []
    document_writes: list[Write] = []
    unreferenced: dict[tuple[str, str], float] = {}
    wakes = [numbers.wake_after_seconds] if numbers.wake_after_seconds is not None else []
    proved, drops_only = is_proved(snapshot, outcome.units), True
    for unit in outcome.units:
        reason = _blocked(snapshot, unit, outcome)
        if reason is not None:
            outcome.blocked[unit.shard] = reason
            continue
        secret_name = names.credentials_name(gateway.name, unit.shard)
        live = snapshot.secrets_live.get(secret_name)
        wanted = credentials_of(
            unit, snapshot, live, secret_name, now, proved=proved, own=own_files(snapshot, outcome, unit.settings)
        )
        unreferenced.update({(secret_name, file): since for file, since in wanted.unreferenced_since.items()})
        wakes.extend([wanted.wake_after_seconds] if wanted.wake_after_seconds is not None else [])
        outcome.too_large[unit.shard] = frozenset(wanted.too_large)
        write = _credentials_write(snapshot, gateway, unit, wanted, live, numbers)
        drops_only = drops_only and (not write or wanted.only_drops(live))
        secret_writes.extend(write)
        if unit.fits:
            document_writes.extend(_document_write(snapshot, gateway, unit, outcome, numbers, memo.renderings))
        else:
            _keep_revision(snapshot, gateway, unit, outcome)
    outcome.served = _served_after(snapshot, outcome)
    housekeeping = bool(secret_writes) and drops_only and not document_writes and not numbers.outrun
    repeats = 0 < len(secret_writes) + len(document_writes) <= len(numbers.outrun)
    outcome.target = make_target(snapshot, outcome, numbers.credentials, housekeeping=housekeeping, repeats=repeats)
    return Plan(
        writes=(*secret_writes, *document_writes),
        statuses=(*model_statuses(snapshot, memo, outcome), gateway_status(snapshot, outcome)),
        served=outcome.served,
        settings=_settings_after(snapshot, outcome),
        revision=outcome.revision,
        credentials_revision=numbers.credentials_revision,
        unreferenced_since=unreferenced,
        wake_after_seconds=min(wakes, default=None),
        target=outcome.target,
        mirror=mirror_target(snapshot, outcome),
        delivery=outcome.gateway.spec.delivery if outcome.gateway and outcome.gateway.spec else None,
        probing=outcome.probing,
        renumbered=bool(numbers.outrun),
    )


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
    snapshot: Snapshot, gateway: Stored, unit: Unit, wanted: CredentialSet, live: LiveObject | None, numbers: Numbers
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
        known = numbers.credentials[unit.shard] = live.credentials.revision
        as_known = {**wanted.digests(live), manifest_file: sha256(manifest(known)).hexdigest()}
        stays = not numbers.must_move(manifest_file)
        if stays and live.intact and live.digests == as_known:
            return []
        revision = known if stays and as_known.items() <= live.digests.items() else None
    if revision is None:
        revision = numbers.credentials[unit.shard] = numbers.take_credentials()
    values = {**wanted.values, manifest_file: manifest(revision)}
    return [Write(SECRET, names.credentials_name(gateway.name, unit.shard), live, values, frozenset(wanted.keep))]


def _document_write(
    snapshot: Snapshot, gateway: Stored, unit: Unit, outcome: Outcome, numbers: Numbers, renderings: Renderings
) -> list[Write]:
    """Return the write of a unit's ConfigMap, if it differs from what is live, and note its revision."""
    document = unit.document
    name = names.config_map_name(gateway.name, unit.shard)
    live = snapshot.config_maps.get(name)
    same = live is not None and live.manifest is not None and live.verified and live.manifest.sha256 == document.digest
    same = same and not numbers.must_move(document.file)
    revision = live.manifest.revision if same and live is not None and live.manifest is not None else numbers.next_revision
    outcome.revisions[unit.shard] = revision
    rendered = renderings.manifests.get(unit.shard)
    if rendered is None or not rendered.speaks_of(document, gateway.uid, outcome.shards, revision):
        rendered = renderings.manifests[unit.shard] = _render_manifest(snapshot, gateway, unit, outcome.shards, revision)
    manifest = outcome.manifests[unit.shard] = rendered.manifest
    wanted = {document.file: document.digest, document.manifest_file: rendered.digest}
    if live is not None and live.intact and live.digests == wanted:
        return []
    return [Write(CONFIG_MAP, name, live, {document.file: document.content, document.manifest_file: manifest})]


def _render_manifest(snapshot: Snapshot, gateway: Stored, unit: Unit, shards: int, revision: int) -> Rendered:
    manifest = render_manifest(
        unit.document, gateway=snapshot.key, lineage=gateway.uid, shards=shards, revision=revision, sources=unit.sources
    )
    return Rendered(unit.document, gateway.uid, shards, revision, manifest, sha256(manifest).hexdigest())


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
