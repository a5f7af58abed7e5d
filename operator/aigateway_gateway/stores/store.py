"""What every store has in common: the Protocol of a client, what is known of a store, and the look at it that never raises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Final, Protocol

from aigateway_config.addresses import Networks, refusal

_PAUSES_SECONDS: Final = (0.2, 0.8)
"""Between the three tries of one look."""
_DENIALS: Final = frozenset({"AuthenticationError", "AuthenticationWrongNumberOfArgsError", "NoPermissionError"})
"""Redis' own; all other errors of Redis say that it does not work, not that it does not want to."""
_MONGODB_DENIALS: Final = frozenset({11, 13, 18, 8000})
"""UserNotFound, Unauthorized, AuthenticationFailed, and the one of Atlas."""


class Health(StrEnum):
    """What health says of a store."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DISABLED = "disabled"
    """The configuration names none."""
    UNKNOWN = "unknown"
    """Not looked at yet."""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What is known of a store. `message` is a sentence and never holds a secret; `checked_at` None: never looked at."""

    health: Health
    message: str
    checked_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        checked = None if self.checked_at is None else self.checked_at.isoformat(timespec="milliseconds")
        return {"status": str(self.health), "message": self.message, "checkedAt": checked}


class Client(Protocol):
    """A connection to one store with one set of values. Made without I/O."""

    async def check(self) -> str:
        """Ask the store for a sign of life and make what is absent; returns a sentence. Raises whatever the driver raises."""

    async def close(self) -> None:
        """End its connections."""


MakeClient = Callable[[], Awaitable[Client]]


class Slot:
    """The place of one client: made when it is first needed, and closed by whoever owns the slot, whatever happened."""

    def __init__(self, make: MakeClient) -> None:
        self._make = make
        self._client: Client | None = None

    async def check(self) -> str:
        """Ask the store for a sign of life. Raises whatever the driver raises."""
        if self._client is None:
            self._client = await self._make()
        return await self._client.check()

    async def close(self) -> None:
        """End its connections."""
        if self._client is not None:
            await self._client.close()


async def look(slot: Slot, timeout_seconds: float) -> StoreHealth:
    """Look at a store, three times at most with a growing pause. `timeout_seconds` bounds each try. Never raises."""
    health = StoreHealth(Health.UNKNOWN, "Not looked at yet.")
    for pause in (*_PAUSES_SECONDS, None):
        try:
            async with asyncio.timeout(timeout_seconds):
                return StoreHealth(Health.HEALTHY, await slot.check(), datetime.now(UTC))
        except TimeoutError:
            health = _unhealthy(f"No answer within {timeout_seconds:g} seconds.")
        except PermissionError as error:
            return _unhealthy(f"It is not connected to: {error}.")
        except Exception as error:  # noqa: BLE001 - drivers raise whatever they like, and health must go on
            if _is_denied(error):  # more tries are more of the same, and some servers lock accounts
                return _unhealthy("It refuses the user, password or key it is given. Check the Secret that storage names.")
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return _unhealthy("Its TLS certificate is not trusted. Check the CA that tls.caSecretRef of storage names.")
            # The kind of error alone: drivers put addresses, user names and at times whole URIs into their texts.
            health = _unhealthy(f"It does not answer as it should: {type(error).__name__}.")
        if pause is not None:
            await asyncio.sleep(pause)
    return health


async def check_host(host: str, port: int, allowed: Networks) -> None:
    """Resolve a store's name and raise PermissionError if any address is one the gateway may not talk to.

    Drivers resolve the name again when they connect: a name server that answers differently in between is not caught.
    """
    found: Sequence[tuple[Any, ...]] = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    for address in found:
        reason = refusal(ip_address(str(address[4][0]).partition("%")[0]), allowed)
        if reason is not None:
            raise PermissionError(f"the address is {reason}")


def _is_denied(error: Exception) -> bool:
    """Whether a driver says that the store does not let us in. By name and code: drivers are imported only when used."""
    if type(error).__name__ in _DENIALS:
        return True
    code, status = getattr(error, "code", None), getattr(error, "status_code", None)
    return (type(error).__name__ == "OperationFailure" and code in _MONGODB_DENIALS) or status in (401, 403)


def _unhealthy(message: str) -> StoreHealth:
    return StoreHealth(Health.UNHEALTHY, message, datetime.now(UTC))
