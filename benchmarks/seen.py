"""What a watch of a namespace's ConfigMaps shows, stamped as it comes: when a text, or so many models, were written.

The watch is the one that a pod on the API path has. Used by every workload; polls nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass

import aiohttp
import orjson

from aigateway_config.api_access import ApiAccess, open_config_maps
from aigateway_config.api_objects import ConfigMap
from aigateway_config.errors import ConfigError

WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sight:
    """Something seen. `at`: time.monotonic(); `file` and `revision` are of the document that has it, "" and 0 for others."""

    at: float
    file: str
    revision: int


class Seen:
    """Follows the ConfigMaps of a namespace. `names`: ConfigMap → public names of its models; `writes`: events so far."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access
        self._texts: dict[str, asyncio.Future[Sight]] = {}
        self._counts: list[tuple[int, asyncio.Future[float]]] = []
        self.names: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.writes = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:  # the server ends a watch after minutes; the next begins with all there is, so nothing is missed
            with suppress(ConfigError, aiohttp.ClientError, OSError, ValueError):
                async with open_config_maps(self._access) as client, aclosing(client.watch({}, "0")) as packets:
                    async for events in packets:
                        at = time.monotonic()
                        for event in events:
                            if event.kind in {"ADDED", "MODIFIED"}:
                                self._take(event.config_map, at)
            await asyncio.sleep(0.1)

    def _take(self, config_map: ConfigMap, at: float) -> None:
        self.writes += 1
        file, revision = "", 0
        for name, text in config_map.data.items():
            if name.endswith(".manifest.json"):
                manifest = orjson.loads(text)
                file, revision = name.replace(".manifest.json", ".yml"), manifest["revision"]
                self.names[config_map.name] = len(manifest["sources"])
        self.sizes[config_map.name] = sum(map(len, config_map.data.values()))
        for wanted in list(self._texts):
            if any(wanted.encode() in text for text in config_map.data.values()):
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
