"""`GatewayConfig`: the settings of one gateway. Its structure is fixed: values change, keys are neither added nor removed.

Docstrings below the fields are what `kubectl explain gatewayconfig.spec` shows. Defaults stand here once; they are applied
when documents are rendered, never by the API server (no drift under GitOps).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from aigateway_config.documents import MAX_SHARDS
from aigateway_operator.api.fields import (
    ATOMIC,
    DNS_LABEL,
    RELATIVE_PATH,
    Days,
    Host,
    LogLevel,
    OpenMap,
    Port,
    Seconds,
    SecretKeyRef,
    SpecModel,
    Text,
    Url,
)

FIXED_SECTIONS: Final = ("app", "storage", "webSearch", "log")
"""Sections that pods read. A key that is set here may change its value but not vanish."""
MAX_LABELS: Final = 64

Sink = Literal["mongodb", "file"]
MAX_SINKS: Final = 2
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
LabelKey = Annotated[
    str, Field(min_length=1, max_length=317, pattern=r"^([-a-z0-9.]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]


class App(SpecModel):
    """The gateway's own server."""

    host: Host = "0.0.0.0"  # noqa: S104 - a pod listens on all its addresses; the NetworkPolicy narrows it
    """Address the gateway listens on. A running process cannot take up a change. Default: 0.0.0.0."""
    port: Port = 8000
    """Port the gateway listens on. A running process cannot take up a change. Default: 8000."""
    debug: bool = False
    """Verbose logs and error detail, never secrets. Default: false."""


class Tls(SpecModel):
    """TLS towards a datastore."""

    # Otherwise server-side apply cannot empty it: it would ask for null, which no object takes.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    enabled: bool = False
    """Speak TLS. Default: false."""
    ca_secret_ref: SecretKeyRef | None = None
    """CA certificate (PEM) that signs the server's certificate. Default: the system's CAs."""


class MongoDB(SpecModel):
    """MongoDB, where the gateway keeps logs. One host; no SRV or replica-set URIs yet."""

    enabled: bool = True
    """false: rendered as null and not probed. Default: true."""
    host: Host
    """Name or address, without scheme, port or path."""
    port: Port = 27017
    """Default: 27017."""
    username: Text | None = None
    """User to authenticate as. Default: none."""
    password_secret_ref: SecretKeyRef | None = None
    """Password of that user. Default: none."""
    database: Annotated[str, Field(min_length=1, max_length=63, pattern=r'^[^/\\. "$*<>:|?\p{C}]+$')] = "ai_gateway"
    """Default: ai_gateway."""
    auth_source: Annotated[str, Field(min_length=1, max_length=63, pattern=r'^[^/\\. "$*<>:|?\p{C}]+$')] = "admin"
    """Database the user is defined in. Default: admin."""
    tls: Tls | None = None
    """TLS settings. Default: no TLS."""


class Redis(SpecModel):
    """Redis, which the gateway uses as cache and as a fast path for configuration."""

    enabled: bool = True
    """false: rendered as null and not probed. Default: true."""
    host: Host
    """Name or address, without scheme, port or path."""
    port: Port = 6379
    """Default: 6379."""
    password_secret_ref: SecretKeyRef | None = None
    """Password. Default: none."""
    tls: Tls | None = None
    """TLS settings. Default: no TLS."""


class Qdrant(SpecModel):
    """Qdrant, the vector store."""

    enabled: bool = True
    """false: rendered as null and not probed. Default: true."""
    host: Host
    """Name or address, without scheme, port or path."""
    port: Port = 6333
    """HTTP port. Default: 6333."""
    collection: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\p{C}\p{Z}]+$")] = "knowledge_base"
    """Default: knowledge_base."""
    api_key_secret_ref: SecretKeyRef | None = None
    """API key. Default: none."""
    tls: Tls | None = None
    """TLS settings. Default: no TLS."""


class Storage(SpecModel):
    """Datastores. One that is never named, or has `enabled: false`, is rendered as null and not probed."""

    mongodb: MongoDB | None = None
    """MongoDB. Default: none."""
    redis: Redis | None = None
    """Redis. Default: none."""
    qdrant: Qdrant | None = None
    """Qdrant. Default: none."""


