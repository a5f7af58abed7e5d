"""Names → one address that the address rules allow, to be connected to as it is: a name may say something else a moment later.

Called by the mirror's writer before every connection.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from random import Random
from typing import Final

from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.addresses import is_forbidden_address

RESOLVE_SECONDS: Final = 2.0


class Unresolved(Exception):
    """There is no address to connect to; the text, which reads after "Redis at host:port", says why."""


class Resolver:
    """Resolves and checks. `context`: for the address rules."""

    def __init__(self, context: RuleContext, random: Random) -> None:
        self._context = context
        self._random = random

    async def __call__(self, host: str, port: int) -> str:
        """Return one of the allowed addresses of `host`, another one now and then. Raises Unresolved."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise Unresolved("has a name for which DNS gives no answer") from None
        except (OSError, UnicodeError):
            raise Unresolved("has a name that does not resolve") from None
        addresses = sorted({str(entry[4][0]).partition("%")[0] for entry in found})
        refused = {address: is_forbidden_address(ip_address(address), self._context) for address in addresses}
        allowed = [address for address, reason in refused.items() if reason is None]
        if allowed:
            return self._random.choice(allowed)
        address, reason = next(iter(refused.items()), ("nothing", "no address"))
        raise Unresolved(f"resolves to {address}, {reason}, which is refused; AIGATEWAY_ALLOW_ADDRESSES can allow it")
