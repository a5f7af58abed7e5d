"""MongoDB: hello, authentication by SCRAM, ping; over a connection of its own to the checked address.

Not by PyMongo's client: it resolves names itself, so that the checked address would not be the one connected to, tells a
refused connection only when its time has run out, and keeps three tasks a target, which alone cost the CPU that all probes
may (docs/decisions.md). Its `bson` is used. Called by `checking`.
Source: MongoDB handshake and authentication specifications; docs/health.md#what-is-checked.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from aigateway_operator.datastores import scram
from aigateway_operator.datastores.connecting import Connector, Stage
from aigateway_operator.datastores.mongo_wire import Commands, NotMongoError
from aigateway_operator.datastores.probe import (
    Denied,
    Failed,
    NotReady,
    closed,
    credentials_refused,
    credentials_required,
    place,
    protocol_error,
)
from aigateway_operator.plan.health import HealthReason, StoreTarget

_UNAUTHORIZED: Final = 13
_COMMAND_NOT_FOUND: Final = 59
_LOGIN_FAILED: Final = frozenset({11, 18, 8000})
"""UserNotFound, AuthenticationFailed, AtlasError."""
_NOT_WRITABLE: Final = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})
"""The codes after which drivers look for another primary: shutting down, stepped down, recovering."""
_CLIENT: Final = {
    "application": {"name": "aigateway-operator"},
    "driver": {"name": "aigateway-operator", "version": "1"},
    "os": {"type": "Linux"},
}


@dataclass(slots=True)
class MongoProbe:
    """Checks one MongoDB as a gateway that starts now would meet it."""

    target: StoreTarget
    connector: Connector
    stage: Stage
    _keys: scram.KeyCache = field(default_factory=scram.KeyCache, repr=False)

    async def __call__(self) -> None:
        """Return if it takes writes and lets us in. Raises Failed."""
        async with self.connector.connect(self.target, self.stage) as stream:
            try:
                await self._check(Commands(stream))
            except NotMongoError:
                raise protocol_error(self.target, "does not answer as MongoDB does") from None
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise protocol_error(self.target, "does not answer as MongoDB does") from None
                raise closed(self.target) from None

    async def close(self) -> None:
        """Nothing is held."""

    async def _check(self, commands: Commands) -> None:
        hello = await self._hello(commands)
        if not (hello.get("isWritablePrimary") or hello.get("ismaster")):
            raise self._no_primary(hello)
        if self.target.username is not None:
            await self._log_in(commands, _mechanism(hello))
            self._judge(await commands.run("admin", {"ping": 1}))
        else:
            # Anyone may ping: only a command that needs rights tells whether credentials are asked for.
            listing = {"listCollections": 1, "filter": {"name": "system_logs"}, "nameOnly": True}
            self._judge(await commands.run(self.target.database or "admin", listing))

    async def _hello(self, commands: Commands) -> dict[str, Any]:
        more: dict[str, Any] = {"client": _CLIENT}
        if self.target.username is not None:
            more["saslSupportedMechs"] = f"{self._auth_source}.{self.target.username}"
        reply = await commands.run("admin", {"hello": 1, **more})
        if not reply.get("ok") and reply.get("code") == _COMMAND_NOT_FOUND:
            reply = await commands.run("admin", {"isMaster": 1, **more})
        self._judge(reply)
        return reply

    @property
    def _auth_source(self) -> str:
        return self.target.auth_source or "admin"

    async def _log_in(self, commands: Commands, mechanism: str) -> None:
        target = self.target
        conversation = scram.Conversation(
            mechanism, target.username or "", target.password or b"", secrets.token_urlsafe(24), self._keys
        )
        start = {
            "saslStart": 1,
            "mechanism": mechanism,
            "payload": conversation.first(),
            "autoAuthorize": 1,
            "options": {"skipEmptyExchange": True},
        }
        try:
            reply = await self._step(commands, start)
            final = await asyncio.to_thread(conversation.final, reply["payload"])
            reply = await self._step(commands, _continue(reply, final))
            conversation.verify(reply["payload"])
            for _ in range(2):
                if reply.get("done"):
                    return
                reply = await self._step(commands, _continue(reply, b""))
        except scram.ScramError as error:
            text = f"{place(target)} could not be logged in to: {error}. Check username and password, and what listens there."
            raise Failed(Denied(HealthReason.AUTHENTICATION_FAILED, text)) from None
        raise NotMongoError

    async def _step(self, commands: Commands, command: dict[str, Any]) -> dict[str, Any]:
        """Run one step of the login; any refusal in it is about the credentials, unless it says otherwise."""
        reply = await commands.run(self._auth_source, command)
        if not reply.get("ok") and reply.get("code") not in _NOT_WRITABLE:
            raise credentials_refused(self.target)
        self._judge(reply)
        if not isinstance(reply.get("payload"), bytes) or "conversationId" not in reply:
            raise NotMongoError
        return reply

    def _judge(self, reply: dict[str, Any]) -> None:
        """Raise Failed for a reply that is an error. The server's text is not repeated: it may hold what we sent."""
        if reply.get("ok"):
            return
        code, name = reply.get("code"), place(self.target)
        if code in _NOT_WRITABLE:
            raise self._no_primary({})
        if code in _LOGIN_FAILED:
            raise credentials_refused(self.target)
        if code == _UNAUTHORIZED and self.target.username is None:
            raise credentials_required(self.target)
        if code == _UNAUTHORIZED:
            raise Failed(Denied(HealthReason.NOT_AUTHORIZED, f"{name} does not let this user do anything. Grant it a role."))
        if not isinstance(code, int):
            raise NotMongoError
        raise Failed(NotReady(HealthReason.SERVER_ERROR, f"{name} answers with error {code}. Look at its log."))

    def _no_primary(self, hello: dict[str, Any]) -> Failed:
        name = place(self.target)
        if hello.get("secondary"):
            text = f"{name} is a secondary and takes no writes. Name the primary's host in spec.storage.mongodb.host."
        else:
            text = f"{name} is no primary, or not yet. Wait for the election; if it stays, look at the replica set."
        return Failed(NotReady(HealthReason.NO_PRIMARY, text))


def _mechanism(hello: dict[str, Any]) -> str:
    """Return the strongest mechanism that the server offers this user; SHA-1 where it does not say, as drivers do."""
    offered = hello.get("saslSupportedMechs")
    return scram.SHA_256 if isinstance(offered, list) and scram.SHA_256 in offered else scram.SHA_1


def _continue(reply: dict[str, Any], payload: bytes) -> dict[str, Any]:
    return {"saslContinue": 1, "conversationId": reply["conversationId"], "payload": payload}
