"""The namespaces that a label selector selects, followed: so that a cluster is split over several operators by labels.

Tells whoever waits that the set has changed, after it has been quiet for a moment: namespaces come in batches. Reads names and
nothing else of them. Needs the right to list and watch namespaces. Wired by `serving`, which starts the operator anew then.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import NAMESPACES, JsonObject
from aigateway_operator.kube.watching import Selection, Watcher

QUIET_SECONDS: Final = 0.5
NOWHERE: Final = ("nothing.selected",)
"""Where an operator works whose selector selects nothing: no namespace can have this name, and () would be all of them."""


class SelectedNamespaces:
    """Follows the selected namespaces from `start` to `stop`."""

    def __init__(self, client: KubeClient, label_selector: str) -> None:
        self._names: set[str] = set()
        self._changed = asyncio.Event()
        self._watcher = Watcher(
            client,
            Selection(NAMESPACES, None, label_selector, metadata_only=True),
            reduce=_name,
            on_listed=self._take,
            on_event=self._event,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The namespaces to work in now; never empty."""
        return tuple(sorted(self._names)) or NOWHERE

    async def start(self) -> None:
        """Begin; returns when the namespaces have been listed, however long that takes."""
        self._watcher.start()
        while not self._watcher.listed:
            await self._changed.wait()
            self._changed.clear()

    async def stop(self) -> None:
        """End."""
        await self._watcher.stop()

    async def changed_from(self, known: tuple[str, ...]) -> None:
        """Return when the set has been another one than `known` for QUIET_SECONDS."""
        while True:
            self._changed.clear()
            if self.names == known:
                await self._changed.wait()
                continue
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _take(self, names: list[str], _version: str) -> None:
        self._names = set(names)
        self._changed.set()

    def _event(self, kind: str, obj: JsonObject) -> None:
        """A namespace that loses the labels comes as DELETED, as one that is gone does."""
        before = len(self._names)
        (self._names.discard if kind == "DELETED" else self._names.add)(_name(obj))
        if len(self._names) != before:
            self._changed.set()


def _name(obj: JsonObject) -> str:
    return str(obj["metadata"]["name"])
