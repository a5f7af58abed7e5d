"""List and watch of one collection, for as long as it is wanted: survives an API server that goes away and comes back.

Hands over whole lists and single events, and keeps nothing. Called by `hack.kubelet.volumes`, on its loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

JsonObject = dict[str, Any]
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 300
_LIST_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Collection:
    """What to watch, and who is told. `listed` gets every object there is; `event` a type and an object."""

    path: str
    query: Mapping[str, str]
    listed: Callable[[Sequence[JsonObject]], None]
    event: Callable[[str, JsonObject], None]


async def follow(session: aiohttp.ClientSession, collection: Collection) -> None:
    """List and watch until cancelled. A refusal, an outage or a stream that ends leads to a new list, after a pause."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            version = await _list(session, collection)
            pause = _FIRST_PAUSE_SECONDS
            await _watch(session, collection, version)
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)  # a server that ends every stream at once must not be hammered
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _list(session: aiohttp.ClientSession, collection: Collection) -> str:
    async with asyncio.timeout(_LIST_TIMEOUT_SECONDS), session.get(collection.path, params=dict(collection.query)) as answer:
        answer.raise_for_status()
        body = json.loads(await answer.read())
    collection.listed(body["items"])
    return str(body["metadata"]["resourceVersion"])


async def _watch(session: aiohttp.ClientSession, collection: Collection, version: str) -> None:
    """Hand over events until the stream ends or its version is too old."""
    query = {**collection.query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
    async with session.get(collection.path, params=query) as answer:
        answer.raise_for_status()
        async for line in _lines(answer.content):
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            collection.event(event["type"], event["object"])


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length: one holds a whole ConfigMap."""
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
