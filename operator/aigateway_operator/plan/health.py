"""Words about the health of datastores and backends that plan, datastores and reconcile share: what to probe, what came of it.

Pure values. `plan.probing` says the targets, `datastores` probes them and says the health, `plan.health_status` makes status
of it. Targets hold passwords: they are compared and hashed as a whole, so a rotated one is another target, and never printed.
Source: docs/health.md#states-and-reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

StoreName = Literal["mongodb", "redis", "qdrant"]


class HealthState(StrEnum):
    """What a store or a backend is; the worst comes last."""

    UP = "Up"  # it does what a gateway needs of it
    UNKNOWN = "Unknown"  # not probed yet
    NOT_READY = "NotReady"  # it answers and is not ready for work
    DENIED = "Denied"  # it answers and refuses the credentials, or they are missing
    DOWN = "Down"  # no usable answer


SEVERITY: Mapping[HealthState, int] = {state: rank for rank, state in enumerate(HealthState)}


class HealthReason(StrEnum):
    """One CamelCase word for why a state is as it is; docs/health.md says what to do about each."""

    # Up
    ANSWERING = "Answering"  # the check passed
    # Unknown
    NOT_PROBED = "NotProbed"  # the first check is under way, or its Secret could not be read
    # NotReady
    LOADING = "Loading"  # it is still loading its data, or starting
    NO_PRIMARY = "NoPrimary"  # this MongoDB member takes no writes, or this Redis replica has lost its primary
    COLLECTION_MISSING = "CollectionMissing"  # Qdrant has no collection of that name
    OVERLOADED = "Overloaded"  # it turns connections away, or is busy with one command
    SERVER_ERROR = "ServerError"  # it answers with an error of its own
    # Denied
    CREDENTIALS_MISSING = "CredentialsMissing"  # a Secret or key that spec.storage names is not there
    AUTHENTICATION_REQUIRED = "AuthenticationRequired"  # it wants credentials and the spec names none
    AUTHENTICATION_FAILED = "AuthenticationFailed"  # it knows no such user, password or key
    NOT_AUTHORIZED = "NotAuthorized"  # it knows the user, who may not do this
    # Down
    REFUSED = "Refused"  # nothing listens on that port
    TIMEOUT = "Timeout"  # no answer in time
    NAME_NOT_RESOLVED = "NameNotResolved"  # DNS knows no such name, or does not answer
    NO_ROUTE = "NoRoute"  # the network cannot be reached
    ADDRESS_FORBIDDEN = "AddressForbidden"  # the name leads to an address that nobody may connect to
    TLS_FAILED = "TlsFailed"  # no TLS, or a certificate that is not trusted
    CONNECTION_CLOSED = "ConnectionClosed"  # it hung up without an answer
    PROTOCOL_ERROR = "ProtocolError"  # something else answers on that port
    PROBE_FAULT = "ProbeFault"  # a fault of ours; the log has it


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """One datastore as a gateway reaches it. Equal targets are probed once.

    username, password, auth_source, database: None or "" where the store has none; `password` is the API key of Qdrant.
    collection: of Qdrant. tls: speak TLS; ca: PEM of the CA to trust, None for the system's. missing: sentences about Secrets
    and keys that are named and not there, such as "Secret 'redis' does not exist"; then nothing is connected to.
    """

    store: StoreName
    host: str
    port: int
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    auth_source: str = ""
    database: str = ""
    collection: str = ""
    tls: bool = False
    ca: bytes | None = field(default=None, repr=False)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackendTarget:
    """Where a backend listens; `tls`: its URL is https."""

    host: str
    port: int
    tls: bool


Target = StoreTarget | BackendTarget


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one gateway wants its targets probed: `spec.probes`. Seconds; failures in a row until a bad state counts."""

    period_seconds: float = 10.0
    timeout_seconds: float = 2.0
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class Probing:
    """All that is to be probed for one gateway. stores: enabled ones whose Secrets are known, by name."""

    schedule: Schedule
    stores: Mapping[StoreName, StoreTarget] = field(default_factory=dict)
    backends: frozenset[BackendTarget] = frozenset()

    @property
    def targets(self) -> frozenset[Target]:
        """Everything that is probed."""
        return self.backends | frozenset(self.stores.values())


@dataclass(frozen=True, slots=True)
class Health:
    """What is held to be true of one target. `since`: RFC 3339, when `state` last moved."""

    state: HealthState
    reason: HealthReason
    message: str
    since: str


HealthOf = Mapping[Target, Health]
"""What is known by target. A target that is not in it has not been judged by this process yet."""
