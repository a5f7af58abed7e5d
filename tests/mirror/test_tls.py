"""TLS to Redis, at both ends: the resource's CA alone is believed, and the name is checked although an address is used."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from aigateway_operator.rollout import mirror_health
from hack.stores import RedisServer
from tests.builders import make_secret_state
from tests.eventually import eventually_async
from tests.mirror.pair import KEY, Gateway, keys, mirrored, mirroring, reading
from tests.mirror.relay import Relay
from tests.webhooks import Authority


def serving(authority: Authority, folder: Path, name: str = "localhost") -> ssl.SSLContext:
    """Return a server's TLS settings with a leaf for `name`, and for the address 127.0.0.1 whatever the name."""
    certificate, key = authority.leaf(name=name)
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


def tls_gateway(server: RedisServer, port: int, ca: str) -> Gateway:
    """Return a gateway whose Redis is `localhost` by TLS, with this CA."""
    ref: dict[str, Any] = {"enabled": True, "caSecretRef": {"name": "redis-ca", "key": "ca.crt"}}
    gateway = Gateway(server, host="localhost", port=port, tls=ref)
    state = make_secret_state(**{"ca.crt": ca})
    gateway.secrets["redis-ca"] = state
    return gateway


async def test_documents_travel_by_tls_with_the_ca_of_the_resource(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """Writer and reader both speak it, with a CA that no system trusts."""
    authority = Authority()
    async with Relay.to(redis_server, serving(authority, tmp_path)) as relay:
        gateway = tls_gateway(redis_server, relay.port, authority.pem.decode())
        first = gateway.target()
        async with mirroring() as operator, reading(gateway) as pod:
            operator.mirrors.set_target(KEY, first)
            await mirrored(redis, first)
            await pod.connected()
            operator.mirrors.set_target(KEY, gateway.flip("big"))
            await pod.runs(2)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("another CA", "presents a certificate that is not trusted"),
        ("another name", "presents a certificate that is not trusted"),
        ("no CA at all", "presents a certificate that is not trusted"),
        ("no certificate", "is no certificate in PEM form"),
        ("no TLS", "does not answer|does not speak TLS as agreed"),  # as the loop of this Python tells it
    ],
)
async def test_a_redis_that_cannot_be_trusted_gets_nothing(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """No document leaves, and the trouble says what to look at."""
    monkeypatch.setattr(mirror_health, "SHOW_AFTER_SECONDS", 0.0)
    authority = Authority()
    name = "elsewhere" if fault == "another name" else "localhost"
    ca = {"another CA": Authority().pem.decode(), "no certificate": "not PEM"}.get(fault, authority.pem.decode())
    context = None if fault == "no TLS" else serving(authority, tmp_path, name)
    async with Relay.to(redis_server, context) as relay, mirroring() as operator:
        gateway = tls_gateway(redis_server, relay.port, ca)
        if fault == "no CA at all":
            gateway.notify(tls={"enabled": True})
        operator.mirrors.set_target(KEY, gateway.target())

        async def says() -> None:
            assert re.search(said, operator.mirrors.trouble(KEY) or ""), operator.mirrors.trouble(KEY)

        await eventually_async(says, within_seconds=10)
        assert await keys(redis) == []
