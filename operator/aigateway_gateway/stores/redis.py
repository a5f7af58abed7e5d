"""Redis: the fast way for documents, when the operator mirrors them there. Imported when a configuration names Redis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.addresses import Networks
from aigateway_config.tls import PARTIAL, STRICT
from aigateway_gateway.stores.store import check_host


@dataclass(frozen=True, slots=True)
class RedisValues:
    """Everything the client is made of; it is made anew when any of it changes."""

    settings: documents.Redis
    password: SecretStr | None
    ca: SecretStr | None
    allowed: Networks
    timeout_seconds: float


class RedisClient:
    """One client. `make` it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    async def make(cls, values: RedisValues) -> RedisClient:
        """Return a client; connects only when it is asked something. Raises PermissionError for a forbidden address."""
        settings = values.settings
        await check_host(settings.host, settings.port, values.allowed)
        module = await asyncio.to_thread(import_module, "redis.asyncio")
        retry = import_module("redis.asyncio.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
        options: dict[str, Any] = {
            "password": None if values.password is None else values.password.get_secret_value().strip(),
            "socket_timeout": values.timeout_seconds,
            "socket_connect_timeout": values.timeout_seconds,
            "retry": retry,
            "max_connections": 4,
        }
        if settings.tls is not None and settings.tls.enabled:
            options |= {"ssl": True, "ssl_ca_data": None if values.ca is None else values.ca.get_secret_value()}
            options |= {"ssl_exclude_verify_flags": [STRICT], "ssl_include_verify_flags": [PARTIAL]}
        return cls(module.Redis(host=settings.host, port=settings.port, **options))

    async def check(self) -> str:
        """PING, authenticated."""
        await self._client.ping()
        return "Redis answers."

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()
