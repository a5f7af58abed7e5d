"""Trace ids: what joins the records of one request, or of one edit from admission to the pods' reload.

The current one lives in a context variable, so that it follows `await` and tasks. Pure but for the randomness of
`new_trace_id`. Called by the gateway's middleware, the webhook, the controller, and `records` for the default.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Final

_CURRENT: ContextVar[str | None] = ContextVar("aigateway_trace_id", default=None)
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?\Z")


def new_trace_id() -> str:
    """Return 32 random hexadecimal digits."""
    return secrets.token_hex(16)


def trace_of_generation(uid: str, generation: int) -> str:
    """Trace id of one change of an object: 32 hexadecimal digits that webhook and controller compute alike."""
    return sha256(f"{uid}/{generation}".encode()).hexdigest()[:32]


def trace_of_request(trace_header: str | None, traceparent: str | None = None) -> str:
    """Trace id of a request: the caller's `X-Trace-ID` if it is harmless, else the traceparent's (W3C), else a new one.

    None: the header was not sent. A header that is not `[A-Za-z0-9-]{1,64}` is ignored: it would reach logs and headers.
    """
    if trace_header is not None and _ACCEPTED.match(trace_header):
        return trace_header
    found = None if traceparent is None else _TRACEPARENT.match(traceparent.strip())
    if found is not None and found["trace"] != "0" * 32:  # all zero means "none" (W3C Trace Context 3.2.2.3)
        return found["trace"]
    return new_trace_id()


def current_trace() -> str | None:
    """Return the trace id of what runs now; None outside any."""
    return _CURRENT.get()


@contextmanager
def tracing(trace_id: str | None) -> Iterator[None]:
    """Make `trace_id` the current one inside the block, in this task and those started in it."""
    token = _CURRENT.set(trace_id)
    try:
        yield
    finally:
        _CURRENT.reset(token)
