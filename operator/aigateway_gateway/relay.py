"""A backend's answer on its way to the caller: whole, or as a stream of events passed on as they come.

Bytes are passed on as they are, `model` included: OpenAI too answers with the name of what really answered. The one thing
held back is the beginning of an event whose end has not come: a caller can do nothing with it, and should the backend break
off there, an error can still be sent as an event of its own. Called by `calls`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import aiohttp
import orjson
from starlette.types import Send

from aigateway_gateway.access import Access
from aigateway_gateway.openai_errors import ApiError, Headers, Kind
from aigateway_gateway.upstream import as_api_error

_PASSED_ON: Final = ("x-request-id", "openai-processing-ms", "retry-after", "retry-after-ms")
_PARSED_BYTES: Final = 65_536
_LONGEST_EVENT_BYTES: Final = 1_048_576
_END_OF_EVENT: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")
STREAM_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies of the nginx family would collect events otherwise
]


def passed_on(response: aiohttp.ClientResponse) -> Headers:
    """Return the headers of a backend that a caller may see: what concerns this request, nothing about the account."""
    given = response.headers
    return [(name.encode(), given[name].encode(errors="surrogateescape")) for name in _PASSED_ON if name in given]


def is_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer is a stream of events."""
    return response.content_type == "text/event-stream"


def check_json(body: bytes) -> None:
    """Raise ApiError if an answer is no JSON object. Long ones (embeddings) are judged by both ends, not parsed."""
    if len(body) <= _PARSED_BYTES:
        try:
            good = isinstance(orjson.loads(body), dict)
        except orjson.JSONDecodeError:
            good = False
    else:
        good = body[:64].lstrip()[:1] == b"{" and body[-64:].rstrip()[-1:] == b"}"
    if not good:
        raise ApiError(Kind.UPSTREAM_INVALID, "The backend's answer is not a JSON object.")


async def relay_events(
    response: aiohttp.ClientResponse, send: Send, deadline: asyncio.Timeout, idle_seconds: float, access: Access
) -> bytes:
    """Pass on every whole event; returns what is left after the last one. Raises ApiError when the backend breaks off.

    `deadline` is moved on with every piece that comes. A caller that reads slowly holds the backend up, not our memory.
    """
    now = asyncio.get_running_loop().time
    held = b""
    try:
        while piece := await response.content.readany():
            deadline.reschedule(now() + idle_seconds)
            held = held + piece if held else piece
            end = _whole_events(held)
            if end:
                whole, held = held[:end], held[end:]
                if b'_tokens"' in whole:
                    access.count_tokens(whole)
                await send({"type": "http.response.body", "body": whole, "more_body": True})
    except aiohttp.ClientError as error:
        raise as_api_error(error) from error
    return held


def _whole_events(held: bytes) -> int:
    """Return the length of what may be passed on: up to the end of the last whole event, or all if an event is huge."""
    if held.endswith(b"\n\n") or len(held) > _LONGEST_EVENT_BYTES:
        return len(held)
    end = 0
    for found in _END_OF_EVENT.finditer(held):
        end = found.end()
    return end
