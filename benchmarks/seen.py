"""What a watch of a namespace's ConfigMaps shows, stamped as it comes: when a text, or so many models, were written.

The watch is what a pod on the API path has. Used by every workload; polls nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import orjson

from aigateway_operator.errors import ClusterError
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, JsonObject

WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sight:
    """Something seen. `at`: time.monotonic(); `file` and `revision` are of the document that has it, "" and 0 for others."""

    at: float
    file: str
    revision: int


class Seen:
    """Follows the ConfigMaps of a namespace. `names`: ConfigMap → public names of its models; `writes`: events so far."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self._texts: dict[str, asyncio.Future[Sight]] = {}
        self._counts: list[tuple[int, asyncio.Future[float]]] = []
        self.names: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.writes = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:  # the server ends a watch after minutes; the next begins with all there is, so nothing is missed
            with suppress(ClusterError):
                async for kind, obj in self._client.watch(CONFIG_MAPS, self._namespace, resource_version="0"):
                    if kind in {"ADDED", "MODIFIED"}:
                        self._take(obj, time.monotonic())
            await asyncio.sleep(0.1)

    def _take(self, obj: JsonObject, at: float) -> None:
        self.writes += 1
        data: dict[str, str] = obj.get("data") or {}
        file, revision = "", 0
        for name, text in data.items():
            if name.endswith(".manifest.json"):
                manifest = orjson.loads(text)
                file, revision = name.replace(".manifest.json", ".yml"), manifest["revision"]
                self.names[obj["metadata"]["name"]] = len(manifest["sources"])
        self.sizes[obj["metadata"]["name"]] = sum(map(len, data.values()))
        for wanted in list(self._texts):
            if any(wanted in text for text in data.values()):
                self._texts.pop(wanted).set_result(Sight(at, file, revision))
        total = self.models
        for entry in [one for one in self._counts if one[0] == total]:
            self._counts.remove(entry)
            entry[1].set_result(at)

    @property
    def models(self) -> int:
        """How many models all documents have."""
        return sum(self.names.values())

    def expect(self, text: str) -> asyncio.Future[Sight]:
        """Return what will be done when a ConfigMap with this text is seen; ask before the text is sent."""
        return self._texts.setdefault(text, asyncio.get_running_loop().create_future())

    def expect_models(self, count: int) -> asyncio.Future[float]:
        """Return what will be done, with the time, when the documents have exactly so many models."""
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._counts.append((count, told))
        return told

    async def until(self, text: str) -> Sight:
        """Wait until a text is seen that is still to come."""
        return await asyncio.wait_for(self.expect(text), WAIT_SECONDS)
