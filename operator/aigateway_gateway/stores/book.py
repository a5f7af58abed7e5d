"""The gateway's stores by name, each looked at in a task of its own; rebuilt when its part of `storage` changes.

A look never holds up a request, nor one store another. Called by `state` (configurations) and `health` (what is known).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial
from typing import Final

from loguru import logger
from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_gateway.metrics import Metrics
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.stores.mongodb import MongoDBClient, MongoDBValues
from aigateway_gateway.stores.qdrant import QdrantStore, QdrantValues
from aigateway_gateway.stores.redis import RedisClient, RedisValues
from aigateway_gateway.stores.store import Health, MakeClient, Slot, StoreHealth, look

Values = MongoDBValues | RedisValues | QdrantValues
NAMES: Final = ("mongodb", "redis", "qdrant")
_DISABLED: Final = StoreHealth(Health.DISABLED, "The configuration names none.")
_UNKNOWN: Final = StoreHealth(Health.UNKNOWN, "Not looked at yet.")
_CLOSE_SECONDS: Final = 5.0


class StoreBook:
    """What is known of each store."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._values: dict[str, Values] = {}
        self._health: dict[str, StoreHealth] = dict.fromkeys(NAMES, _DISABLED)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def health(self) -> Mapping[str, StoreHealth]:
        """What was seen last, by name."""
        return self._health

    def apply(self, configuration: Configuration) -> None:
        """Follow a configuration: stores whose values are the same are left alone. Inside the event loop."""
        wanted = self._wanted(configuration)
        for name in NAMES:
            values = wanted.get(name)
            if values == self._values.get(name):
                continue
            if self._stop(name):
                self._metrics.store_gone(name)
            self._health[name] = _DISABLED if values is None else _UNKNOWN
            if values is not None:
                self._values[name] = values
                self._tasks[name] = asyncio.create_task(self._follow(name, _maker(values)), name=f"store {name}")

    async def close(self) -> None:
        """Stop looking, and end every connection."""
        for name in NAMES:
            self._stop(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _stop(self, name: str) -> bool:
        """Look at a store no more; tell whether it was looked at."""
        self._values.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is None:
            return False
        task.cancel()  # it closes its client on the way out
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return True

    def _wanted(self, configuration: Configuration) -> dict[str, Values]:
        settings, storage = self._settings, configuration.storage
        wanted: dict[str, Values] = {}

        def ca(tls: documents.Tls | None) -> SecretStr | None:
            return None if tls is None else configuration.secret(tls.ca_ref)

        allowed, seconds = settings.allow_addresses, settings.store_timeout_seconds
        if (mongodb := storage.mongodb) is not None:
            password = configuration.secret(mongodb.password_ref)
            wanted["mongodb"] = MongoDBValues(mongodb, password, ca(mongodb.tls), allowed, seconds)
        if (redis := storage.redis) is not None:
            wanted["redis"] = RedisValues(redis, configuration.secret(redis.password_ref), ca(redis.tls), allowed, seconds)
        if (qdrant := storage.qdrant) is not None:
            key = configuration.secret(qdrant.api_key_ref)
            wanted["qdrant"] = QdrantValues(qdrant, key, ca(qdrant.tls), allowed, seconds, settings.vector_size)
        return wanted

    async def _follow(self, name: str, make: MakeClient) -> None:
        """Look at one store for as long as its values stand."""
        slot = Slot(make)
        try:
            while True:
                self._note(name, await look(slot, self._settings.store_timeout_seconds))
                # Jitter: the pods of a gateway start together and would look together for ever.
                await asyncio.sleep(self._settings.store_check_seconds * random.uniform(0.8, 1.2))  # noqa: S311
        finally:
            await _close(name, slot)

    def _note(self, name: str, health: StoreHealth) -> None:
        if health.health is not self._health[name].health:
            bound = logger.bind(store=name, health=str(health.health))
            bound.log("INFO" if health.health is Health.HEALTHY else "WARNING", "A datastore changed: {}", health.message)
        self._health[name] = health
        self._metrics.store_up.labels(name).set(health.health is Health.HEALTHY)


def _maker(values: Values) -> MakeClient:
    match values:
        case MongoDBValues():
            return partial(MongoDBClient.make, values)
        case RedisValues():
            return partial(RedisClient.make, values)
        case QdrantValues():
            return partial(QdrantStore.make, values)


async def _close(name: str, slot: Slot) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await slot.close()
    except Exception as error:  # noqa: BLE001 - a driver that fails to say goodbye changes nothing
        logger.bind(store=name).debug("A client did not close cleanly: {}", type(error).__name__)
