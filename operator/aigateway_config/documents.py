"""What gateway pods read: documents, manifests, credentials manifests and the pods' own answer.

Defined once, for the operator that writes them and the library (or a program in another language, by the published JSON
Schemas) that reads them. Holds shapes only: no rendering, no files, no Kubernetes.

Readers ignore unknown keys within a schema major and refuse another major. Keys are snake_case, as programs that read one
plain `config.yml` expect. A document never contains a secret: `*_ref` names a file of the credentials folder beside it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, model_validator

SCHEMA: Final = "1.0"
"""Version of the documents as `major.minor`. The major moves when a reader of the old one would misread the new one."""

CONFIG_FILE: Final = "config.yml"
CONFIG_MANIFEST: Final = "config.manifest.json"
CREDENTIALS_MANIFEST: Final = "_manifest.json"
MIRROR_KEY: Final = "_mirror.key"
MAX_SHARDS: Final = 64
"""Most shards that a gateway can have; their numbers in names have two digits."""
TOP_LEVEL_KEYS: Final = ("ai-gateway", "app", "log", "storage", "web_search")
STATUS_PATH: Final = "/aigateway/v1/config"


@lru_cache(maxsize=2 * MAX_SHARDS)
def document_file(shard: int | None) -> str:
    """Name of the document that holds the models of `shard` (0..63) when there are several shards; None for config.yml."""
    return CONFIG_FILE if shard is None else f"models-{shard:02d}.yml"


def document_manifest(shard: int | None) -> str:
    """Name of the manifest of `document_file(shard)`."""
    return CONFIG_MANIFEST if shard is None else f"models-{shard:02d}.manifest.json"


@lru_cache(maxsize=2 * MAX_SHARDS)
def credentials_manifest(shard: int | None) -> str:
    """Name of the credentials manifest; None for the Secret of the gateway itself."""
    return CREDENTIALS_MANIFEST if shard is None else f"_manifest-{shard:02d}.json"


def schema_major(schema: str) -> int:
    """Major of a schema version; -1 when the text is not one, so that it matches none."""
    major = schema.partition(".")[0]
    return int(major) if major.isascii() and major.isdigit() else -1


class Document(BaseModel):
    """Base of everything a reader parses: unknown keys are ignored, values are not coerced."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=True)


class App(Document):
    """The gateway's own server."""

    host: str
    """Address to listen on."""
    port: int
    """Port to listen on."""
    debug: bool
    """Verbose logs and error detail, never secrets."""


class Tls(Document):
    """TLS towards a datastore."""

    enabled: bool
    """Speak TLS."""
    ca_ref: str | None
    """Credentials file that holds the CA certificate (PEM); null: the system's CAs."""


class MongoDB(Document):
    """MongoDB."""

    host: str
    """Name or address."""
    port: int
    """Port."""
    username: str | None
    """User; null: no authentication."""
    password_ref: str | None
    """Credentials file that holds the password; null: none."""
    database: str
    """Database."""
    auth_source: str
    """Database the user is defined in."""
    tls: Tls | None
    """null: no TLS."""


class Redis(Document):
    """Redis."""

    host: str
    """Name or address."""
    port: int
    """Port."""
    password_ref: str | None
    """Credentials file that holds the password; null: none."""
    tls: Tls | None
    """null: no TLS."""


class Qdrant(Document):
    """Qdrant."""

    host: str
    """Name or address."""
    port: int
    """HTTP port."""
    collection: str
    """Collection."""
    api_key_ref: str | None
    """Credentials file that holds the API key; null: none."""
    tls: Tls | None
    """null: no TLS."""


class Storage(Document):
    """Datastores; null where a store is not used."""

    mongodb: MongoDB | None
    """MongoDB, or null."""
    redis: Redis | None
    """Redis, or null."""
    qdrant: Qdrant | None
    """Qdrant, or null."""


class WebSearch(Document):
    """Web search."""

    provider: str
    """Name of the provider."""
    base_url: str
    """Base URL."""
    options: dict[str, JsonValue]
    """Options of the provider, as they stand in the resource."""
    api_key_ref: str | None
    """Credentials file that holds the API key; null: none."""


class Backend(Document):
    """One upstream of a virtual model."""

    model: str
    """Name of the model as the upstream knows it."""
    base_url: str
    """OpenAI-compatible base URL."""
    api_key_ref: str | None
    """Credentials file that holds the key to present; null: send no Authorization header."""
    parameters: dict[str, JsonValue]
    """Request defaults to merge in."""


