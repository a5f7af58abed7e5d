"""What the Redis mirror should hold after a round, and what the status says of it. Pure.

The mirror follows what is written: a document that stays as it is in the cluster stays as it is in Redis. Its signing key is
one more file of the gateway's credentials Secret: made once, kept while it is there, gone some time after
`spec.delivery.redisNotify` is switched off, so that pods that hold it know that there is a mirror.
Source: docs/redis-mirror.md#switch-it-on, #redis-away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from aigateway_config import documents
from aigateway_config.mirror import RedisEndpoint, endpoint_of
from aigateway_operator.api.conditions import ConditionType, Verdict
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan import names
from aigateway_operator.plan.outcome import Outcome, WrittenDocument
from aigateway_operator.plan.snapshot import Snapshot
from aigateway_operator.render.settings import Settings

SEPARATOR = " Redis mirror: "
"""Between what the condition says of pods and what it says of the mirror; nothing else contains it."""


@dataclass(frozen=True, slots=True)
class MirrorTarget:
    """What the mirror of one gateway should hold. `key`: to sign with.

    documents: by file name, as they are live after the round; None: leave as it is. missing: credentials file that is needed
    to reach Redis and is not there, None if all are.
    """

    gateway: GatewayKey
    endpoint: RedisEndpoint
    key: bytes = field(repr=False)
    documents: Mapping[str, WrittenDocument | None]
    missing: str | None = None


def own_files(snapshot: Snapshot, outcome: Outcome) -> dict[str, bytes | None]:
    """Return the files that the base credentials Secret holds for the mirror; None as value: the one that is there, if any."""
    settings = outcome.units[-1].settings
    if settings is None or _store(snapshot, outcome, settings) is None:
        return {}
    return {documents.MIRROR_KEY: snapshot.mirror_key}


def mirror_target(snapshot: Snapshot, outcome: Outcome) -> MirrorTarget | None:
    """Return what to mirror after a round, None for nothing."""
    settings = outcome.units[-1].settings
    store = None if settings is None else _store(snapshot, outcome, settings)
    if settings is None or store is None or snapshot.mirror_key is None:
        return None

    def credential(file: str) -> str | None:
        ref = settings.credentials.get(file)
        value = snapshot.secret(ref).values.get(ref.key) if ref is not None else None
        return None if value is None else value.decode(errors="replace")

    endpoint, missing = endpoint_of(store, credential)
    held = {unit.document.file: outcome.written.get(unit.shard) for unit in outcome.units}
    return MirrorTarget(snapshot.key, endpoint, snapshot.mirror_key, held, missing)


def tell_of_mirror(verdict: Verdict, snapshot: Snapshot, outcome: Outcome) -> Verdict:
    """Return `verdict` on pods with what is wrong with the mirror at the end of its message; nothing while it works.

    What is not known yet, as after a restart, stays as the status has it.
    """
    message, _, _ = verdict.message.partition(SEPARATOR)
    trouble = _trouble(snapshot, outcome)
    told = _told(snapshot) if trouble is None else trouble
    return Verdict(verdict.type, verdict.status, verdict.reason, f"{message}{SEPARATOR}{told}" if told else message)


def _trouble(snapshot: Snapshot, outcome: Outcome) -> str | None:
    """Return what is wrong with the mirror, "" for nothing, None if that is not known yet."""
    settings = outcome.units[-1].settings if outcome.units else None
    if settings is None or not _is_notified(snapshot, outcome):
        return ""
    if _redis(settings) is None:
        return "spec.delivery.redisNotify is set, but spec.storage.redis is not set or not enabled."
    return snapshot.mirror_trouble


def _told(snapshot: Snapshot) -> str:
    status = snapshot.gateway.parse_status() if snapshot.gateway is not None else {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == ConditionType.PROPAGATED:
            return str(condition.get("message", "")).partition(SEPARATOR)[2]
    return ""


def _store(snapshot: Snapshot, outcome: Outcome, settings: Settings) -> documents.Redis | None:
    """Return the Redis that documents are mirrored to, None if they are not."""
    return _redis(settings) if _is_notified(snapshot, outcome) else None


def _is_notified(snapshot: Snapshot, outcome: Outcome) -> bool:
    """Tell whether the mirror is asked for; while the spec is not valid, what was asked for last holds."""
    spec = outcome.gateway.spec if outcome.gateway is not None else None
    if spec is not None:
        return spec.delivery.redis_notify
    live = snapshot.secrets_live.get(names.credentials_name(snapshot.key.name, None))
    return live is not None and live.credentials is not None and documents.MIRROR_KEY in live.credentials.keys


def _redis(settings: Settings) -> documents.Redis | None:
    return _redis_of(settings.sections["storage"])


@lru_cache(maxsize=64)
def _redis_of(storage: str) -> documents.Redis | None:
    return documents.Storage.model_validate_json(storage).redis
