"""Datastores by TLS: the CA of the configuration is believed, another one is not, and requests go on either way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from aigateway_config import Configuration, documents
from hack.stores import MongoServer, RedisServer
from tests.gateway.test_stores import expect, message, mongodb_at, redis_at
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.mirror.relay import Relay
from tests.mirror.test_tls import serving
from tests.stub_upstream import StubUpstream
from tests.webhooks import Authority

TLS: dict[str, Any] = {"tls": documents.Tls(enabled=True, ca_ref="ca.crt"), "host": "localhost"}


@pytest.mark.parametrize("store", ["redis", "mongodb"])
async def test_a_store_by_tls_is_healthy_with_its_own_ca_alone(
    stub: StubUpstream, redis_server: RedisServer, mongo_server: MongoServer, tmp_path: Path, store: str
) -> None:
    """With the CA that no system trusts: healthy. With another: unhealthy, and said so without its certificate."""
    authority, stranger = Authority(), Authority()
    server: RedisServer | MongoServer = redis_server if store == "redis" else mongo_server
    at: Callable[[int], Any] = redis_at if store == "redis" else mongodb_at
    async with Relay.to(server, serving(authority, tmp_path)) as relay:
        settings = at(relay.port).model_copy(update=TLS)

        def trusting(ca: Authority, revision: int) -> Configuration:
            stores: dict[str, Any] = {"mongodb": None, "redis": None, "qdrant": None, store: settings}
            model = make_model("chat", make_backend(stub.base_url))
            secrets = {"ca.crt": SecretStr(ca.pem.decode())}
            return make_configuration(model, revision=revision, storage=documents.Storage(**stores), secrets=secrets)

        def act() -> None:
            with RunningGateway(trusting(authority, 1), store_check_seconds=0.2, store_timeout_seconds=1) as gateway:
                expect(gateway, 10, **{store: "healthy"})
                gateway.configure(trusting(stranger, 2))
                expect(gateway, 10, **{store: "unhealthy"})
                assert "certificate is not trusted" in message(gateway, store)
                gateway.configure(trusting(authority, 3))
                expect(gateway, 10, **{store: "healthy"})

        await asyncio.to_thread(act)  # the relay has this loop