class VirtualModelEntry(Document):
    """One virtual model: four fixed keys, and one mapping per backend name beside them."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Backend] = Field(init=False)

    use: bool
    """false: switched off; callers get 404 model_not_found."""
    current: str
    """Name of the live backend."""
    base_url: str | None
    """Base URL of backends that name none; null when every backend names its own."""
    proxy_key_ref: str
    """Credentials file that holds the key callers must present."""

    @property
    def backends(self) -> dict[str, Backend]:
        """Backends by name."""
        return self.__pydantic_extra__

    @model_validator(mode="after")
    def _current_names_a_backend(self) -> VirtualModelEntry:
        if self.current not in self.__pydantic_extra__:
            raise ValueError("current names no backend")
        return self


class AiGateway(Document):
    """The virtual models by public name."""

    virtual_models: dict[str, VirtualModelEntry]
    """By public name."""


class LogStorage(Document):
    """Where a log stream goes."""

    sinks: list[Literal["mongodb", "file"]]
    """Any of mongodb and file; ERROR and above always go to file."""
    path: str
    """Folder of the files, relative."""


class LogStream(Document):
    """One log stream."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    """Lowest level that is kept."""
    storage: LogStorage
    """Where the records go."""
    retention: int
    """Days to keep records."""


class Log(Document):
    """Log streams."""

    system: LogStream
    """The gateway's own workings."""
    operation: LogStream
    """What the gateway was asked to do."""


class ConfigDocument(Document):
    """`config.yml`: everything about a gateway but, when sharded, its models."""

    app: App
    """The gateway's own server."""
    storage: Storage
    """Datastores."""
    web_search: WebSearch | None
    """Web search, or null."""
    ai_gateway: AiGateway = Field(alias="ai-gateway")
    """Virtual models; empty when they are in shards of their own."""
    log: Log
    """Log streams."""


class ModelsDocument(Document):
    """`models-NN.yml`: the models of one shard, complete in itself."""

    ai_gateway: AiGateway = Field(alias="ai-gateway")
    """Virtual models of this shard."""


class ManifestHead(Document):
    """What a reader needs of a manifest: all but the sources, which are most of its text."""

    # No two of its texts are alike; the parser would keep the last 16,384 of them for the life of the process.
    model_config = ConfigDict(cache_strings="none")

    schema_version: str = Field(alias="schema")
    """Version of the document's shape, `major.minor`."""
    gateway: str
    """`namespace/name` of the GatewayConfig."""
    lineage: str
    """uid of the GatewayConfig. Revisions are compared only within one lineage."""
    shards: int
    """Number of shards; 1: the models are in config.yml."""
    shard: int | None
    """Which shard this document is; null for config.yml."""
    revision: int
    """Revision of the gateway at which this document last changed."""
    sha256: str
    """SHA-256 of the document's bytes, lower-case hex."""


class Manifest(ManifestHead):
    """`*.manifest.json`: what a reader verifies before it makes a document its own."""

    sources: dict[str, str]
    """Public model name → `name/uid8` of its VirtualModel (the first eight characters of its uid)."""


class CredentialsManifest(Document):
    """`_manifest.json` of a credentials Secret: which keys it holds, and which are known to be missing."""

    schema_version: str = Field(alias="schema")
    """Version of this manifest's shape, `major.minor`."""
    gateway: str
    """`namespace/name` of the GatewayConfig."""
    lineage: str
    """uid of the GatewayConfig."""
    shard: int | None
    """Which shard's keys these are; null: those of config.yml."""
    revision: int = Field(alias="credentialsRevision")
    """Credentials revision of the gateway at which this Secret last changed."""
    keys: list[str]
    """Files that are there, sorted."""
    missing: list[str]
    """Files that documents name but for which there is no Secret now, sorted. A reader does not wait for them."""


class DocumentState(Document):
    """What a pod runs of one document."""

    revision: int
    """Revision of the document in force."""
    digest: str
    """SHA-256 of the document in force."""


class StatusAnswer(Document):
    """Answer of a pod at `STATUS_PATH` on its status port: what it runs, and nothing else."""

    lineage: str | None
    """Lineage in force; null before the first configuration."""
    documents: dict[str, DocumentState]
    """By file name."""
    credentials: dict[str, int]
    """Credentials manifest file name → its revision."""
    credentials_revision: int | None = Field(alias="credentialsRevision")
    """Highest credentials revision loaded; null before the first."""
    loaded_at: str | None = Field(alias="loadedAt")
    """When the configuration in force was loaded, RFC 3339."""
    restart_required: list[str] = Field(alias="restartRequired")
    """Changed values that this process cannot take up, as dotted paths."""
    error: str | None
    """Why the newest documents are not in force; null when they are."""


RESERVED_BACKEND_NAMES: Final[frozenset[str]] = frozenset(VirtualModelEntry.model_fields) | {"proxy_key"}
"""Names a backend must not have: each would take the place of a fixed key of the entry, now or once secrets are resolved."""

PUBLISHED: Final[dict[str, TypeAdapter[Any]]] = {
    "config": TypeAdapter(ConfigDocument),
    "models": TypeAdapter(ModelsDocument),
    "manifest": TypeAdapter(Manifest),
    "credentials-manifest": TypeAdapter(CredentialsManifest),
    "status": TypeAdapter(StatusAnswer),
}
"""Shapes published as JSON Schema in docs/schemas/, by file name."""
