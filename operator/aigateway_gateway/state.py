"""What the requests of one worker share: the configuration being served, the client for backends, gates, the access log.

Made by `app` when its event loop runs. It changes in one place, `_apply`, by one assignment: a request sees the old
configuration or the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loguru import logger

from aigateway_config.configuration import Configuration
from aigateway_config.tls import client_context
from aigateway_gateway.access import AccessLog
from aigateway_gateway.debugging import explain
from aigateway_gateway.limits import Gates
from aigateway_gateway.metrics import Metrics
from aigateway_gateway.openai_errors import ApiError, Kind
from aigateway_gateway.ports import Reader
from aigateway_gateway.serving import Serving
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.stores.book import StoreBook
from aigateway_gateway.upstream import Upstream


class Gateway:
    """One worker. `open` inside the event loop, `close` at its end."""

    def __init__(self, settings: GatewaySettings, reader: Reader, metrics: Metrics) -> None:
        self.settings = settings
        self.reader = reader
        self.metrics = metrics
        self.access = AccessLog(metrics)
        self.stores = StoreBook(settings, metrics)
        self._serving: Serving | None = None
        self.draining = False
        self.in_flight = 0
        self._gates = Gates(settings.max_concurrent, settings.max_waiting, settings.queue_timeout_seconds)
        self._upstream: Upstream | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def serving(self) -> Serving | None:
        """What a request that starts now is served by; None before the first configuration.

        Asks the reader, since the pod says on its status port that it runs a configuration as soon as the reader has it:
        from that moment no request may start on an older one, even if the subscription has not come through yet.
        """
        current = self.reader.current
        if current is not None and (self._serving is None or self._serving.configuration is not current):
            self._apply(current)
        return self._serving

    @property
    def upstream(self) -> Upstream:
        """The client for backends. Raises RuntimeError outside of `open` and `close`."""
        if self._upstream is None:
            raise RuntimeError("the gateway is not open")
        return self._upstream

    @property
    def debug(self) -> bool:
        """Whether `app.debug` of the configuration in force is on."""
        serving = self.serving
        return serving is not None and serving.configuration.app.debug

    def explain(self, error: BaseException, backend: str = "") -> str | None:
        """Return what `app.debug` adds to an error; None while it is off. `backend`: name and URL of the one that was asked."""
        serving = self.serving
        return explain(error, None if serving is None else serving.configuration, backend)

    async def open(self) -> None:
        """Begin to follow the reader."""
        tls = await asyncio.to_thread(client_context)  # reads the system's CAs
        self._upstream = Upstream(self.settings.allow_addresses, self.settings.connect_timeout_seconds, tls)
        self._unsubscribe = self.reader.subscribe(self._changed)

    async def close(self) -> None:
        """End every connection."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await self.stores.close()
        if self._upstream is not None:
            await self._upstream.close()

    async def _changed(self, _new: Configuration, _old: Configuration | None) -> None:
        """Take up a configuration before the first request asks for it. In the loop, so that nothing is torn."""
        _ = self.serving

    def _apply(self, new: Configuration) -> None:
        self._serving = Serving(new, self._gates, self._serving)
        if self._serving.lost:
            self._gates.prune(new.models)
        self.stores.apply(new)
        logger.bind(gateway=new.gateway, revision=new.revision, models=len(new.models)).info("A configuration came into force")

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a request in and out. Raises ApiError (503) when there are too many."""
        if self.in_flight >= self.settings.max_in_flight:
            raise ApiError(Kind.BUSY, "The gateway is working on too many requests. Try again shortly.", retry_after_seconds=1)
        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()