class WebSearch(SpecModel):
    """A web search service the gateway may use."""

    provider: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name of the provider, such as searxng."""
    base_url: Url
    """Base URL of the service, such as http://searxng.ai.svc:8080."""
    options: OpenMap = Field(default_factory=dict)
    """Options of the provider, an open map. No secrets."""
    api_key_secret_ref: SecretKeyRef | None = None
    """API key. Default: none."""


def _both_sinks() -> list[Sink]:
    return ["mongodb", "file"]


class LogStorage(SpecModel):
    """Where a log stream goes."""

    # No set for the API server: server-side apply cannot empty one. That none occurs twice is a rule in CEL.
    sinks: Annotated[list[Sink], Field(max_length=MAX_SINKS), ATOMIC] = Field(default_factory=_both_sinks)
    """Any of mongodb and file. ERROR and above always go to file as well. Default: [mongodb, file]."""
    path: Annotated[str, Field(min_length=1, max_length=253, pattern=RELATIVE_PATH)] = "logs"
    """Folder of the log files, relative, without `..`. The gateway takes that of `log.operation` for both. Default: logs."""


class LogStream(SpecModel):
    """One log stream."""

    level: LogLevel = "INFO"
    """Lowest level that is kept: DEBUG, INFO, WARNING or ERROR. Default: INFO."""
    storage: LogStorage = Field(default_factory=LogStorage)
    """Where the records go."""
    retention_days: Days = 30
    """Days to keep records. Default: 30."""


class Log(SpecModel):
    """What the gateway logs: its own workings (`system`) and what it was asked to do (`operation`)."""

    system: LogStream = Field(default_factory=LogStream)
    """Records of the gateway's own workings."""
    operation: LogStream = Field(default_factory=LogStream)
    """Records of requests and changes."""


class LabelExpression(SpecModel):
    """One requirement of a label selector."""

    key: LabelKey
    """Label key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How key and values relate."""
    values: Annotated[list[LabelValue], Field(max_length=64)] = Field(default_factory=list)
    """Label values; empty for Exists and DoesNotExist."""


class PodSelector(SpecModel):
    """Labels of the gateway's pods. An empty selector is refused: it would select every pod."""

    # One owner under server-side apply: half a selector from one manager and half from another selects the wrong pods.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    """Labels that must all be there."""
    match_expressions: Annotated[list[LabelExpression], Field(max_length=32)] = Field(default_factory=list)
    """Further requirements."""


class Delivery(SpecModel):
    """How documents reach pods. Not part of what pods read."""

    pod_selector: PodSelector | None = None
    """Pods of this gateway. Default: none, and then nothing is proved (Propagated=Unknown, NoSelector)."""
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] = 1
    """ConfigMaps that models are spread over, about 3,000 models each. Cannot be changed later. Default: 1."""
    status_port: Port = 8081
    """Port on which pods say what they run. Default: 8081."""
    poke: bool = True
    """Touch an annotation of the pods after a write: their volumes follow in 0.1 s, not a minute. Default: true."""
    redis_notify: bool = False
    """Also mirror documents to storage.redis and publish changes. Default: false."""


class Probes(SpecModel):
    """How the operator checks the datastores."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    period_seconds: Seconds = 10
    """Seconds between two checks. Default: 10."""
    timeout_seconds: Seconds = 2
    """Seconds until a check counts as failed. Default: 2."""
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed checks in a row until a store counts as down. Default: 3."""


class GatewayConfigSpec(SpecModel):
    """Settings of one gateway. The structure is fixed: exactly these keys, at every level but the open maps."""

    app: App = Field(default_factory=App)
    """The gateway's own server."""
    storage: Storage = Field(default_factory=Storage)
    """Datastores."""
    web_search: WebSearch | None = None
    """Web search. Default: none."""
    log: Log = Field(default_factory=Log)
    """Log streams."""
    delivery: Delivery = Field(default_factory=Delivery)
    """How documents reach pods."""
    probes: Probes = Field(default_factory=Probes)
    """How datastores are checked."""
