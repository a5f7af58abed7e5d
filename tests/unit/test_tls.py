"""Certificates as clusters and people make them are believed by every client, with the Python of the image too.

`conftest` makes all contexts strict, as Python 3.13 does; each client here meets a server whose chain has no key identifiers
and no key usage, as the API servers of EKS and MicroK8s.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from qdrant_client.http.exceptions import UnexpectedResponse
from yarl import URL

from aigateway_config import documents
from aigateway_config.api_access import ApiAccess, open_config_maps
from aigateway_config.errors import ConfigError
from aigateway_config.tls import as_others_verify, client_context
from aigateway_gateway.stores.qdrant import QdrantStore, QdrantValues
from aigateway_gateway.stores.redis import RedisClient, RedisValues
from aigateway_gateway.upstream import Upstream
from aigateway_operator.errors import ClusterError
from aigateway_operator.handlers import KopfSource
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import VIRTUAL_MODELS
from tests.datastores.stand_ins import HOST, Authority, listening
from tests.eventually import eventually_async
from tests.kubeconfig import write_kubeconfig

LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass
class Server:
    """Answers 404 to everything. `asked`: the paths of those who believed it."""

    folder: Path
    ca: bytes
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the server."""
        return f"https://{HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """A file with the CA that clients are to trust."""
        path = self.folder / "ca.crt"
        path.write_bytes(self.ca)
        return path

    @property
    def kubeconfig(self) -> Path:
        """For this server, with its CA."""
        return write_kubeconfig(self.folder, self.url, ca=self.ca, token="t")


@asynccontextmanager
async def serving(folder: Path, *, intermediate: bool = False) -> AsyncIterator[Server]:
    """Yield a server with such a chain; `intermediate`: its CA was signed by another one, which nobody has."""
    authority = Authority.make(folder, intermediate=intermediate)
    server = Server(folder, authority.ca)

    async def answer(request: web.Request) -> web.Response:
        server.asked.append(request.path)
        return web.json_response({"kind": "Status", "code": 404, "message": "not here"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0, ssl_context=authority.server).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def operator(server: Server) -> None:
    """Ask as the controller does."""
    async with KubeClient.connect(server.kubeconfig) as client:
        with suppress(ClusterError):
            await client.get(VIRTUAL_MODELS, "ai", "chat")


async def kopf(server: Server) -> None:
    """Ask as kopf does, in its own session."""
    source = KopfSource(lambda *_: None, kubeconfig=server.kubeconfig)
    source.start()
    try:

        async def check() -> None:
            assert server.asked

        await eventually_async(check, within_seconds=10)
    finally:
        await source.stop()


async def pod(server: Server) -> None:
    """Ask as a pod does that watches its ConfigMaps."""
    async with open_config_maps(ApiAccess(server.url, "ai", ca_file=server.ca_file, token="t")) as found:
        with suppress(ConfigError):
            async for _page in found.pages({}):
                pass


async def gateway(server: Server) -> None:
    """Ask a backend as the gateway does, whose CA the system trusts."""
    upstream = Upstream(LOOPBACK, 5, client_context(server.ca_file))
    try:
        async with upstream.post(URL(f"{server.url}/v1/chat/completions"), {}, b"{}"):
            pass
    finally:
        await upstream.close()


async def gateways_qdrant(server: Server) -> None:
    """Ask Qdrant as the gateway does."""
    tls = documents.Tls(enabled=True, ca_ref="ca")
    settings = documents.Qdrant(host=HOST, port=server.port, collection="c", api_key_ref=None, tls=tls)
    values = QdrantValues(settings, None, SecretStr(server.ca.decode()), LOOPBACK, 5, 3)
    store = await QdrantStore.make(values)
    try:
        with suppress(UnexpectedResponse):
            await store.check()
    finally:
        await store.close()


@pytest.mark.parametrize("ask", [operator, kopf, pod, gateway, gateways_qdrant])
async def test_a_chain_without_key_identifiers_is_believed(tmp_path: Path, ask: Callable[[Server], Awaitable[None]]) -> None:
    """With Python 3.13 the controller of the image could otherwise not talk to such a cluster at all."""
    async with serving(tmp_path) as server:
        await ask(server)
        assert server.asked


@pytest.mark.parametrize("intermediate", [False, True])
async def test_redis_with_such_a_chain_is_believed_by_the_gateway(tmp_path: Path, intermediate: bool) -> None:
    """Its driver makes contexts itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(4096):
            for command in re.split(rb"(?:^|\r\n)\*", said)[1:]:
                writer.write(b"+PONG\r\n" if b"PING" in command else b"+OK\r\n")

    authority = Authority.make(tmp_path, intermediate=intermediate)
    async with listening(serve, authority.server) as port:
        settings = documents.Redis(host=HOST, port=port, password_ref=None, tls=documents.Tls(enabled=True, ca_ref="ca"))
        client = await RedisClient.make(RedisValues(settings, None, SecretStr(authority.ca.decode()), LOOPBACK, 5))
        try:
            assert await client.check() == "Redis answers."
        finally:
            await client.close()


async def test_contexts_of_the_test_run_are_as_strict_as_those_of_the_image(tmp_path: Path) -> None:
    """Or the tests above would pass with the Python of a developer and prove nothing."""
    async with serving(tmp_path) as server, aiohttp.ClientSession() as session:
        ask = partial(session.get, server.url)
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match=r"(?i)\bkey\b"):
            await ask(ssl=ssl.create_default_context(cafile=server.ca_file))
        (await ask(ssl=client_context(server.ca_file))).close()


async def test_an_intermediate_ca_is_enough_without_its_root(tmp_path: Path) -> None:
    """As for kubectl; Python before 3.13 wants the whole chain."""
    async with serving(tmp_path, intermediate=True) as server, aiohttp.ClientSession() as session:
        context = ssl.create_default_context(cafile=server.ca_file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.url, ssl=context)
        (await session.get(server.url, ssl=as_others_verify(context))).close()


@pytest.mark.parametrize("what", ["another CA", "another name", "the system's CAs"])
async def test_who_is_somebody_else_is_not_believed(tmp_path: Path, what: str) -> None:
    """Less strict about form, as strict as ever about who it is."""
    other = Authority.make(tmp_path / "other")
    async with serving(tmp_path) as server, aiohttp.ClientSession() as session:
        ca = {"another CA": other.ca, "another name": server.ca, "the system's CAs": None}[what]
        context = client_context(ca=None if ca is None else ca.decode())
        url = server.url.replace(HOST, "localhost") if what == "another name" else server.url
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(url, ssl=context)
        assert not server.asked
