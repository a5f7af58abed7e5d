"""Settings of one gateway pod: `AIGATEWAY_GATEWAY_*` environment variables, and the flags of `aigateway gateway` above them.

What belongs to a gateway as such (models, stores, logs) stands in its GatewayConfig; here is only what belongs to a pod. A
leaf: `serve` reads it and hands it out. `admin_key` is the only secret and is never printed.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


def _as_mounted(name: str, default: Path | None) -> Any:
    """Return a folder's field, which the variable that `aigateway mount` puts into a Deployment sets too."""
    return Field(default, validation_alias=AliasChoices(name.lower(), f"AIGATEWAY_GATEWAY_{name}", f"AIGATEWAY_{name}"))


class GatewaySettings(BaseSettings):
    """One pod of the gateway. Lists are written with commas."""

    model_config = SettingsConfigDict(
        env_prefix="AIGATEWAY_GATEWAY_",
        env_ignore_empty=True,  # a chart writes variables it has no value for as ""
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    config_dir: Path = _as_mounted("CONFIG_DIR", Path("/etc/aigateway/config"))
    """Folder in which the ConfigMaps are mounted; AIGATEWAY_CONFIG_DIR, which `aigateway mount` sets, does as well."""
    credentials_dir: Path = _as_mounted("CREDENTIALS_DIR", Path("/etc/aigateway/credentials"))
    """Folder in which the credentials Secrets are mounted; AIGATEWAY_CREDENTIALS_DIR does as well."""
    config_file: Path | None = None
    """A plain config.yml instead of both folders, for development. Default: none."""
    api_watch: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Name of the GatewayConfig, to read its ConfigMaps from the API server as well. Default: the API server is not asked."""
    redis_channel: Annotated[str, Field(min_length=1)] = "config:invalidate"
    """Channel on which the operator tells of changes, when delivery.redisNotify is on: its AIGATEWAY_REDIS_CHANNEL."""
    host: str | None = None
    """Address to listen on. Default: spec.app.host of the GatewayConfig."""
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port to listen on; 0: any free one. Default: spec.app.port of the GatewayConfig."""
    wait_seconds: Annotated[float, Field(ge=0)] = 10.0
    """Seconds to wait at start for a first configuration, which names host and port; then 0.0.0.0:8000 is taken."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Worker processes. One uses one core."""
    workers_dir: Path | None = _as_mounted("WORKERS_DIR", None)
    """Folder in which workers tell each other what they run; AIGATEWAY_WORKERS_DIR does as well. Default: one made at start."""
    status_host: str = "0.0.0.0"  # noqa: S104 - the operator asks the pod's address
    """Address at which the pod says what it runs."""
    status_port: Annotated[int, Field(ge=0, le=65535)] | None = 8081
    """Port at which the pod says what it runs: spec.delivery.statusPort. 0: any free one."""
    metrics_host: str = "0.0.0.0"  # noqa: S104 - Prometheus asks the pod's address
    """Address of /metrics."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Port of /metrics; 0: any free one. Default: no metrics are served."""
    admin_key: SecretStr | None = None
    """Key that /config asks for, as a bearer token. Default: there is no /config."""
    admin_key_file: Path | None = None
    """File with that key, as a Secret is mounted; read at start. Default: none; while it is not there, there is no /config."""
    docs: bool = True
    """false: no /docs and no /openapi.json."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call the gateway from a browser. Default: none."""
    cors_credentials: bool = False
    """true: pages may send cookies and credentials; never together with the origin *."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host headers that are answered, such as gateway.example.com or *.example.com. Default: all."""
    gzip: bool = False
    """true: compress answers for callers that ask for it; never streams."""
    allow_addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), validation_alias=AliasChoices("AIGATEWAY_ALLOW_ADDRESSES", "allow_addresses")
    )
    """Networks that may be connected to although rules refuse them, such as 127.0.0.0/8 in tests. Default: none."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 33_554_432
    """Largest body of a request. Default: 32 MiB, some images."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 67_108_864
    """Largest answer of a backend that is not a stream. Default: 64 MiB."""
    body_timeout_seconds: Seconds = 60.0
    """Seconds a caller has to send its body."""
    connect_timeout_seconds: Seconds = 5.0
    """Seconds to connect to a backend, names resolved and TLS included."""
    first_byte_timeout_seconds: Seconds = 600.0
    """Seconds until a backend's answer begins. Default: 10 minutes, as OpenAI's own client waits."""
    idle_timeout_seconds: Seconds = 120.0
    """Seconds between two pieces of an answer."""
    max_in_flight: Annotated[int, Field(ge=1)] = 2048
    """Requests a worker works on at once; more are answered 503."""
    max_concurrent: Annotated[int, Field(ge=1)] = 512
    """Requests a worker sends to one backend of a model at once; more wait."""
    max_waiting: Annotated[int, Field(ge=0)] = 256
    """Requests that may wait for one backend in a worker; more are answered 429."""
    queue_timeout_seconds: Seconds = 10.0
    """Seconds a request waits for its backend before it is answered 429."""
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    """Seconds for which a caller's idle connection stays open; more than a load balancer's, often 60."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 5.0
    """Seconds for which a stopping gateway goes on answering, until no Service sends it requests any more."""
    shutdown_seconds: Annotated[int, Field(ge=0)] = 30
    """Seconds that requests have to end after that."""
    store_check_seconds: Seconds = 15.0
    """Seconds between two looks at a datastore."""
    store_timeout_seconds: Seconds = 5.0
    """Seconds a datastore has to answer."""
    vector_size: Annotated[int, Field(ge=1, le=65536)] = 1536
    """Length of the vectors of a Qdrant collection that is made because it is absent."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level of the gateway's own log."""
    log_format: Literal["json", "text"] = "text"
    """json for machines, text for people."""
    log_dir: Path | None = None
    """Folder below which log files are written, at spec.log.operation.storage.path. Default: no files are written."""
    log_spool_dir: Path | None = None
    """Folder where records wait for storage.mongodb, on a volume that outlives the pod. Default: nothing goes to MongoDB."""
    log_spool_mebibytes: Annotated[int, Field(ge=4, le=1_048_576)] = 256
    """Most that waits there; beyond it system records are dropped first, and counted."""

    def read_admin_key(self) -> str:
        """Return the key that /config asks for, of the variable or its file; "" for none. Raises OSError for a file unread."""
        if self.admin_key is not None:
            return self.admin_key.get_secret_value()
        if self.admin_key_file is None or not self.admin_key_file.is_file():
            return ""
        return self.admin_key_file.read_text(encoding="utf-8").strip()

    @field_validator("cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow_addresses", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _check_cors(self) -> GatewaySettings:
        if self.cors_credentials and "*" in self.cors_origins:
            raise ValueError(
                "AIGATEWAY_GATEWAY_CORS_CREDENTIALS needs origins by name: with * any page could act for its visitor"
            )
        return self
