"""A name → one address that may be connected to, to be used as it is: the name may say something else a moment later.

For sources whose driver would resolve a name by itself, unseen. Called by `redis_mirror`; the gateway's client for backends
checks in its connector instead.
"""

from __future__ import annotations

import asyncio
import random
import socket
from ipaddress import ip_address
from typing import Final

from aigateway_config.addresses import Networks, refusal

RESOLVE_SECONDS: Final = 2.0


class AddressRefused(OSError):
    """No address may be connected to; the text reads after "Redis at host:port"."""


async def checked_address(host: str, port: int, allowed: Networks) -> str:
    """Return one of the addresses of `host` that rules accept, another one now and then.

    allowed: networks that are accepted although rules refuse them. Raises AddressRefused; OSError or TimeoutError when the
    name does not resolve within RESOLVE_SECONDS.
    """
    async with asyncio.timeout(RESOLVE_SECONDS):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    reasons = {text: refusal(ip_address(text), allowed) for text in (str(entry[4][0]).partition("%")[0] for entry in found)}
    good = [text for text, reason in reasons.items() if reason is None]
    if good:
        return random.choice(good)  # noqa: S311 - spreads connections, no secret
    text, reason = next(iter(reasons.items()), ("nothing", "no address"))
    raise AddressRefused(f"resolves to {text}, {reason}, which is refused; AIGATEWAY_ALLOW_ADDRESSES can allow it")
