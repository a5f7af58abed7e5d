"""Qdrant: the knowledge base. The official client costs 79 MB and 1.5 s, so it is imported when it is needed."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.addresses import Networks
from aigateway_config.tls import client_context
from aigateway_gateway.stores.store import check_host


@dataclass(frozen=True, slots=True)
class QdrantValues:
    """Everything the client is made of; it is made anew when any of it changes."""

    settings: documents.Qdrant
    api_key: SecretStr | None
    ca: SecretStr | None
    allowed: Networks
    timeout_seconds: float
    vector_size: int


class QdrantStore:
    """One client. `make` it."""

    def __init__(self, client: Any, models: Any, collection: str, vector_size: int) -> None:
        self._client, self._models = client, models
        self._collection, self._vector_size = collection, vector_size

    @classmethod
    async def make(cls, values: QdrantValues) -> QdrantStore:
        """Return a client; connects only when it is asked something. Raises PermissionError for a forbidden address."""
        settings = values.settings
        await check_host(settings.host, settings.port, values.allowed)
        module = await asyncio.to_thread(import_module, "qdrant_client")
        tls = settings.tls is not None and settings.tls.enabled
        options: dict[str, Any] = {"trust_env": False}
        if tls:
            ca = None if values.ca is None else values.ca.get_secret_value()
            options["verify"] = await asyncio.to_thread(client_context, ca=ca)
        with warnings.catch_warnings():
            # It warns of a key without TLS, which is what the configuration says and rules allow inside a cluster.
            warnings.simplefilter("ignore", UserWarning)
            client = module.AsyncQdrantClient(
                host=settings.host,
                port=settings.port,
                https=tls,
                api_key=None if values.api_key is None else values.api_key.get_secret_value().strip(),
                timeout=max(1, int(values.timeout_seconds)),
                check_compatibility=False,  # asks the server in a thread while the client is made
                **options,
            )
        return cls(client, module.models, settings.collection, values.vector_size)

    async def check(self) -> str:
        """Ask for the collection, with the key; make it if it is absent."""
        if await self._client.collection_exists(self._collection):
            return "Qdrant answers."
        vectors = self._models.VectorParams(size=self._vector_size, distance=self._models.Distance.COSINE)
        await self._client.create_collection(self._collection, vectors_config=vectors)
        return f"Qdrant answers; collection '{self._collection}' was absent and has been made."

    async def close(self) -> None:
        """End its connections."""
        await self._client.close()
