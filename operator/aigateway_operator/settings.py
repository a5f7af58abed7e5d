"""Settings of the operator: `AIGATEWAY_*` environment variables, and the flags of `aigateway run` above them.

A leaf: `main` reads it and hands out its parts; no other room imports it. Printed at start; `log_mongodb_uri` is the only
secret, is never printed and has no flag.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aigateway_operator.api.label_selector import parse_label_selector

_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class Settings(BaseSettings):
    """One process of the operator. Lists are written with commas."""

    model_config = SettingsConfigDict(
        env_prefix="AIGATEWAY_",
        env_ignore_empty=True,  # a chart writes variables it has no value for as ""
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to work in. Default: all of the cluster; name them where the operator has Roles only."""
    namespace_selector: str = ""
    """Label selector on namespaces to work in, in place of names; followed as labels change. Default: none."""
    kubeconfig: Path | None = None
    """Kubeconfig file. Default: the pod's ServiceAccount, else $KUBECONFIG, else ~/.kube/config."""
    context: str | None = None
    """Context of the kubeconfig. Default: its current one."""
    allow_addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks that URLs and hosts may name although rules refuse them, such as 127.0.0.0/8 in tests. Default: none."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster; names below `svc.<domain>` are inside it."""
    secret_selector: str = ""
    """Label selector that narrows the Secrets that are watched. Default: none; Helm releases and tokens are never read."""
    redis_channel: Annotated[str, Field(min_length=1, max_length=255)] = "config:invalidate"
    """Redis channel on which changed documents are told, for GatewayConfigs with spec.delivery.redisNotify."""
    lease_namespace: str = "default"
    """Namespace of the Lease by which one of several operators leads. The chart sets it to the operator's own."""
    lease_name: str = "aigateway-operator"
    """Name of that Lease."""
    owner: Annotated[str, Field(pattern=r"^((Deployment|StatefulSet)/[a-z0-9.-]{1,253})?$")] = ""
    """What runs the operator, as Deployment/NAME, beside the Lease: Lease and Secret go with it. Default: they stay."""
    identity: str = ""
    """Name of this process in the Lease. Default: host name and a random suffix."""
    leader_election: bool = True
    """false: write without a Lease; for one process that is certainly alone."""
    health_host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes the pod's address
    """Address of /healthz, /readyz and /metrics."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz and /metrics; 0: any free one."""
    with_webhook: bool = False
    """true: `aigateway run` serves admission reviews too, in a thread of its own; for small set-ups."""
    webhook_host: str = "0.0.0.0"  # noqa: S104 - the API server reaches the pod's address
    """Address at which admission reviews are served, by TLS."""
    webhook_port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """Port of the admission reviews; 0: any free one."""
    webhook_cert_dir: Path = Path("/etc/aigateway/webhook")
    """Folder with tls.crt and tls.key, as cert-manager's Secret is mounted; read when AIGATEWAY_WEBHOOK_CERTIFICATES=files."""
    webhook_client_ca: Path | None = None
    """CA bundle (PEM) that signs the API server's client certificate. Default: none is asked for; anyone may post reviews."""
    webhook_drain_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds for which a stopping webhook goes on answering, until no Service sends it reviews any more."""
    webhook_certificates: Literal["self", "files", "off"] = "self"
    """self: the leader keeps the webhook's certificate in a Secret; files: it is mounted, as by cert-manager; off: neither."""
    webhook_secret_namespace: str = ""
    """Namespace of that Secret, and of the webhook's Service. Default: that of the Lease."""
    webhook_secret_name: str = "aigateway-webhook-certificates"
    """Name of that Secret."""
    webhook_configuration: str = "aigateway-operator"
    """ValidatingWebhookConfiguration whose caBundle the leader fills in."""
    webhook_service: str = "aigateway-webhook"
    """Service of the webhook: the certificate is for <service>.<namespace>.svc."""
    webhook_names: Annotated[tuple[str, ...], NoDecode] = ()
    """Further DNS names and addresses the certificate is for, where API servers call the webhook by URL. Default: none."""
    webhook_leaf_seconds: Annotated[int, Field(ge=3)] = 604_800
    """Life of the serving certificate, renewed at two thirds. Default: 7 days."""
    webhook_authority_seconds: Annotated[int, Field(ge=9)] = 31_536_000
    """Life of the certificate authority, renewed at two thirds; at least 3 times leaf and settle together. Default: 1 year."""
    webhook_settle_seconds: Annotated[int, Field(ge=1)] = 300
    """Seconds for which a new authority is in caBundle before it signs; more than API servers lag. Default: 5 minutes."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level of the operator's own log."""
    log_format: Literal["json", "text"] = "text"
    """json for machines, text for people."""
    log_dir: Path | None = None
    """Folder for log files: system, operation and error, a file a day. Default: no files are written."""
    log_files_format: Literal["json", "text"] = "json"
    """How these files are written; `aigateway audit` reads both."""
    log_spool_dir: Path | None = None
    """Folder where records wait for MongoDB, on a volume that outlives the process. Default: nothing goes to MongoDB."""
    log_spool_mebibytes: Annotated[int, Field(ge=4, le=1_048_576)] = 256
    """Most that waits there; beyond it system records are dropped first, and counted."""
    log_mongodb_uri: SecretStr | None = None
    """URI of the MongoDB that takes the logs, with user and password. Never printed; better mounted, see the next one."""
    log_mongodb_uri_file: Path | None = None
    """File with that URI, as a Secret is mounted; read again when it changes. Default: none; logs stay in files and spool."""
    log_mongodb_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")] = "ai_gateway"
    """Database of the collections system_logs and operation_logs."""
    log_mongodb_indexes: bool = True
    """false: only the index on timestamp is made, for servers such as FerretDB 1 that do not use the others."""
    log_system_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level of system records that files and MongoDB keep; errors are always kept in files."""
    log_operation_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest level of operation records, the audit trail, that files and MongoDB keep."""
    log_system_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    """Days for which system records are kept, in files and MongoDB."""
    log_operation_retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    """Days for which the audit trail is kept, in files and MongoDB."""

    @field_validator("namespaces", "webhook_names", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("webhook_names")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST_NAME.fullmatch(name):
                ip_address(name)  # raises ValueError that names it
        return names

    @field_validator("webhook_settle_seconds")
    @classmethod
    def _check_lives(cls, settle: int, info: ValidationInfo) -> int:
        leaf, authority = (info.data.get(f"webhook_{name}_seconds") for name in ("leaf", "authority"))
        if leaf is not None and authority is not None and authority < 3 * (leaf + settle):
            raise ValueError(
                f"three times leaf and settle, 3 * ({leaf} + {settle}), must not exceed AIGATEWAY_WEBHOOK_AUTHORITY_SECONDS, "
                f"{authority}: an authority is renewed in the last third of its life"
            )
        return settle

    @field_validator("namespace_selector")
    @classmethod
    def _check_selector(cls, selector: str, info: ValidationInfo) -> str:
        if selector and info.data.get("namespaces"):
            raise ValueError("it stands in place of AIGATEWAY_NAMESPACES, which is set too: unset one of the two")
        parse_label_selector(selector)
        return selector

    @field_validator("allow_addresses", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
