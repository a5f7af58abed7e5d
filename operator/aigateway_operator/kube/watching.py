"""A watch that never gives up: complete LIST, every change after it, and LIST again when the server forgot where we were.

What its receiver may rely on: `on_listed` is called with the complete set, so that what is absent is gone; everything later
comes through `on_event`, in order. Errors are reported, never raised; nothing is concluded from them. Receivers' callbacks are
plain functions and must not block. Used by this room's
`secrets`, `owned`, `pods`, `certificates` and `namespaces`; VirtualModels and GatewayConfigs come through kopf.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, TypeVar

from loguru import logger

from aigateway_operator.errors import ClusterError, Forbidden
from aigateway_operator.kube.answers import GONE
from aigateway_operator.kube.client import INACTIVITY_SECONDS, PAGE_SIZE, KubeClient
from aigateway_operator.kube.resources import JsonObject, Resource

FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 10.0
FORBIDDEN_BACKOFF_SECONDS: Final = 10.0
"""A missing right is mended by a person; asking more often only fills the audit log."""
SETTLED_SECONDS: Final = 5.0
"""A watch that lasted this long was a good one: the next error starts at the first back-off again."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is watched: a kind in one namespace (None: in the cluster), narrowed by selectors, whole or as metadata alone."""

    resource: Resource
    namespace: str | None
    label_selector: str | None = None
    field_selector: str | None = None
    metadata_only: bool = False

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace or 'all namespaces'}"


class Watcher(Generic[Item]):
    """Follows one selection. `start` it inside a running loop, `stop` it there.

    reduce is applied to each listed object as its page arrives, so that a list of large objects is never held whole; an
    object for which it returns None is left out. on_listed(items, resourceVersion) and on_event(type, object) never overlap;
    events are not reduced. on_error hears every error but a forgotten resourceVersion, which is no error.
    """

    def __init__(
        self,
        client: KubeClient,
        selection: Selection,
        *,
        reduce: Callable[[JsonObject], Item | None],
        on_listed: Callable[[list[Item], str], None],
        on_event: Callable[[str, JsonObject], None],
        on_error: Callable[[ClusterError], None] | None = None,
        page_size: int = PAGE_SIZE,
        inactivity_seconds: float = INACTIVITY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self._client = client
        self._selection = selection
        self._on_listed = on_listed
        self._on_event = on_event
        self._on_error = on_error
        self._reduce = reduce
        self._page_size = page_size
        self._inactivity_seconds = inactivity_seconds
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - jitter, not a secret
        self._task: asyncio.Task[None] | None = None
        self._version: str | None = None
        self._failures = 0
        self.listed = False
        """Whether the selection has been listed completely at least once."""
        self.last_error: ClusterError | None = None
        """What went wrong last; None while all is well."""
        self.healthy_since: float | None = None
        """Since when (clock) the watch has been open; None while it is not."""

    def start(self) -> None:
        """Begin; idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"watch {self._selection}")

    async def stop(self) -> None:
        """End; returns when nothing more will be called."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            began = self._clock()
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._watch(self._version)
                self._failures = 0 if self._lasted(began) else self._failures + 1
            except ClusterError as error:
                self._failures = 1 if self._lasted(began) else self._failures + 1
                self._note(error)
            except Exception as error:  # noqa: BLE001 - the edge of the loop: a receiver's fault must not end the watch
                self._failures += 1
                self._version = None
                logger.opt(exception=error).error("Watch of {} broke and lists again", self._selection)
            finally:
                self.healthy_since = None
            await asyncio.sleep(self._pause())

    async def _list(self) -> str:
        """List completely and hand it over; return its resourceVersion."""
        found: list[Item] = []
        version = ""
        selection = self._selection
        async for items, as_of in self._client.list_pages(
            selection.resource,
            selection.namespace,
            metadata_only=selection.metadata_only,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            limit=self._page_size,
        ):
            found.extend(item for item in map(self._reduce, items) if item is not None)
            version = as_of
        self.listed = True
        self._on_listed(found, version)
        return version

    async def _watch(self, version: str) -> None:
        selection = self._selection
        events = self._client.watch(
            selection.resource,
            selection.namespace,
            resource_version=version,
            metadata_only=selection.metadata_only,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            inactivity_seconds=self._inactivity_seconds,
            on_open=self._opened,
        )
        async with aclosing(events):
            async for kind, obj in events:
                if kind != "BOOKMARK":
                    self._on_event(kind, obj)
                self._version = obj["metadata"]["resourceVersion"]
                del obj  # what a Secret holds must not linger in a frame that waits for the next event

    def _opened(self) -> None:
        self.healthy_since, self.last_error = self._clock(), None

    def _lasted(self, began: float) -> bool:
        return self._clock() - began >= SETTLED_SECONDS

    def _note(self, error: ClusterError) -> None:
        if error.status == GONE:
            self._version = None
            return
        if self.last_error is None or type(self.last_error) is not type(error):
            logger.warning("Watch of {} was interrupted, what is known is kept: {}", self._selection, error)
        self.last_error = error
        if self._on_error is not None:
            self._on_error(error)

    def _pause(self) -> float:
        """Return the seconds until the next attempt; 0 after a watch that ended as it should."""
        if self._failures == 0:
            return 0.0
        pause = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        if isinstance(self.last_error, Forbidden):
            pause = max(pause, FORBIDDEN_BACKOFF_SECONDS)
        asked = self.last_error.retry_after_seconds if self.last_error is not None else None
        return max(pause * (0.5 + self._random.random()), min(asked or 0.0, 2 * MAX_BACKOFF_SECONDS))
