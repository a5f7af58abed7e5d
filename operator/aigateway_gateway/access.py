"""What is said of every request once it is over: to the log, to the metrics, and to whoever else wants to know.

The one place for it: operation records join here. It gets names, numbers and ids only; no prompt, completion or key ever
comes near it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from loguru import logger

from aigateway_gateway.metrics import Metrics
from aigateway_gateway.records import Records

_USAGE: Final = {
    "prompt_tokens": re.compile(rb'(?<!\\)"prompt_tokens"\s*:\s*(\d{1,15})'),
    "completion_tokens": re.compile(rb'(?<!\\)"completion_tokens"\s*:\s*(\d{1,15})'),
}
CLIENT_GONE: Final = 499
"""Status of a request whose caller left before the answer was complete; nobody gets to see it but the log."""


@dataclass(slots=True)
class Access:
    """One request. Filled in while it runs."""

    endpoint: str
    """`chat`, `embeddings` or `models`."""
    trace_id: str
    model: str = ""
    """Public name, once it is known to be one of ours; callers can write anything."""
    backend: str = ""
    key_name: str = ""
    """Name of the caller's key, never the key."""
    status: int = 0
    error_code: str | None = None
    stream: bool = False
    duration_ms: float = 0.0
    first_byte_ms: float | None = None
    """From the request's arrival to the head of the backend's answer."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def count_tokens(self, answer: bytes) -> None:
        """Take token counts from (the end of) a backend's answer; inside of texts quotes are escaped and never match."""
        for name, pattern in _USAGE.items():
            found = pattern.search(answer)
            if found is not None:
                setattr(self, name, int(found[1]))


class AccessLog:
    """Called once a request, after its answer is out."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.records: Records | None = None
        """Keeps an operation record of every request; None: nobody does."""

    def record(self, access: Access) -> None:
        """Note a request that is over. Never raises for what is in it."""
        self._metrics.count(access.endpoint, access.model, access.status, access.duration_ms / 1000)
        if self.records is not None:
            self.records.put(access)
        logger.bind(
            source="gateway.access",
            endpoint=access.endpoint,
            model=access.model,
            backend=access.backend,
            key_name=access.key_name,
            status=access.status,
            error_code=access.error_code,
            stream=access.stream,
            duration_ms=round(access.duration_ms, 1),
            first_byte_ms=None if access.first_byte_ms is None else round(access.first_byte_ms, 1),
            prompt_tokens=access.prompt_tokens,
            completion_tokens=access.completion_tokens,
            trace_id=access.trace_id,
        ).log(_level(access.status), "Answered a request")


def _level(status: int) -> str:
    """Return the level of a request's line. A line costs a third of a request: good ones have theirs at DEBUG only."""
    if status < 400:
        return "DEBUG"
    return "INFO" if status < 500 else "WARNING"
