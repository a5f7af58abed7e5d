"""What is known of gateways and their models → one value that `status` prints. Pure.

Takes objects as the API server has them; never the content of a Secret. Called by `status`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from aigateway_operator.api.conditions import ConditionType, Reason
from aigateway_operator.cli.conditions import condition_of, conditions_of, state_of, status_of, whole
from aigateway_operator.plan import names

JsonObject = Mapping[str, Any]
LAST_CHANGES: Final = 8
_MESSAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class DocumentView:
    """One rendered document. `revision` is None where its manifest cannot be read."""

    config_map: str
    file: str
    bytes: int
    revision: int | None


@dataclass(frozen=True, slots=True)
class ModelView:
    """One VirtualModel. `state`: Ready, Off, NotReady, Pending or Deleting."""

    namespace: str
    name: str
    gateway: str
    model_name: str
    current: str
    state: str
    reason: str
    message: str
    revision: int | None


@dataclass(frozen=True, slots=True)
class StoreView:
    """One enabled datastore, as status tells it. `since`: RFC 3339, "" where it is not known."""

    name: str
    state: str
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """Pods by what they run. `behind`: run something else; stragglers: up to five of these and of the unknown."""

    revision: int | None
    updated: int
    behind: int
    unknown: int
    stragglers: tuple[str, ...]
    restart_required: tuple[str, ...]
    last_duration_milliseconds: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayView:
    """One GatewayConfig, or one that models name although it is not there (`state` Missing).

    `credentials_revision`, `pods` and `datastores` are None as long as nobody reports them.
    """

    namespace: str
    name: str
    state: str
    reason: str
    message: str
    revision: int | None = None
    credentials_revision: int | None = None
    pods: str | None = None
    datastores: dict[str, str] | None = None
    models: dict[str, int] = field(default_factory=dict)
    documents: tuple[DocumentView, ...] = ()
    stores: tuple[StoreView, ...] = ()
    rollout: RolloutView | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A condition that moved. `since` is RFC 3339."""

    since: str
    kind: str
    namespace: str
    name: str
    condition: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole screen."""

    gateways: tuple[GatewayView, ...]
    models: tuple[ModelView, ...]
    changes: tuple[Change, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it for `-o json|yaml`, keys as on the wire."""
        return _camel(asdict(self))  # type: ignore[no-any-return]  # a mapping stays a mapping


def overview(
    gateways: Sequence[JsonObject], models: Sequence[JsonObject], config_maps: Sequence[JsonObject], only: str | None = None
) -> Overview:
    """Put the screen together. `only`: name of the one gateway to show, None: all."""
    seen = [_model(obj) for obj in models]
    shown = sorted((one for one in seen if only in (None, one.gateway)), key=lambda one: (one.namespace, one.gateway, one.name))
    chosen = [obj for obj in gateways if only in (None, obj["metadata"]["name"])]
    views = [_gateway(obj, shown, config_maps) for obj in chosen]
    there = {(view.namespace, view.name) for view in views}
    named = {(model.namespace, model.gateway) for model in shown if model.gateway}
    views.extend(_missing(namespace, name, shown) for namespace, name in named - there)
    kept = {(model.namespace, model.name) for model in shown}
    moved = [*chosen, *(obj for obj in models if (obj["metadata"]["namespace"], obj["metadata"]["name"]) in kept)]
    return Overview(tuple(sorted(views, key=lambda view: (view.namespace, view.name))), tuple(shown), _changes(moved))


def _model(obj: JsonObject) -> ModelView:
    metadata, status = obj["metadata"], status_of(obj)
    spec = obj["spec"] if isinstance(obj.get("spec"), dict) else {}
    ready, state = condition_of(obj, ConditionType.READY), state_of(obj)
    pending = state == "Pending" and ready.reason != Reason.PENDING
    return ModelView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        gateway=_text((spec.get("gatewayRef") or {}).get("name")) if isinstance(spec.get("gatewayRef"), dict) else "",
        model_name=_text(status.get("modelName")) or _text(spec.get("modelName")) or metadata["name"],
        current=_text(spec.get("current")),
        state=state,
        reason=Reason.PENDING if pending else ready.reason,
        message="This generation has not been looked at yet." if pending else ready.message[:_MESSAGE],
        revision=whole(status.get("revision")),
    )


