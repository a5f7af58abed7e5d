"""Errors in OpenAI's format: one table of everything the gateway itself refuses or reports, and how it is written.

`{"error": {"message", "type", "param", "code"}}`, which every OpenAI client knows. Texts name the reason and the remedy, never
a key, a prompt or a backend's address. Raised anywhere under /v1, sent by `calls` and `models`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

import orjson

Headers = list[tuple[bytes, bytes]]


class Shape(NamedTuple):
    """Status, `type` and `code` of an error; `retry`: what OpenAI's client is told by x-should-retry (None: as it likes)."""

    status: int
    type: str
    code: str | None
    retry: bool | None = None


_REQUEST: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_UPSTREAM: Final = "upstream_error"


class Kind(Enum):
    """Every error of the gateway's own making."""

    NO_KEY = Shape(401, _REQUEST, None)
    WRONG_KEY = Shape(401, _REQUEST, "invalid_api_key")
    INVALID_JSON = Shape(400, _REQUEST, "invalid_json")
    MODEL_REQUIRED = Shape(400, _REQUEST, "model_required")
    MODEL_NOT_FOUND = Shape(404, _REQUEST, "model_not_found")
    UNKNOWN_URL = Shape(404, _REQUEST, "unknown_url")
    METHOD_NOT_ALLOWED = Shape(405, _REQUEST, "method_not_allowed")
    BODY_TIMEOUT = Shape(408, _REQUEST, "request_timeout", retry=False)
    BODY_TOO_LARGE = Shape(413, _REQUEST, "request_too_large")
    QUEUE_FULL = Shape(429, "requests", "rate_limit_exceeded")
    INTERNAL = Shape(500, _SERVER, "internal_error")
    UPSTREAM_UNREACHABLE = Shape(502, _UPSTREAM, "upstream_unreachable")
    UPSTREAM_FORBIDDEN = Shape(502, _UPSTREAM, "upstream_address_forbidden", retry=False)
    UPSTREAM_DISCONNECTED = Shape(502, _UPSTREAM, "upstream_disconnected")
    UPSTREAM_INVALID = Shape(502, _UPSTREAM, "upstream_invalid_response")
    UPSTREAM_TOO_LARGE = Shape(502, _UPSTREAM, "upstream_response_too_large", retry=False)
    UPSTREAM_REDIRECT = Shape(502, _UPSTREAM, "upstream_redirect", retry=False)
    UPSTREAM_REFUSED_KEY = Shape(502, _UPSTREAM, "upstream_authentication_failed", retry=False)
    UPSTREAM_NOT_FOUND = Shape(502, _UPSTREAM, "upstream_not_found", retry=False)
    BACKEND_KEY_MISSING = Shape(503, _SERVER, "backend_key_missing")
    NOT_CONFIGURED = Shape(503, _SERVER, "not_configured")
    BUSY = Shape(503, _SERVER, "overloaded")
    UPSTREAM_TIMEOUT = Shape(504, _UPSTREAM, "upstream_timeout")


_SHORTEST_SECRET: Final = 8
"""A shorter one might be a word of the format itself, which masking would break."""
_TYPES: Final = {400: _REQUEST, 404: _REQUEST, 409: _REQUEST, 413: _REQUEST, 422: _REQUEST, 429: "requests"}


class ApiError(Exception):
    """An answer that is an error. `retry_after_seconds`: None, or when it is worth another try."""

    def __init__(self, kind: Kind, message: str, *, param: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.shape: Shape = kind.value
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.debug: str | None = None
        """What led to it, where `app.debug` is on; goes beside the four keys, which clients pass over."""

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        return error_body(self.message, self.shape.type, self.shape.code, self.param, self.debug)

    @property
    def headers(self) -> Headers:
        """What goes beside it, but for the length."""
        headers: Headers = [(b"content-type", b"application/json")]
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", str(self.retry_after_seconds).encode()))
        if self.shape.retry is not None:
            headers.append((b"x-should-retry", b"true" if self.shape.retry else b"false"))
        if self.shape.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers

    @property
    def event(self) -> bytes:
        """The error as an event of a stream that has begun; OpenAI's client raises it."""
        return b"data: " + self.body + b"\n\n"


def error_body(message: str, kind: str, code: str | None, param: str | None = None, debug: str | None = None) -> bytes:
    """Return an error as JSON in OpenAI's format. Text that is no Unicode (a lone surrogate) is replaced."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    if debug is not None:
        error["debug"] = debug.encode(errors="replace").decode()
    return orjson.dumps({"error": error})


def model_not_found(name: str) -> ApiError:
    """Return what OpenAI says of a model that is unknown or not for this caller; one text, so that names cannot be probed."""
    text = f"The model `{name[:253]}` does not exist or you do not have access to it."
    return ApiError(Kind.MODEL_NOT_FOUND, text, param="model")


def not_configured() -> ApiError:
    """Return the answer of a gateway that has read no configuration yet."""
    return ApiError(Kind.NOT_CONFIGURED, "The gateway has no configuration yet. Try again shortly.", retry_after_seconds=1)


def backend_error(status: int, body: bytes, secrets: Sequence[str]) -> bytes:
    """Return a backend's error in OpenAI's format: its own if it is in that format, else one that names the status.

    `secrets` are masked wherever the text repeats them.
    """
    try:
        parsed = orjson.loads(body)
        error = parsed["error"] if isinstance(parsed, dict) else None
    except (orjson.JSONDecodeError, KeyError):
        error = None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        text = f"The backend answered {status}, and not in OpenAI's error format."
        return error_body(text, _TYPES.get(status, _UPSTREAM), "upstream_error")
    written = orjson.dumps({"error": {"type": _TYPES.get(status, _UPSTREAM), "param": None, "code": None, **error}})
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            written = written.replace(orjson.dumps(secret)[1:-1], b"***")
    return written
