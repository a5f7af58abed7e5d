"""The namespaces that a selector selects: told apart from none, followed both ways, and told of once they are quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aigateway_operator.errors import Rejected
from aigateway_operator.kube.answers import GONE
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.namespaces import NOWHERE, QUIET_SECONDS, SelectedNamespaces
from aigateway_operator.kube.resources import JsonObject
from tests.virtual_time import now, virtual


class Labelled(KubeClient):
    """A server on which namespaces get and lose a label. `forget`: end the watch as one whose version is forgotten."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str | None] = []
        self._events: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    def label(self, name: str) -> None:
        self.names.append(name)
        self._events.put_nowait(("ADDED", name))

    def touch(self, name: str) -> None:
        self._events.put_nowait(("MODIFIED", name))

    def unlabel(self, name: str) -> None:
        self.names.remove(name)
        self._events.put_nowait(("DELETED", name))

    def forget(self, *names: str) -> None:
        self.names = list(names)
        self._events.put_nowait(None)

    async def list_pages(self, *_: Any, label_selector: str | None = None, **__: Any) -> AsyncIterator[Any]:
        self.asked.append(label_selector)
        yield [{"metadata": {"name": name}} for name in self.names], "1"

    async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[tuple[str, JsonObject], None]:
        while (event := await self._events.get()) is not None:
            kind, name = event
            yield kind, {"metadata": {"name": name, "resourceVersion": "2"}}
        raise Rejected("the version is forgotten", status=GONE)


@asynccontextmanager
async def following(server: Labelled) -> AsyncIterator[SelectedNamespaces]:
    """Follow the namespaces of a server."""
    selected = SelectedNamespaces(server, "team=a")
    await selected.start()
    try:
        yield selected
    finally:
        await selected.stop()


@virtual
async def test_a_selector_that_selects_nothing_is_not_the_whole_cluster() -> None:
    """No namespaces would be all of them: there is one that cannot be, and the first that comes takes its place."""
    server = Labelled()
    async with following(server) as selected:
        assert server.asked == ["team=a"]
        assert selected.names == NOWHERE
        server.label("a")
        await selected.changed_from(NOWHERE)
        assert selected.names == ("a",)
        server.unlabel("a")
        await selected.changed_from(("a",))
        assert selected.names == NOWHERE


@virtual
async def test_a_batch_of_namespaces_is_one_change_and_told_when_it_is_over() -> None:
    """Each change starts a controller anew: ten labels in a row are one, and one that was taken back is none."""
    server = Labelled("a")
    async with following(server) as selected:
        began = now()

        async def label_all() -> None:
            for number in range(10):
                server.label(f"b{number}")
                await asyncio.sleep(QUIET_SECONDS / 2)

        labelling = asyncio.create_task(label_all())
        await selected.changed_from(("a",))
        assert len(selected.names) == 11
        assert now() - began >= 9 * QUIET_SECONDS / 2 + QUIET_SECONDS
        await labelling

        known, told = selected.names, asyncio.create_task(selected.changed_from(selected.names))
        server.label("for-a-moment")
        await asyncio.sleep(QUIET_SECONDS / 2)
        server.unlabel("for-a-moment")
        server.touch("a")
        await asyncio.sleep(10 * QUIET_SECONDS)
        assert selected.names == known
        assert not told.done()
        told.cancel()


@virtual
async def test_a_label_that_went_while_nobody_watched_is_noticed() -> None:
    """After a forgotten version the whole list counts: a namespace that is absent from it is no longer ours to work in."""
    server = Labelled("a", "b")
    async with following(server) as selected:
        server.forget("b", "c")
        await selected.changed_from(("a", "b"))
        assert selected.names == ("b", "c")
