"""The way from the API server into the cluster's network: an HTTP CONNECT proxy on a Unix socket.

The API server of a real cluster may reach Services through such a proxy (EgressSelectorConfiguration, `cluster`), so the
webhook configuration of a chart works as it is, with a `service` and its CA, and nobody needs root for it. Each connection
goes to one ready pod; where there is none it is refused, as kube-proxy does. Called by `hack.node.node`, on its loop.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hack.node.services import Address, NoEndpoint

_CONNECT_SECONDS: Final = 5.0
_CHUNK: Final = 65_536


class ConnectProxy:
    """Listens on a Unix socket between `start` and `stop`; `resolve` says where a connection goes, or raises NoEndpoint.

    `refused` counts connections that led nowhere, `served` those that did.
    """

    def __init__(self, path: Path, resolve: Callable[[str, int], Address]) -> None:
        self.path = path
        self.served = 0
        self.refused = 0
        self._resolve = resolve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket file that is left over is replaced."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        self.path.chmod(0o600)

    async def stop(self) -> None:
        """Close every connection and the socket."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            request = await reader.readuntil(b"\r\n\r\n")
        method, target, *_ = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        host, _, port = target.rpartition(":")
        try:
            if method != "CONNECT":
                raise NoEndpoint(f"only CONNECT is served, not {method}")
            async with asyncio.timeout(_CONNECT_SECONDS):
                there, back = await asyncio.open_connection(*self._resolve(host.strip("[]"), int(port)))
        except (NoEndpoint, OSError, ValueError) as error:
            self.refused += 1
            reason = " ".join(str(error).split())
            writer.write(f"HTTP/1.1 503 {reason}\r\nContent-Length: 0\r\n\r\n".encode("latin-1", "replace"))
            await writer.drain()
            return
        self.served += 1
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            await _close(back)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        with suppress(OSError, RuntimeError):
            writer.close()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
