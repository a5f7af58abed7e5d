"""Things that listen where a datastore should: silent ones, slow ones, wrong ones, TLS in front, and stand-ins for two stores.

There is no real Qdrant here, and the MongoDB wire server knows no users: `QdrantStandIn` answers as Qdrant's REST reference
says, `ScramStandIn` is a server's half of SCRAM that PyMongo's own client logs in to (`test_mongodb.py` shows it).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import bson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yield the port of a server; every connection ends with it."""
    open_now: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            open_now.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connection, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await server.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and answer nothing."""
    while await reader.read(4096):
        pass


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close at the first byte."""
    await reader.read(1)


def says(answer: bytes) -> Serve:
    """Return a server that gives this answer to whatever comes first."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        await writer.drain()
        await reader.read(4096)

    return serve


def forwards_to(port: int, *, delay_seconds: float = 0.0) -> Serve:
    """Return a proxy to a plain server; each of its answers is held back."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        while data := await reader.read(4096):
            await asyncio.sleep(delay)
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(HOST, port)
        back = asyncio.create_task(copy(behind_reader, writer, delay_seconds))
        try:
            await copy(reader, behind_writer, 0.0)
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await back
            behind_writer.transport.abort()

    return serve


@asynccontextmanager
async def drops_packets() -> AsyncIterator[int]:
    """Yield a port whose queue of connections is full: the kernel drops every SYN, as a firewall would."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            taken = socket.socket()
            taken.setblocking(False)
            with suppress(BlockingIOError):
                taken.connect((HOST, port))
            waiting.append(taken)
        try:
            await asyncio.sleep(0.05)  # the kernel's own handshakes
            yield port
        finally:
            for taken in waiting:
                taken.close()


@dataclass(frozen=True)
class Authority:
    """A CA of one test, and a server certificate for 127.0.0.1 that it signed. `ca`: PEM."""

    ca: bytes
    server: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, *, address: str = HOST, name: str = "store.invalid", intermediate: bool = False) -> Authority:
        """Make one; the certificate is for `address` and for the DNS name `name`. `intermediate`: another CA signed it."""
        folder.mkdir(parents=True, exist_ok=True)
        ca_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
        now = datetime.now(UTC)

        root_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")]) if intermediate else ca_name
        root_key = ec.generate_private_key(ec.SECP256R1()) if intermediate else ca_key

        def builder(name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
            made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
            made = made.serial_number(x509.random_serial_number())
            return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))

        basic = x509.BasicConstraints(ca=True, path_length=None)
        ca = builder(ca_name, ca_key, root_name).add_extension(basic, critical=True).sign(root_key, hashes.SHA256())
        leaf_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)), x509.DNSName(name)])
        leaf = builder(leaf_name, leaf_key, ca_name).add_extension(names, critical=False).sign(ca_key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        file = folder / "server.pem"
        private = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(leaf.public_bytes(pem) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return cls(ca.public_bytes(pem), context)


@dataclass
class QdrantStandIn:
    """Answers as Qdrant does on the two paths that are asked. `asked`: (path, key that was shown)."""

    api_key: str | None = None
    collections: set[str] = field(default_factory=lambda: {"knowledge_base"})
    ready: bool = True
    status: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Yield the port."""
        app = web.Application()
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/collections/{name}", self._collection)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _readyz(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("api-key")))
        if self.ready:
            return web.Response(text="all shards are ready")
        return web.Response(status=503, text="some shards are not ready")

    async def _collection(self, request: web.Request) -> web.Response:
        shown = request.headers.get("api-key")
        self.asked.append((request.path, shown))
        if self.status is not None:
            return web.Response(status=self.status)
        if self.api_key is not None and shown != self.api_key:
            return web.Response(status=401, text="Must provide an API key or an Authorization bearer token")
        name = request.match_info["name"]
        if name not in self.collections:
            error = {"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}, "time": 0.0}
            return web.json_response(error, status=404)
        return web.json_response({"result": {"status": "green"}, "status": "ok", "time": 0.0})


@dataclass
class ScramStandIn:
    """A MongoDB that answers hello, the steps of SCRAM, ping and listCollections, and nothing else.

    users: name → password; none: it asks nobody to log in. primary: it takes writes. `lies`: it proves a wrong signature.
    mechanism: the one it offers. code: it answers each ping with this error.
    """

    users: dict[str, str] = field(default_factory=dict)
    primary: bool = True
    secondary: bool = False
    lies: bool = False
    mechanism: str = "SCRAM-SHA-256"
    code: int | None = None
    logins: int = 0

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Yield the port."""
        async with listening(self._serve, tls) as port:
            yield port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: dict[str, Any] = {}
        while True:
            length, request, _, operation = struct.unpack("<iiii", await reader.readexactly(16))
            rest = await reader.readexactly(length - 16)
            legacy = operation == 2004  # OP_QUERY, by which drivers may say hello
            start = 4 + rest.index(b"\0", 4) - 4 + 1 + 8 if legacy else 5
            reply = bson.encode(self._answer(bson.decode(rest[start:]), session))
            if legacy:
                body, code = struct.pack("<iqii", 0, 0, 0, 1) + reply, 1
            else:
                body, code = b"\0\0\0\0\0" + reply, 2013
            writer.write(struct.pack("<iiii", 16 + len(body), 7, request, code) + body)
            await writer.drain()

    def _answer(self, command: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(command))
        if name in ("hello", "ismaster", "isMaster"):
            return self._hello(command)
        if name in ("saslStart", "saslContinue"):
            return self._sasl(command, session)
        if self.code is not None:
            return {"ok": 0.0, "code": self.code, "errmsg": "refused"}
        if self.users and name != "ping" and not session.get("in"):
            return {"ok": 0.0, "code": 13, "errmsg": "command requires authentication"}
        if name == "listCollections":
            return {"ok": 1.0, "cursor": {"id": 0, "ns": "x", "firstBatch": []}}
        return {"ok": 1.0}

    def _hello(self, command: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"isWritablePrimary": self.primary, "ismaster": self.primary, "secondary": self.secondary}
        if self.secondary or not self.primary:
            told["setName"] = "rs0"
        if "saslSupportedMechs" in command:
            told["saslSupportedMechs"] = [self.mechanism]
        return {**told, "maxWireVersion": 21, "minWireVersion": 0, "maxBsonObjectSize": 16777216, "ok": 1.0, "helloOk": True}

    def _sasl(self, command: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        failed = {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
        payload = bytes(command["payload"]).decode()
        fields = {part[0]: part[2:] for part in payload.removeprefix("n,,").split(",")}
        if "saslStart" in command:
            session["bare"], session["user"] = payload.removeprefix("n,,"), fields["n"]
            session["nonce"] = fields["r"] + secrets.token_hex(8)
            session["salt"] = hashlib.sha256(fields["n"].encode()).digest()[:16]
            first = f"r={session['nonce']},s={base64.b64encode(session['salt']).decode()},i=4096"
            session["first"] = first
            return {"ok": 1.0, "conversationId": 1, "done": False, "payload": first.encode()}
        password = self.users.get(session["user"])
        if password is None or fields.get("r") != session["nonce"]:
            return failed
        digest = "sha256" if self.mechanism.endswith("256") else "sha1"
        text = password if digest == "sha256" else hashlib.md5(f"{session['user']}:mongo:{password}".encode()).hexdigest()
        key = hashlib.pbkdf2_hmac(digest, text.encode(), session["salt"], 4096)
        client_key = hmac.digest(key, b"Client Key", digest)
        signed = ",".join((session["bare"], session["first"], payload.rpartition(",p=")[0])).encode()
        signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
        if base64.b64decode(fields["p"]) != bytes(a ^ b for a, b in zip(client_key, signature, strict=True)):
            return failed
        session["in"] = True
        self.logins += 1
        proof = b"x" * 32 if self.lies else hmac.digest(hmac.digest(key, b"Server Key", digest), signed, digest)
        return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b"v=" + base64.b64encode(proof)}