def _gateway(obj: JsonObject, models: Sequence[ModelView], config_maps: Sequence[JsonObject]) -> GatewayView:
    metadata, status = obj["metadata"], status_of(obj)
    namespace, name = metadata["namespace"], metadata["name"]
    ready = condition_of(obj, ConditionType.READY)
    rollout = status.get("rollout")
    told = status.get("datastores")
    stores = tuple(_store(one) for one in told if isinstance(one, dict)) if isinstance(told, list) else None
    return GatewayView(
        namespace=namespace,
        name=name,
        state=state_of(obj),
        reason=ready.reason,
        message=ready.message[:_MESSAGE],
        revision=whole(status.get("revision")),
        credentials_revision=whole(rollout.get("credentialsRevision")) if isinstance(rollout, dict) else None,
        pods=_text(status.get("pods")) or None,
        datastores={one.name: one.state for one in stores} if stores is not None else None,
        models=_counts(namespace, name, models),
        documents=tuple(_documents(namespace, name, metadata.get("uid"), config_maps)),
        stores=stores or (),
        rollout=_rollout(rollout, condition_of(obj, ConditionType.PROPAGATED).reason) if isinstance(rollout, dict) else None,
    )


def _store(told: JsonObject) -> StoreView:
    name, state, reason, message, since = (_text(told.get(key)) for key in ("name", "state", "reason", "message", "since"))
    return StoreView(name, state, reason, message[:_MESSAGE], since)


def _rollout(told: JsonObject, reason: str) -> RolloutView | None:
    """Return what pods say, None as long as nobody knows which pods there are."""
    desired = whole(told.get("desired"))
    if desired is None:
        return None
    updated, unknown = whole(told.get("updated")) or 0, whole(told.get("unknown")) or 0
    return RolloutView(
        revision=whole(told.get("revision")),
        updated=updated,
        behind=max(0, desired - updated - unknown),
        unknown=unknown,
        stragglers=_texts(told.get("stragglers")),
        restart_required=_texts(told.get("restartRequired")),
        last_duration_milliseconds=whole(told.get("lastDurationMilliseconds")),
        reason=reason,
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _missing(namespace: str, name: str, models: Sequence[ModelView]) -> GatewayView:
    message = "Models name it, but there is no such GatewayConfig. Create it, or correct spec.gatewayRef.name."
    counts = _counts(namespace, name, models)
    return GatewayView(namespace, name, "Missing", Reason.GATEWAY_NOT_FOUND, message, models=counts)


def _counts(namespace: str, name: str, models: Sequence[ModelView]) -> dict[str, int]:
    states = [model.state for model in models if (model.namespace, model.gateway) == (namespace, name)]
    return {
        "ready": states.count("Ready"),
        "off": states.count("Off"),
        "notReady": len(states) - states.count("Ready") - states.count("Off"),
    }


def _documents(namespace: str, gateway: str, uid: object, config_maps: Sequence[JsonObject]) -> list[DocumentView]:
    found = []
    for obj in config_maps:
        metadata = obj["metadata"]
        owners = [owner.get("uid") for owner in metadata.get("ownerReferences") or []]
        if metadata["namespace"] != namespace or not names.belongs_to(metadata["name"], gateway) or uid not in owners:
            continue
        data = obj.get("data") or {}
        for file in sorted(name for name in data if name.endswith(".yml")):
            manifest = data.get(f"{file.removesuffix('.yml')}.manifest.json")
            found.append(DocumentView(metadata["name"], file, len(data[file].encode()), _revision(manifest)))
    return sorted(found, key=lambda document: document.config_map)


def _revision(manifest: object) -> int | None:
    try:
        parsed = orjson.loads(manifest) if isinstance(manifest, str) else None
    except orjson.JSONDecodeError:
        return None
    return whole(parsed.get("revision")) if isinstance(parsed, dict) else None


def _changes(objects: Sequence[JsonObject]) -> tuple[Change, ...]:
    moved: list[tuple[datetime, Change]] = []
    for obj in objects:
        metadata = obj["metadata"]
        kind = "VirtualModel" if "gatewayRef" in (obj.get("spec") or {}) else "GatewayConfig"
        for one in conditions_of(obj):
            if one.since is not None:
                stamp = one.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                what = Change(stamp, kind, metadata["namespace"], metadata["name"], one.type, one.status, one.reason)
                moved.append((one.since, what))
    # A summary moves with its parts: of one moment and object, Ready tells enough.
    moved.sort(key=lambda item: (-item[0].timestamp(), item[1].kind, item[1].name, item[1].condition != "Ready"))
    firsts: dict[tuple[str, str, str, str], Change] = {}
    for _, change in moved:
        firsts.setdefault((change.since, change.kind, change.namespace, change.name), change)
    return tuple(list(firsts.values())[:LAST_CHANGES])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel_key(key): _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list | tuple) else value


def _camel_key(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)
