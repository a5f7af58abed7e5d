"""Fixtures of the tests of the Redis mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from hack.stores import RedisServer
from tests.conftest import require_binaries
from tests.mirror.pair import client


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the shared Redis, which is empty."""
    async with client(redis_server) as opened:
        await opened.flushall()
        yield opened


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis with a password, of this test alone."""
    with RedisServer.start(password="first", binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started
