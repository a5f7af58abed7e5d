"""What the API server answers, turned into the errors of `errors.py`. HTTP codes stop here. Called by the transport only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from aigateway_operator.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected, Unavailable
from aigateway_operator.kube import protobuf
from aigateway_operator.kube.resources import JsonObject

GONE: Final = 410
"""A resourceVersion or continue token that the server has forgotten: only a new LIST helps. Comes as Rejected."""
_MAX_MESSAGE: Final = 2_000
"""Characters of the server's text that are kept: a refusal of a large object can quote all of it."""
MAX_LEVELS: Final = 600
"""More than any rule accepts, and less than parsers take (1,024)."""
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def parse_error(what: str, status: int, headers: Mapping[str, str], body: bytes) -> ClusterError:
    """Return the error for an answer of 300 or above. `what` says what was asked, as in `PUT /api/v1/…`."""
    text = f"{what} was answered {status}: {_message(body, quote='/secrets' not in what)}"
    return _kind(status)(text, status=status, retry_after_seconds=_retry_after(headers))


def parse_watch_error(what: str, obj: Any) -> ClusterError:
    """Return the error for an ERROR event of a watch, whose object is a Status."""
    fields: JsonObject = obj if isinstance(obj, dict) else {}
    code = fields.get("code")
    status = code if isinstance(code, int) else 0
    details = fields.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    text = str(fields.get("message") or "no reason given")[:_MAX_MESSAGE]
    return _kind(status)(
        f"{what} broke off with {status}: {text}",
        status=status,
        retry_after_seconds=float(seconds) if isinstance(seconds, int) and seconds > 0 else None,
    )


def parse_object(what: str, body: bytes) -> JsonObject:
    """Return the object of a body in JSON or protobuf. Raises Unavailable when it is none (a proxy's page, a body cut short).

    What is nested deeper than `MAX_LEVELS` is null in it, if the body is too deep to be read whole: one object of one user must
    not make a whole LIST unreadable.
    """
    obj = _parse(body)
    if not isinstance(obj, dict):
        raise Unavailable(f"{what} was answered with {len(body)} bytes that are no JSON object; is a proxy in between?")
    return obj


def _parse(body: bytes) -> object:
    """Return what a body holds; None where that cannot be read."""
    if body.startswith(protobuf.MAGIC):
        try:
            return protobuf.decode(body)
        except (ValueError, OverflowError):
            return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_shallow(body)


def _parse_shallow(body: bytes) -> object:
    """Return the JSON value of a body without what is too deep; None where that is not what was wrong with it."""
    kept: list[bytes] = []
    level = begin = 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"{", b"["):
            level += 1
            if level == MAX_LEVELS + 1:
                kept += (body[begin : token.start()], b"null")
        elif token[0] in (b"}", b"]"):
            level -= 1
            if level == MAX_LEVELS:
                begin = token.end()
    if not kept or level:
        return None
    kept.append(body[begin:])
    try:
        return orjson.loads(b"".join(kept))
    except orjson.JSONDecodeError:
        return None


def drop_managed_fields(obj: JsonObject) -> JsonObject:
    """Remove `metadata.managedFields`, which nothing here reads and which is half of many objects. Returns the same object."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
    return obj


def _kind(status: int) -> type[ClusterError]:
    if status == 409:
        return Conflict
    if status in (401, 403):
        return Forbidden
    if status == 404:
        return NotFound
    if status in (408, 429) or not 400 <= status < 500:
        return Unavailable
    return Rejected


def _message(body: bytes, *, quote: bool) -> str:
    """Return the server's words; its one-word reason alone where they might quote the content of a Secret."""
    status = _parse(body)
    if not isinstance(status, dict):
        return (body[:200].decode(errors="replace").strip() if quote else "") or "no text"
    return str(status.get("message" if quote else "reason") or "no text")[:_MAX_MESSAGE]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return what `Retry-After` says in seconds (its form with a date is not used by the API server)."""
    value = headers.get("Retry-After")
    if value is not None and value.isdigit():
        return float(value)
    return None
