"""What one check of one target brings: an outcome, as a value. The words of this room, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aigateway_operator.plan.health import BackendTarget, HealthReason, HealthState, StoreTarget, Target

_NAMES = {"mongodb": "MongoDB", "redis": "Redis", "qdrant": "Qdrant"}


@dataclass(frozen=True, slots=True)
class Up:
    """The target does what a gateway needs of it. `latency_seconds`: of the whole check, as of all outcomes."""

    message: str
    latency_seconds: float = 0.0
    reason: HealthReason = HealthReason.ANSWERING
    state = HealthState.UP


@dataclass(frozen=True, slots=True)
class Denied:
    """It answers and refuses the credentials, or they are missing."""

    reason: HealthReason
    message: str
    latency_seconds: float = 0.0
    state = HealthState.DENIED


@dataclass(frozen=True, slots=True)
class Down:
    """No usable answer came."""

    reason: HealthReason
    message: str
    latency_seconds: float = 0.0
    state = HealthState.DOWN


@dataclass(frozen=True, slots=True)
class NotReady:
    """It answers and is not ready for work."""

    reason: HealthReason
    message: str
    latency_seconds: float = 0.0
    state = HealthState.NOT_READY


Bad = Denied | Down | NotReady
Outcome = Up | Bad


class Failed(Exception):
    """Ends a check with an outcome that is not Up. Raised and caught within this room."""

    def __init__(self, outcome: Bad) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class Probe(Protocol):
    """One check of one target; `checking.Checker` gives it its time limit and turns what it raises into an outcome."""

    async def __call__(self) -> None:
        """Return if the target is fine. Raises Failed, and lets TimeoutError and cancellation through."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...


def place(target: Target) -> str:
    """Return how messages name a target, such as "Redis at redis.ai.svc:6379"."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    where = f"{host}:{target.port}"
    return f"{_NAMES[target.store]} at {where}" if isinstance(target, StoreTarget) else where


def settings_of(target: Target) -> str:
    """Return where a target is configured: the field that remedies speak of."""
    return "baseUrl" if isinstance(target, BackendTarget) else f"spec.storage.{target.store}"


def credential_field(target: StoreTarget) -> str:
    """Return the field that names the Secret of a store."""
    return f"spec.storage.{target.store}.{'apiKeySecretRef' if target.store == 'qdrant' else 'passwordSecretRef'}"


def protocol_error(target: Target, what: str) -> Failed:
    """Return the failure of a target that answers, but not as what it should be. `what`: reads after its name."""
    text = f"{place(target)} {what}: something else listens there. Correct host and port in {settings_of(target)}."
    return Failed(Down(HealthReason.PROTOCOL_ERROR, text))


def closed(target: Target) -> Failed:
    """Return the failure of a target that hangs up without an answer."""
    text = (
        f"{place(target)} closed the connection without an answer. Check that it is what {settings_of(target)} says, its log, "
        "and whether it asks for TLS."
    )
    return Failed(Down(HealthReason.CONNECTION_CLOSED, text))


def credentials_refused(target: StoreTarget) -> Failed:
    """Return the failure of a store that knows no such user, password or key."""
    what = "API key" if target.store == "qdrant" else "password" if target.username is None else "user name or password"
    text = f"{place(target)} refuses the {what}. Correct the Secret that {credential_field(target)} names"
    return Failed(Denied(HealthReason.AUTHENTICATION_FAILED, f"{text}{' or username' if target.username else ''}."))


def credentials_required(target: StoreTarget) -> Failed:
    """Return the failure of a store that wants credentials where the spec names none."""
    field = credential_field(target) + (" and username" if target.store == "mongodb" else "")
    text = f"{place(target)} asks for credentials and none are configured. Set {field}."
    return Failed(Denied(HealthReason.AUTHENTICATION_REQUIRED, text))
