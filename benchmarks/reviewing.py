"""Reviews by one caller over one TLS connection, timed: the webhook in a thread of its own, as `run --with-webhook` has it.

Called by `probes`, which asks whether something else in the process delays them.
"""

from __future__ import annotations

import http.client
import time
from types import TracebackType
from typing import Final, Self

import orjson

from tests.builders import make_virtual_model
from tests.unit.admission.reviews import make_review
from tests.webhooks import WebhookInThread

PAUSE_SECONDS: Final = 0.01
_HEADERS: Final = {"Content-Type": "application/json"}


class Reviewing:
    """A webhook and a caller; a context manager."""

    def __init__(self) -> None:
        self._body = orjson.dumps(make_review("CREATE", make_virtual_model()))
        self._webhook = WebhookInThread()

    def __enter__(self) -> Self:
        self._webhook.start()
        context = self._webhook.authority.client_context()
        self._connection = http.client.HTTPSConnection("127.0.0.1", self._webhook.port, timeout=10, context=context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        self._webhook.stop()

    def times(self, count: int) -> list[float]:
        """Return the seconds of so many reviews, one after another; blocks, so call it in a thread."""
        found = []
        for _ in range(count):
            time.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            self._connection.request("POST", "/validate", self._body, _HEADERS)
            answer = self._connection.getresponse()
            assert answer.status == 200, answer.status
            answer.read()
            found.append(time.perf_counter() - began)
        return found
