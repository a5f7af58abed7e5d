"""Redis: AUTH and PING, in Redis' own protocol.

Not by the redis package, which connects by name (here the checked address is connected to), costs 6 MB, and hides which of
AUTH and PING was answered how. Called by `checking`.
Source: Redis serialization protocol (RESP 2); the error prefixes of Redis 7 and 8.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aigateway_operator.datastores.connecting import Connector, Stage, Stream
from aigateway_operator.datastores.probe import (
    Denied,
    Failed,
    NotReady,
    closed,
    credential_field,
    credentials_refused,
    credentials_required,
    place,
    protocol_error,
)
from aigateway_operator.plan.health import HealthReason, StoreTarget

_ERRORS: Final = b"-"
_SIMPLE: Final = b"+"
_NOT_READY: Final = {
    "LOADING": (HealthReason.LOADING, "is loading its data. Wait; if it stays, look at its log."),
    "MASTERDOWN": (HealthReason.NO_PRIMARY, "is a replica that has lost its primary. Look at the primary."),
    "BUSY": (HealthReason.OVERLOADED, "is busy with a script. Wait, or end the script."),
}


@dataclass(slots=True)
class RedisProbe:
    """Checks one Redis over a connection of its own: what a gateway that starts now would meet."""

    target: StoreTarget
    connector: Connector
    stage: Stage

    async def __call__(self) -> None:
        """Return if Redis lets us in and answers PING. Raises Failed."""
        password = self.target.password
        async with self.connector.connect(self.target, self.stage) as stream:
            stream.writer.write((command(b"AUTH", password) if password is not None else b"") + command(b"PING"))
            if password is not None:
                self._judge(await self._line(stream))
            self._judge(await self._line(stream))

    async def close(self) -> None:
        """Nothing is held."""

    async def _line(self, stream: Stream) -> bytes:
        """Return the next reply, which both commands give in one line."""
        try:
            kind = await stream.reader.readexactly(1)
            if kind not in (_ERRORS, _SIMPLE):
                raise self._not_redis()
            return kind + await stream.reader.readuntil(b"\r\n")
        except asyncio.IncompleteReadError:
            raise closed(self.target) from None
        except asyncio.LimitOverrunError:
            raise self._not_redis() from None

    def _judge(self, line: bytes) -> None:
        if line[:1] == _SIMPLE:
            if line not in (b"+OK\r\n", b"+PONG\r\n"):
                raise self._not_redis()
            return
        text = line[1:].decode("utf-8", "replace")
        word = text.split(maxsplit=1)[0] if text.strip() else ""
        if word in _NOT_READY:
            reason, what = _NOT_READY[word]
            raise Failed(NotReady(reason, f"{place(self.target)} {what}"))
        raise self._denied(word, text) or Failed(
            NotReady(HealthReason.SERVER_ERROR, f"{place(self.target)} answers PING with an error. Look at its log.")
        )

    def _denied(self, word: str, text: str) -> Failed | None:
        """Return the failure of an error that is about who we are, or how many; None for another. Its text is not repeated."""
        field = credential_field(self.target)
        if word == "NOAUTH":
            return credentials_required(self.target)
        if word == "WRONGPASS" or "invalid password" in text:
            return credentials_refused(self.target)
        if "without any password configured" in text:
            text = f"{place(self.target)} has no password and refuses ours. Remove {field}, or give Redis that password."
            return Failed(Denied(HealthReason.AUTHENTICATION_FAILED, text))
        if word == "NOPERM":
            text = f"{place(self.target)} does not let this user PING. Grant it in the ACL."
            return Failed(Denied(HealthReason.NOT_AUTHORIZED, text))
        if word == "DENIED":
            text = (
                f"{place(self.target)} is in protected mode and lets nobody in from afar. Give it a password and set {field}."
            )
            return Failed(Denied(HealthReason.AUTHENTICATION_REQUIRED, text))
        if "max number of clients" in text:
            text = f"{place(self.target)} turns connections away: maxclients is reached. Raise it, or find who holds them."
            return Failed(NotReady(HealthReason.OVERLOADED, text))
        return None

    def _not_redis(self) -> Failed:
        return protocol_error(self.target, "does not answer as Redis does")


def command(*words: bytes) -> bytes:
    """Return a command as an array of bulk strings: no byte of a password can end it."""
    parts = [b"*%d\r\n" % len(words)]
    parts.extend(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"".join(parts)
