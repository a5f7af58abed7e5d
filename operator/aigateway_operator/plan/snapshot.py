"""What a plan is made from: the objects of one gateway, what is live in the cluster, and what was served until now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from aigateway_config import documents
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.health import HealthOf
from aigateway_operator.plan.packed import unpack
from aigateway_operator.plan.proof import Proof
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.render.entries import Entry
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings
from aigateway_operator.rules import RuleContext


@dataclass(frozen=True, slots=True)
class Stored:
    """A VirtualModel or GatewayConfig as the API server has it, reduced to what decides anything.

    `spec` and `status` are packed JSON (`plan.packed`), so that ten thousand of them stay small; they are parsed when needed.
    Equal JSON is equal bytes. `created` is RFC 3339, which sorts as text. `gateway` is `spec.gatewayRef.name`, "" where there
    is none.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: str
    deleting: bool
    gateway: str
    spec: bytes = field(repr=False)
    status: bytes = field(repr=False)

    @property
    def source(self) -> str:
        """How manifests name it: `name/uid8`. The uid tells a model from one made later under the same name."""
        return f"{self.name}/{self.uid[:8]}"

    def parse_spec(self) -> Any:
        """Return the spec as JSON; any JSON value, since nothing is taken for granted."""
        return orjson.loads(unpack(self.spec))

    def parse_status(self) -> dict[str, Any]:
        """Return the status as JSON, {} where there is none."""
        status = orjson.loads(unpack(self.status))
        return status if isinstance(status, dict) else {}

    def told(self, *path: str) -> int:
        """Return the number at `path` of the status; 0 where there is none."""
        value: Any = self.parse_status()
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class LiveObject:
    """A generated ConfigMap or Secret as it is in the cluster.

    ours: it is controlled by this GatewayConfig (by uid). former: it is controlled by a deleted GatewayConfig of the same name
    and will be garbage-collected. intact: labels and owner are as we write them, and it is not immutable.
    digests, sizes: SHA-256 hex and length in bytes of each value. manifest / credentials: the parsed manifest, None where
    missing, broken, of another lineage, or of another object than this one.
    """

    name: str
    uid: str
    resource_version: str
    ours: bool
    former: bool
    intact: bool
    immutable: bool
    digests: Mapping[str, str]
    manifest: documents.Manifest | None = None
    credentials: documents.CredentialsManifest | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        """Whether the document is the one its manifest speaks of."""
        if self.manifest is None:
            return False
        file = documents.document_file(self.manifest.shard)
        return self.digests.get(file) == self.manifest.sha256

    def without_sources(self) -> LiveObject:
        """Return it without the list of models, once that has been read: of ten thousand it takes megabytes."""
        if self.manifest is None:
            return self
        return replace(self, manifest=self.manifest.model_copy(update={"sources": {}}))


@dataclass(frozen=True, slots=True)
class Served:
    """A model as pods have it: the entry, and the VirtualModel it came from (`name/uid8`).

    revision: of the gateway, at which this entry last changed; None where that is not remembered, as after a restart.
    """

    entry: Entry
    source: str
    revision: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one round knows of one gateway.

    Mappings are never changed once they are in a snapshot: whoever sees the same one again takes it for unchanged.

    gateway: None when there is no GatewayConfig of that name. models: VirtualModels that name it, by object name.
    departed: VirtualModels that are served here but name another gateway, which does not serve them yet, by object name; one
    that its new gateway serves is in neither. served_elsewhere: names of models of `models` that another gateway still
    serves as last good. served / settings: what is in the live documents, by object name of the VirtualModel; the last good.
    config_maps / secrets_live: generated objects by name. secrets: state of each referenced Secret.
    unreferenced_since: (Secret object, credentials file) → seconds since when no document names it any more.
    proof: what pods say; None: they have not been asked since this process began to lead, so what status says is kept.
    renumber_after_seconds: when documents may get new numbers for a pod's sake, which claims higher ones; 0: now.
    mirror_key: what signs the Redis mirror: the key that is live, or a new one to be written where it is needed and none is;
    None: nobody can make one here. mirror_trouble: what is wrong with the mirror, "" for nothing, None: not known yet.
    health: what is held to be true of datastores and backends that have been judged; what status says of others is kept.
    """

    key: GatewayKey
    gateway: Stored | None
    models: Mapping[str, Stored]
    context: RuleContext
    departed: Mapping[str, Stored] = field(default_factory=dict)
    served_elsewhere: frozenset[str] = frozenset()
    served: Mapping[str, Served] = field(default_factory=dict)
    settings: Settings | None = None
    config_maps: Mapping[str, LiveObject] = field(default_factory=dict)
    secrets_live: Mapping[str, LiveObject] = field(default_factory=dict)
    secrets: Mapping[str, SecretState] = field(default_factory=dict)
    unreferenced_since: Mapping[tuple[str, str], float] = field(default_factory=dict)
    proof: Proof | None = None
    renumber_after_seconds: float = 0.0
    mirror_key: bytes | None = field(default=None, repr=False)
    mirror_trouble: str | None = None
    health: HealthOf = field(default_factory=dict)

    def secret(self, ref: SecretRef) -> SecretState:
        """Return the state of a referenced Secret; unknown where nobody has looked."""
        return self.secrets.get(ref.secret, _UNKNOWN)


_UNKNOWN = SecretState(known=False, exists=False)
