"""Commands to a MongoDB over an open connection: OP_MSG out and in. Called by `mongodb`; knows no targets and no passwords.

`bson` (of PyMongo) is imported when first used, so that an operator without MongoDB never loads it.
Source: MongoDB wire protocol, OP_MSG.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aigateway_operator.datastores.connecting import Stream

MAX_REPLY_BYTES: Final = 1024 * 1024
_HEADER: Final = struct.Struct("<iiii")
_OP_MSG: Final = 2013
_CHECKSUM_PRESENT: Final = 1
_FLAGS_AND_KIND: Final = struct.Struct("<IB")


class NotMongoError(Exception):
    """What came back is no reply of a MongoDB."""


@dataclass(slots=True)
class Commands:
    """Runs one command after another over a stream."""

    stream: Stream
    _request_id: int = 0

    async def run(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply, whatever its `ok` says. Raises NotMongoError, asyncio.IncompleteReadError, ConnectionError."""
        import bson

        self._request_id += 1
        body = bson.encode({**command, "$db": database})
        length = _HEADER.size + _FLAGS_AND_KIND.size + len(body)
        head = _HEADER.pack(length, self._request_id, 0, _OP_MSG) + _FLAGS_AND_KIND.pack(0, 0)
        self.stream.writer.write(head + body)
        await self.stream.writer.drain()
        length, _, answers, operation = _HEADER.unpack(await self.stream.reader.readexactly(_HEADER.size))
        if operation != _OP_MSG or answers != self._request_id or not _HEADER.size < length <= MAX_REPLY_BYTES:
            raise NotMongoError
        return _document(await self.stream.reader.readexactly(length - _HEADER.size))


def _document(rest: bytes) -> dict[str, Any]:
    import bson
    from bson.errors import InvalidBSON

    try:
        flags, kind = _FLAGS_AND_KIND.unpack_from(rest)
        end = len(rest) - 4 if flags & _CHECKSUM_PRESENT else len(rest)
        if kind != 0:
            raise NotMongoError
        reply: dict[str, Any] = bson.decode(rest[_FLAGS_AND_KIND.size : end])
    except (struct.error, InvalidBSON):
        raise NotMongoError from None
    return reply
