"""What the composition root joins, and what its supervisor does: parts that work alone are of no use if nobody calls them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from aigateway_operator import main, serving
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.transport import Transport
from aigateway_operator.settings import Settings
from tests.virtual_time import virtual


@dataclass
class Source:
    """In the place of kopf: keeps what it was given."""

    options: dict[str, Any] = field(default_factory=dict)
    starts: int = 0

    def __call__(self, *_: Any, **options: Any) -> Source:
        self.options = options
        return self


@dataclass
class Store:
    changes: int = 0
    listed: bool = False


@dataclass
class Repairer:
    """One that has nothing to complain of. signs: how often it was told of a LIST of kopf's."""

    signs: int = 0

    def sign_of_relist(self) -> None:
        self.signs += 1

    def take_kinds_came_back(self) -> bool:
        return False

    def owed_seconds(self) -> float:
        return 0.0


@dataclass
class Controller:
    store: Store = field(default_factory=Store)
    repairer: Repairer = field(default_factory=Repairer)
    idle: bool = True


@dataclass
class Supervised:
    controller: Controller = field(default_factory=Controller)
    source: Source = field(default_factory=Source)


async def test_kopf_is_told_whether_rounds_have_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its LIST of ten thousand objects takes the interpreter from the first round, which everybody waits for."""
    source = Source()
    monkeypatch.setattr(main, "KopfSource", source)
    operator = main._compose(Settings(leader_election=False), KubeClient(cast(Transport, None)), None)
    busy = source.options["busy"]
    assert not busy()
    operator.controller.queue.mark(GatewayKey("ai", "main"))
    assert busy()
    key = await operator.controller.queue.take()
    assert busy(), "a round that is under way needs the interpreter most"
    operator.controller.queue.done(key)
    assert not busy()


@virtual
async def test_memory_is_given_back_once_after_many_changes_and_only_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a burst it would be taken again at once; after a few edits there is nothing to give."""
    given: list[int] = []
    supervised = Supervised()
    store = supervised.controller.store
    monkeypatch.setattr(main, "give_back", lambda: given.append(store.changes))
    task = asyncio.create_task(main._supervise(cast(main.Operator, supervised)))
    try:
        store.changes = main.MANY_CHANGES - 1
        await asyncio.sleep(5)
        assert given == []
        supervised.controller.idle, store.changes = False, 3 * main.MANY_CHANGES
        await asyncio.sleep(5)
        assert given == []
        supervised.controller.idle = True
        await asyncio.sleep(60)
        assert given == [3 * main.MANY_CHANGES]
        store.changes += main.MANY_CHANGES
        await asyncio.sleep(60)
        assert given == [3 * main.MANY_CHANGES, 4 * main.MANY_CHANGES]
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_each_start_of_kopf_is_a_sign_of_a_list_the_first_one_too() -> None:
    """An empty LIST brings no object that would be one: what was deleted since ours would be served for two minutes."""
    supervised = Supervised()
    task = asyncio.create_task(main._supervise(cast(main.Operator, supervised)))
    try:
        await asyncio.sleep(10)
        assert supervised.controller.repairer.signs == 0
        for starts in (1, 2):
            supervised.source.starts = starts
            await asyncio.sleep(10)
            assert supervised.controller.repairer.signs == starts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@virtual
@pytest.mark.parametrize("ends", [True, False])
async def test_a_start_ends_when_nothing_is_left_to_do_or_after_a_minute(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then no full collection finds garbage, so it must end, in an outage of the API server too."""
    frozen: list[float] = []
    supervised, clock = Supervised(), asyncio.get_running_loop().time
    began, controller = clock(), supervised.controller
    monkeypatch.setattr(serving, "freeze_what_is_there", lambda: frozen.append(clock() - began))
    task = asyncio.create_task(serving._end_start(cast(main.Operator, supervised)))
    await asyncio.sleep(5)
    controller.idle, controller.store.listed = False, True
    await asyncio.sleep(5)
    assert frozen == []
    controller.idle = ends
    await asyncio.sleep(serving.START_SECONDS)
    assert task.done()
    (at,) = frozen
    assert at == pytest.approx(10 if ends else serving.START_SECONDS, abs=2 * serving.LOOK_SECONDS)
