"""Names are resolved by us and judged by address, so that a driver connects to what was judged."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import pytest

from aigateway_config.redis_connection import reason_of
from aigateway_config.resolving import AddressRefused, checked_address

LOOPBACK = (ip_network("127.0.0.0/8"),)


async def test_an_address_that_rules_refuse_is_refused_unless_it_is_allowed() -> None:
    """Loopback by number: the text says which address, why, and what would allow it."""
    assert await checked_address("127.0.0.9", 6379, LOOPBACK) == "127.0.0.9"
    with pytest.raises(AddressRefused) as caught:
        await checked_address("127.0.0.9", 6379, ())
    said = reason_of(caught.value)
    assert said.startswith("resolves to 127.0.0.9, a loopback address")
    assert "AIGATEWAY_ALLOW_ADDRESSES" in said


async def test_of_several_addresses_only_accepted_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to the metadata service as well never leads there."""

    async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 6379)) for text in ("169.254.169.254", "10.1.2.3")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    assert {await checked_address("redis.ai.svc", 6379, ()) for _ in range(20)} == {"10.1.2.3"}
