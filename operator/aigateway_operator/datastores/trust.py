"""TLS contexts: one for the system's CAs, one for each CA that a Secret brings. Called by `connecting` and `qdrant`.

Loading the system's CAs takes tens of milliseconds, so contexts are made in a thread and kept.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from typing import Final

from aigateway_config.tls import client_context

MAX_KEPT: Final = 64


class Trust:
    """Contexts for clients, by CA; TLS 1.2 at least, names and chains are checked."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes | None, asyncio.Task[ssl.SSLContext]] = OrderedDict()

    async def context(self, ca: bytes | None) -> ssl.SSLContext:
        """Return the context that trusts `ca` (PEM) and nothing else, or for None the system's CAs.

        Raises ssl.SSLError or ValueError where `ca` holds no certificate.
        """
        task = self._kept.get(ca)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._kept[ca] = asyncio.create_task(asyncio.to_thread(_make, ca))
        self._kept.move_to_end(ca)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return await asyncio.shield(task)


def _make(ca: bytes | None) -> ssl.SSLContext:
    if ca is None:
        context = client_context()
    else:
        text = ca.decode("ascii", "replace")
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise ValueError("no certificate in PEM form")
        context = client_context(ca=text)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
