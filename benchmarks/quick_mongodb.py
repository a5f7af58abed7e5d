"""A server that speaks MongoDB's wire protocol, takes every insert and answers at once: it keeps nothing.

It is no database. Against it our own share of shipping shows, where FerretDB over SQLite is slower than we are; what it took is
counted, so that a figure cannot come from records that never arrived. Used by `logs`; runs in a process of its own.
Source: the OP_MSG page of MongoDB's wire protocol.
"""

from __future__ import annotations

import os
import socketserver
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import bson

_HEAD: Final = struct.Struct("<iiii")
_LENGTH: Final = struct.Struct("<i")
_OP_MSG: Final = 2013
_OP_QUERY: Final = 2004
_OP_REPLY: Final = 1
_REPLY_HEAD: Final = struct.pack("<iqii", 8, 0, 0, 1)
_HELLO: Final[Mapping[str, Any]] = {
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "ok": 1.0,
}


class Connection(socketserver.StreamRequestHandler):
    """One connection of a driver."""

    taken = 0
    """Documents that all connections of this process have taken."""

    def handle(self) -> None:
        """Answer until the driver leaves."""
        while len(head := self.rfile.read(_HEAD.size)) == _HEAD.size:
            length, request, _, code = _HEAD.unpack(head)
            body = self.rfile.read(length - _HEAD.size)
            if code == _OP_QUERY:
                self._reply(request, _OP_REPLY, _REPLY_HEAD + bson.encode(_HELLO))
            else:
                self._reply(request, _OP_MSG, b"\0\0\0\0\0" + bson.encode(_answer(body)))

    def _reply(self, request: int, code: int, body: bytes) -> None:
        self.wfile.write(_HEAD.pack(_HEAD.size + len(body), 0, request, code) + body)


def _answer(body: bytes) -> Mapping[str, Any]:
    size = _LENGTH.unpack_from(body, 5)[0]
    command = bson.decode(body[5 : 5 + size])
    name = next(iter(command))
    if name in {"hello", "ismaster", "isMaster"}:
        return _HELLO
    if name == "insert":
        taken = _documents(body, 5 + size) + len(command.get("documents", ()))
        Connection.taken += taken
        return {"n": taken, "ok": 1.0}
    return {"n": Connection.taken, "ok": 1.0}  # `count` asks how many it took


def _documents(body: bytes, offset: int) -> int:
    """Count the documents of the sequence that follows the command; walks them, so that a torn one is noticed."""
    count = 0
    while offset < len(body) and body[offset] == 1:
        end = offset + 1 + _LENGTH.unpack_from(body, offset + 1)[0]
        offset = body.index(b"\0", offset + 5) + 1
        while offset < end:
            offset += _LENGTH.unpack_from(body, offset)[0]
            count += 1
    return count


class Server(socketserver.ThreadingTCPServer):
    """Takes connections on a free port."""

    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def quick_mongodb() -> Iterator[str]:
    """Run it in a process of its own; gives its URI."""
    command = [sys.executable, "-m", "benchmarks.quick_mongodb"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # who started it is kept on one core
    with Server(("127.0.0.1", 0), Connection) as server:
        print(f"mongodb://127.0.0.1:{server.server_address[1]}/", flush=True)
        server.serve_forever()
