"""Names → one address that the address rules allow, to be connected to as it is: a name may say something else a moment later.

Called by the mirror's writer before every connection. Who looks names up is given: `getaddrinfo` in the event loop's own
threads would leave none for anybody else while DNS is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.addresses import is_forbidden_address
from aigateway_operator.rules.ranges import Address

RESOLVE_SECONDS: Final = 2.0
Addresses = Callable[[str], Awaitable[Sequence[Address]]]
"""Returns every address of a name. Raises OSError where there is none."""


class Unresolved(Exception):
    """There is no address to connect to; the text, which reads after "Redis at host:port", says why."""


class Resolver:
    """Resolves and checks. `context`: for the address rules."""

    def __init__(self, context: RuleContext, random: Random, addresses: Addresses) -> None:
        self._context = context
        self._addresses = addresses
        self._random = random

    async def __call__(self, host: str) -> str:
        """Return one of the allowed addresses of `host`, another one now and then. Raises Unresolved."""
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._addresses(host)
        except TimeoutError:
            raise Unresolved("has a name for which DNS gives no answer") from None
        except OSError:
            raise Unresolved("has a name that does not resolve") from None
        refused = {str(address): is_forbidden_address(address, self._context) for address in found}
        allowed = [address for address, reason in refused.items() if reason is None]
        if allowed:
            return self._random.choice(allowed)
        address, reason = next(iter(refused.items()), ("nothing", "no address"))
        raise Unresolved(f"resolves to {address}, {reason}, which is refused; AIGATEWAY_ALLOW_ADDRESSES can allow it")
