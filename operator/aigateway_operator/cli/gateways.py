"""Objects of several gateways, from files or from a cluster → a plan for each, by the same planner as the operator's.

Pure but for the planner's memo. Called by `check`, `render`, `diff` and `local`, which differ only in where objects come from.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aigateway_operator.api import meta
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.manifests import SECRET, Manifest
from aigateway_operator.kube.secret_book import REFUSED_TYPES
from aigateway_operator.plan import names
from aigateway_operator.plan.memo import Memo, referenced_secrets
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.readback import read_live, read_served, values_of
from aigateway_operator.plan.result import Plan
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import Served, Snapshot, Stored
from aigateway_operator.reconcile.store import parse_stored
from aigateway_operator.render.settings import Settings
from aigateway_operator.rules import RuleContext

JsonObject = Mapping[str, Any]
SecretKey = tuple[str, str]
"""Namespace and name of a Secret."""

_NOT_YET = datetime(9000, 1, 1, tzinfo=UTC)
"""When objects of files count as made: after everything in a cluster, so that what is there keeps its name."""


@dataclass(slots=True)
class World:
    """All objects that plans are made from.

    gateways: by key. models: every VirtualModel, by namespace and name. secrets: Secrets that are there. secrets_known
    False: Secrets could not be read, and nothing is concluded from their absence. live: generated ConfigMaps and Secrets
    as JSON objects, by namespace. now: seconds on any clock. unreferenced_since: what the last plan of a gateway said, on it.
    """

    context: RuleContext
    gateways: dict[GatewayKey, Stored] = field(default_factory=dict)
    models: dict[tuple[str, str], Stored] = field(default_factory=dict)
    secrets: dict[SecretKey, JsonObject] = field(default_factory=dict, repr=False)
    secrets_known: bool = True
    live: dict[str, list[JsonObject]] = field(default_factory=dict, repr=False)
    now: float = 0.0
    unreferenced_since: Mapping[GatewayKey, Mapping[tuple[str, str], float]] = field(default_factory=dict)

    def put(self, manifest: Manifest) -> None:
        """Add an object of a file, or put it over the stored one of that name, as `kubectl apply` would."""
        key = (manifest.namespace, manifest.name)
        if manifest.kind == SECRET:
            self.secrets[key] = secret_object(manifest)
        elif manifest.kind == meta.GATEWAY_CONFIG:
            gateway = GatewayKey(*key)
            self.gateways[gateway] = stored_from(manifest, self.gateways.get(gateway), len(self.gateways))
        else:
            self.models[key] = stored_from(manifest, self.models.get(key), len(self.models))

    def named_gateways(self) -> list[GatewayKey]:
        """Return every gateway that exists or is named by a model, sorted."""
        return sorted({*self.gateways, *(GatewayKey(stored.namespace, stored.gateway) for stored in self.models.values())})

    def plans(self, keys: Iterable[GatewayKey]) -> dict[GatewayKey, Plan]:
        """Return a plan for each gateway, as the operator would make it now.

        Planned twice where something is live: a model may leave its gateway only if the other one takes it.
        """
        wanted = list(keys)
        recalled = {key: self._recall(key) for key in wanted}
        first: dict[GatewayKey, Plan] = {}
        if any(served for served, _ in recalled.values()):
            first = {key: plan(self._snapshot(key, recalled, {}), Memo(), self.now) for key in self.named_gateways()}
        return {key: plan(self._snapshot(key, recalled, first), Memo(), self.now) for key in wanted}

    def references(self) -> set[SecretKey]:
        """Return every Secret that an object, or the last good of a gateway, refers to."""
        found: set[SecretKey] = set()
        for key in self.gateways:
            draft = self._draft(key, *self._recall(key))
            found.update((key.namespace, name) for name in referenced_secrets(draft, Memo()))
        return found

    def live_objects(self, key: GatewayKey) -> dict[tuple[str, str], JsonObject]:
        """Return the generated objects of a gateway that are there, by kind and name."""
        found = self.live.get(key.namespace, [])
        return {
            (obj["kind"], obj["metadata"]["name"]): obj for obj in found if names.belongs_to(obj["metadata"]["name"], key.name)
        }

    def _recall(self, key: GatewayKey) -> tuple[dict[str, Served], Settings | None]:
        """Return the last good of a gateway, read back from its live documents."""
        served: dict[str, Served] = {}
        settings: Settings | None = None
        gateway = self.gateways.get(key)
        if gateway is not None:
            for (kind, _), obj in self.live_objects(key).items():
                if kind == "ConfigMap":
                    models, found = read_served(obj, read_live(obj, gateway.name, gateway.uid))
                    served.update(models)
                    settings = found or settings
        return served, settings

    def _snapshot(
        self,
        key: GatewayKey,
        recalled: Mapping[GatewayKey, tuple[dict[str, Served], Settings | None]],
        plans: Mapping[GatewayKey, Plan],
    ) -> Snapshot:
        gateway = self.gateways.get(key)
        served, settings = recalled.get(key, ({}, None))
        live = (
            {}
            if gateway is None
            else {place: read_live(obj, gateway.name, gateway.uid) for place, obj in self.live_objects(key).items()}
        )
        draft = self._draft(key, served, settings)
        references = referenced_secrets(draft, Memo())
        return replace(
            draft,
            departed=self._departed(key, served, draft.models, plans),
            config_maps={name: obj for (kind, name), obj in live.items() if kind == "ConfigMap"},
            secrets_live={name: obj for (kind, name), obj in live.items() if kind == SECRET},
            secrets={name: self._secret(key.namespace, name, keys) for name, keys in references.items()},
            unreferenced_since=self.unreferenced_since.get(key, {}),
        )

    def _draft(self, key: GatewayKey, served: Mapping[str, Served], settings: Settings | None) -> Snapshot:
        """Return a snapshot as far as it is known before Secrets."""
        models = {
            name: stored
            for (namespace, name), stored in self.models.items()
            if (namespace, stored.gateway) == (key.namespace, key.name)
        }
        gateway = self.gateways.get(key)
        return Snapshot(key=key, gateway=gateway, models=models, context=self.context, served=served, settings=settings)

    def _departed(
        self, key: GatewayKey, served: Mapping[str, Served], models: Mapping[str, Stored], plans: Mapping[GatewayKey, Plan]
    ) -> dict[str, Stored]:
        """Return the models served here that name another gateway now, which does not take them."""
        departed: dict[str, Stored] = {}
        for name in served.keys() - models.keys():
            stored = self.models.get((key.namespace, name))
            if stored is not None and stored.source == served[name].source:
                elsewhere = plans.get(GatewayKey(key.namespace, stored.gateway))
                if elsewhere is None or name not in elsewhere.served:
                    departed[name] = stored
        return departed

    def _secret(self, namespace: str, name: str, keys: Iterable[str]) -> SecretState:
        obj = self.secrets.get((namespace, name))
        if obj is None:
            return SecretState(known=self.secrets_known, exists=False)
        if obj.get("type") in REFUSED_TYPES:
            return SecretState(known=True, exists=True, refused_type=obj["type"])
        values = values_of(obj)
        return SecretState(known=True, exists=True, values={key: values[key] for key in keys if key in values})


def secret_object(manifest: Manifest) -> JsonObject:
    """Return a Secret of a file as the API server would store it: `stringData` over `data`."""
    encoded = {key: "".join(text.split()) for key, text in _texts(manifest.body.get("data")).items()}
    plain = _texts(manifest.body.get("stringData"))
    encoded.update({key: base64.b64encode(text.encode(errors="replace")).decode() for key, text in plain.items()})
    return {"kind": SECRET, "type": manifest.body.get("type", "Opaque"), "data": encoded}


def _texts(mapping: object) -> dict[str, str]:
    return {key: text for key, text in mapping.items() if isinstance(text, str)} if isinstance(mapping, dict) else {}


def stored_from(manifest: Manifest, before: Stored | None, order: int) -> Stored:
    """Return what the API server would hold after an apply.

    `before`: what it holds now; None: the object is new, gets a uid made from its name, and is as old as its place
    (`order`) says: of two with one public name the first in the files wins, as the one created first would.
    """
    metadata: dict[str, Any] = {"namespace": manifest.namespace, "name": manifest.name}
    if before is None:
        created = (_NOT_YET + timedelta(seconds=order)).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata |= {"uid": made_up_uid(manifest), "generation": 1, "resourceVersion": "1", "creationTimestamp": created}
        return parse_stored({"metadata": metadata, "spec": manifest.spec})
    unchanged = before.parse_spec() == manifest.spec
    metadata |= {
        "uid": before.uid,
        "generation": before.generation + (0 if unchanged else 1),
        "resourceVersion": before.resource_version,
        "creationTimestamp": before.created,
    }
    return parse_stored({"metadata": metadata, "spec": manifest.spec, "status": before.parse_status()})


def made_up_uid(manifest: Manifest) -> str:
    """Return a uid that is always the same for the same kind, namespace and name."""
    name = f"{manifest.kind}/{manifest.namespace}/{manifest.name}"
    return str(UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4))
