"""What `app.debug` adds to an error: which exceptions led to it, in their own words. Never a secret, never a stack trace.

Callers with debug see hosts, addresses and what a backend said, which is why it is off by default. Everything the gateway
knows as a secret is masked wherever it stands. Called by `state`; never on the path of a good request.
"""

from __future__ import annotations

from typing import Final

from aigateway_config.configuration import Configuration
from aigateway_gateway.openai_errors import ApiError
from aigateway_logs.redaction import redact

_MASK: Final = "***"
_LONGEST: Final = 1000
_MOST_CAUSES: Final = 6


def explain(error: BaseException, configuration: Configuration | None, backend: str = "") -> str | None:
    """Return what led to an error, the nearest first; None unless `app.debug` is on, or when there is nothing to add.

    backend: name and URL of the backend that was asked, "" for none. An ApiError itself is in the answer already.
    """
    if configuration is None or not configuration.app.debug:
        return None
    found = [f"backend {backend}"] if backend else []
    cause = _cause(error) if isinstance(error, ApiError) else error
    while cause is not None and len(found) < _MOST_CAUSES:
        found.append(f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__)
        cause = _cause(cause)
    if not found:
        return None
    text = " <- ".join(found)
    for secret in configuration.secrets.values():
        value = secret.get_secret_value().strip()
        if value:
            text = text.replace(value, _MASK)
    return redact(text)[:_LONGEST]


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class BackendSaid(Exception):
    """What a backend answered, as the cause of an error that callers are told in other words."""
