"""MongoDB: where operation and system logs go. PyMongo's asynchronous client; imported when a configuration names MongoDB."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.addresses import Networks
from aigateway_gateway.stores.store import check_host

COLLECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "system_logs": ("level", "source", "trace_id"),
    "operation_logs": ("level", "source", "trace_id", "operation", "resource_id", "user_id"),
}
"""Collections, and the fields that are indexed in each with the time: as the log shipper does, whose work retention is."""


_OTHERWISE_THERE: Final = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict: somebody made it with options of their own, which stay."""
_DRIVERS_SHARE: Final = 0.8
"""Of the time a look may take, so that the driver still gets to say what is wrong."""


@dataclass(frozen=True, slots=True)
class MongoDBValues:
    """Everything the client is made of; it is made anew when any of it changes."""

    settings: documents.MongoDB
    password: SecretStr | None
    ca: SecretStr | None
    allowed: Networks
    timeout_seconds: float


class MongoDBClient:
    """One client. `make` it."""

    def __init__(self, client: Any, database: str) -> None:
        self._client = client
        self._database = client[database]
        self._complete = False

    @classmethod
    async def make(cls, values: MongoDBValues) -> MongoDBClient:
        """Return a client; connects only when it is asked something. Raises PermissionError for a forbidden address."""
        settings = values.settings
        await check_host(settings.host, settings.port, values.allowed)
        pymongo = await asyncio.to_thread(import_module, "pymongo")
        milliseconds = max(1, int(values.timeout_seconds * _DRIVERS_SHARE * 1000))
        options: dict[str, Any] = {
            "directConnection": True,
            "serverSelectionTimeoutMS": milliseconds,
            "connectTimeoutMS": milliseconds,
            "socketTimeoutMS": milliseconds,
            "maxPoolSize": 4,
            "appname": "aigateway",
        }
        if settings.username is not None:
            password = "" if values.password is None else values.password.get_secret_value().strip()
            options |= {"username": settings.username, "password": password, "authSource": settings.auth_source}
        if settings.tls is None or not settings.tls.enabled:
            return cls(pymongo.AsyncMongoClient(settings.host, settings.port, **options), settings.database)
        with tempfile.TemporaryDirectory(prefix="aigateway-ca-") as folder:
            # The driver takes a CA as a file only, and reads it while the client is made.
            if values.ca is not None:
                path = Path(folder) / "ca.crt"
                path.write_text(values.ca.get_secret_value())
                options["tlsCAFile"] = str(path)
            return cls(pymongo.AsyncMongoClient(settings.host, settings.port, tls=True, **options), settings.database)

    async def check(self) -> str:
        """Ping, authenticated; once a client also make collections and indexes that are absent."""
        await self._database.command("ping")
        if not self._complete:
            await self._make_what_is_absent()
            self._complete = True
        return "MongoDB answers."

    async def _make_what_is_absent(self) -> None:
        """Make the indexes, and with them the collections; what a time-out cut off is gone on with the next time."""
        for name, fields in COLLECTIONS.items():
            for field in fields:
                try:
                    await self._database[name].create_index([(field, 1), ("timestamp", -1)], name=field)
                except Exception as error:
                    if getattr(error, "code", None) not in _OTHERWISE_THERE:
                        raise

    async def close(self) -> None:
        """End its connections."""
        await self._client.close()
