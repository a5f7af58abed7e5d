"""A TCP relay in front of a datastore that can go deaf without a word, or speak TLS to its clients. Not a test module."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from hack.stores import MongoServer, RedisServer


class Relay:
    """Passes bytes on, connection by connection."""

    def __init__(self, server: RedisServer | MongoServer) -> None:
        self.port = 0
        self.connections: list[asyncio.StreamWriter] = []
        self.swallowed = 0
        self._server = server

    @classmethod
    @asynccontextmanager
    async def to(cls, server: RedisServer | MongoServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Listen on a free port. `tls`: what clients must speak."""
        relay = cls(server)
        listening = await asyncio.start_server(relay._serve, "127.0.0.1", 0, ssl=tls)
        relay.port = listening.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            listening.close()
            for writer in relay.connections:
                writer.close()

    def swallow(self) -> None:
        """Let nothing through any more on the connections that there are; they stay open. New ones work."""
        self.swallowed = len(self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.connections)
        inner_reader, inner_writer = await asyncio.open_connection(self._server.host, self._server.port)
        self.connections += [writer]

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if number >= self.swallowed:
                    sink.write(data)
            sink.close()

        with suppress(ConnectionError, ssl.SSLError):
            await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))
        inner_writer.close()
        writer.close()
