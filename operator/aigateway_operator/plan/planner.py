"""plan(): one snapshot → what should be true now. Called by the reconciler, and by `aigateway render`, `diff` and `local`.

The order: assess each object alone, settle who is served under which name, compose documents within the limit, decide on
credentials, number revisions, compare with what is live. What each object's status should be is said afterwards, when
somebody asks for it: documents come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.mirroring import mirror_target, own_files
from aigateway_operator.plan.numbers import Numbers
from aigateway_operator.plan.outcome import Outcome
from aigateway_operator.plan.probing import probing_of
from aigateway_operator.plan.propagation import is_proved, make_target
from aigateway_operator.plan.result import Plan, StatusWrite
from aigateway_operator.plan.serving import settings_after
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.plan.statuses import statuses
from aigateway_operator.plan.writing import Writing
from aigateway_operator.render.settings import Settings


def plan(snapshot: Snapshot, memo: Memo, now: float) -> Plan:
    """Return the plan for one gateway. `now`: seconds on the clock of `snapshot`'s times. Raises nothing for any object."""
    memo.plans += 1
    memo.take(snapshot)
    known = memo.known
    memo.claims.settle(known, snapshot.context)
    outcome = Outcome(known.assessments, memo.claims, known.valid, known.off)
    number = memo.plans

    def say() -> Iterator[StatusWrite]:
        if memo.plans != number:
            raise RuntimeError("statuses of a plan were asked for after the next plan was made")
        return statuses(snapshot, memo, outcome)

    gateway = snapshot.gateway
    if gateway is None:
        return Plan(make_statuses=say)
    outcome.gateway = known.gateway
    if outcome.gateway is not None and outcome.gateway.spec is not None:
        outcome.probing = probing_of(outcome.gateway.spec, snapshot.secrets, known.probed.values())
    settings = (outcome.gateway.settings if outcome.gateway is not None else None) or snapshot.settings
    if settings is None or gateway.deleting:
        outcome.served = snapshot.served
        return Plan(served=snapshot.served, settings=snapshot.settings, probing=outcome.probing, make_statuses=say)
    made = _write_out(snapshot, memo, now, outcome, gateway, settings)
    return replace(made, make_statuses=say)


def _write_out(snapshot: Snapshot, memo: Memo, now: float, outcome: Outcome, gateway: Stored, settings: Settings) -> Plan:
    outcome.shards = _shards(snapshot, outcome)
    outcome.units = memo.composer.compose(snapshot, memo.claims, settings, outcome.shards)
    own = own_files(snapshot, outcome)
    memo.ledger.begin(snapshot, gateway.uid, outcome.shards, own)
    numbers = Numbers(snapshot, gateway, memo.ledger.highest)
    proved = cache(partial(is_proved, snapshot, outcome.units))
    writing = Writing(snapshot, gateway, outcome, numbers, memo.ledger, now, own, proved)
    if numbers.wake_after_seconds is not None:
        writing.wakes.append(numbers.wake_after_seconds)
    writing.take(outcome.units)
    outcome.served = memo.serving.after(snapshot, outcome)
    secrets, rendered = writing.secret_writes, writing.document_writes
    housekeeping = bool(secrets) and writing.drops_only and not rendered and not numbers.outrun
    repeats = 0 < len(secrets) + len(rendered) <= len(numbers.outrun)
    outcome.target = make_target(snapshot, outcome, numbers.credentials, housekeeping=housekeeping, repeats=repeats)
    return Plan(
        writes=(*secrets, *rendered),
        served=outcome.served,
        settings=settings_after(snapshot, outcome),
        revision=outcome.revision,
        credentials_revision=numbers.credentials_revision,
        unreferenced_since=writing.unreferenced,
        wake_after_seconds=min(writing.wakes, default=None),
        target=outcome.target,
        mirror=mirror_target(snapshot, outcome),
        delivery=outcome.gateway.spec.delivery if outcome.gateway and outcome.gateway.spec else None,
        probing=outcome.probing,
        renumbered=bool(numbers.outrun),
    )


def _shards(snapshot: Snapshot, outcome: Outcome) -> int:
    """Return the number of shards: what documents were written with, since it cannot change, else what the spec says."""
    for name in sorted(snapshot.config_maps):
        live = snapshot.config_maps[name]
        if live.ours and live.manifest is not None and live.verified:
            return live.manifest.shards
    spec = outcome.gateway.spec if outcome.gateway else None
    return spec.delivery.shards if spec is not None else 1
