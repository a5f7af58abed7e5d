"""The LISTs that repair the store: when they come, what they conclude, and what they never conclude."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

import pytest

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import NotFound, Unavailable
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.reconcile.ports import JsonObject
from aigateway_operator.reconcile.repair import PERIOD_SECONDS, HistoryWentBack, Repairer
from aigateway_operator.reconcile.store import Store, parse_stored
from tests.fake_cluster import FakeCluster
from tests.unit.reconcile.objects import gateway, model
from tests.virtual_time import now, virtual

MAIN = GatewayKey("ai", "main")


class Bench:
    """A repairer and its surroundings."""

    def __init__(self, namespaces: tuple[str, ...] = ()) -> None:
        self.cluster = FakeCluster(page_size=2)
        self.store = Store()
        self.marked: list[GatewayKey] = []
        self.taken: list[str] = []
        self.listed: list[list[str]] = []
        self.pages: list[tuple[Set[GatewayKey], list[str]]] = []
        self.task: asyncio.Task[None]
        self.repairer = Repairer(
            self.cluster,
            self.store,
            namespaces,
            self.marked.append,
            self._take,
            now,
            lambda: self.listed.append(self.names()),
            lambda keys: self.pages.append((keys, self.names())),
        )

    def _take(self, resource: Resource, obj: JsonObject) -> None:
        self.taken.append(obj["metadata"]["name"])

    def see(self, name: str) -> None:
        """Let the watch deliver the newest version of a model."""
        self.store.put(VIRTUAL_MODELS, parse_stored(self.cluster.read(VIRTUAL_MODELS, "ai", name)))

    def names(self) -> list[str]:
        return sorted(key.name for key in self.store.objects(VIRTUAL_MODELS))

    @property
    def lists(self) -> int:
        """Number of complete LISTs of VirtualModels."""
        return sum(
            call.verb == "list" and call.resource == VIRTUAL_MODELS and call.sent["first"] for call in self.cluster.calls
        )


@asynccontextmanager
async def bench(namespaces: tuple[str, ...] = (), models: int = 5) -> AsyncIterator[Bench]:
    """Run a repairer over a gateway and some models, from before its first LIST."""
    at = Bench(namespaces)
    at.cluster.make(GATEWAY_CONFIGS, gateway())
    for number in range(models):
        at.cluster.make(VIRTUAL_MODELS, model(f"m{number}"))
    at.task = asyncio.create_task(at.repairer.run())
    try:
        yield at
        assert not at.task.done(), at.task
    finally:
        at.task.cancel()
        await asyncio.gather(at.task, return_exceptions=True)


@virtual
async def test_the_first_list_fills_the_store_and_then_asks_for_rounds() -> None:
    """Whole objects, page by page; the gateway is marked once all is there."""
    async with bench() as at:
        await asyncio.sleep(0.1)
        assert at.names() == ["m0", "m1", "m2", "m3", "m4"]
        assert sorted(at.taken) == ["m0", "m1", "m2", "m3", "m4", "main"]
        assert at.store.listed
        assert at.marked[-1] == MAIN
        assert not any(call.sent["metadata_only"] for call in at.cluster.calls)


@virtual
async def test_gateways_are_listed_before_their_models() -> None:
    """Rounds also wait for Secrets, which are listed where a gateway is: while ten thousand models are, not after them."""
    async with bench() as at:
        gate = at.cluster.hang("list", resource=VIRTUAL_MODELS)
        await asyncio.sleep(0.1)
        assert at.taken == ["main"]
        gate.set()


@virtual
async def test_each_page_of_a_first_list_is_told_when_the_store_has_it() -> None:
    """What a page brought is judged while the next is on its way; later LISTs bring nothing to judge."""
    async with bench() as at:
        await asyncio.sleep(2 * PERIOD_SECONDS)
        known = ["m0", "m1", "m2", "m3", "m4"]
        assert at.pages == [({MAIN}, []), ({MAIN}, known[:2]), ({MAIN}, known[:4]), ({MAIN}, known)]


@virtual
async def test_the_watch_begins_once_when_everything_has_been_listed() -> None:
    """Its own LIST would make ours, for which rounds wait, take twice as long; later LISTs are no reason to begin again."""
    async with bench() as at:
        await asyncio.sleep(2 * PERIOD_SECONDS)
        assert at.listed == [["m0", "m1", "m2", "m3", "m4"]]


@virtual
async def test_later_lists_read_metadata_every_two_minutes_and_find_deletions() -> None:
    """A deletion that nobody told is found, and marks its gateway; nothing else is marked."""
    async with bench() as at:
        await asyncio.sleep(1)
        at.marked.clear()
        at.cluster.remove(VIRTUAL_MODELS, "ai", "m3", silently=True)
        at.cluster.calls.clear()
        await asyncio.sleep(PERIOD_SECONDS - 2)
        assert at.cluster.calls == []
        await asyncio.sleep(4)
        assert "m3" not in at.names()
        assert at.marked == [MAIN]
        assert all(call.sent["metadata_only"] for call in at.cluster.calls)


@virtual
async def test_a_history_that_went_back_ends_the_process() -> None:
    """After a restore of etcd every event and every LIST looks older than what is known: edits were ignored for good."""
    async with bench() as at:
        await asyncio.sleep(1)
        snapshot, version = copy.deepcopy(at.cluster._objects), at.cluster._version
        for _ in range(3):
            at.cluster.change(VIRTUAL_MODELS, "ai", "m0", spec=model("m0", current="big")["spec"])
        await asyncio.sleep(PERIOD_SECONDS + 5)
        at.cluster._objects, at.cluster._version = snapshot, version
        with pytest.raises(HistoryWentBack, match=f" to {version}, as after a restore of etcd"):
            await asyncio.wait_for(at.task, 2 * PERIOD_SECONDS)
        at.task = asyncio.create_task(asyncio.sleep(1))


@virtual
async def test_lists_that_fail_remove_nothing_and_never_give_up() -> None:
    """Not even one that fails at its last page; ten minutes of 503 are some dozens of requests."""
    async with bench() as at:
        await asyncio.sleep(1)
        at.cluster.remove(VIRTUAL_MODELS, "ai", "m0", silently=True)
        at.cluster.fail("list", Unavailable("503"), times=10**6, resource=VIRTUAL_MODELS)
        lists = at.lists
        await asyncio.sleep(600)
        assert at.names() == ["m0", "m1", "m2", "m3", "m4"]
        assert 20 < at.lists - lists < 200
        at.cluster.heal()
        await asyncio.sleep(20)
        assert at.names() == ["m1", "m2", "m3", "m4"]


@virtual
async def test_kinds_that_come_back_are_told_once_and_soon() -> None:
    """CRDs deleted and applied again, or late: the watch looks for kinds only when it starts, so it has to start again."""
    async with bench() as at:
        await asyncio.sleep(1)
        assert not at.repairer.take_kinds_came_back()
        at.cluster.fail("list", NotFound("404"), times=10**6, resource=VIRTUAL_MODELS)
        at.repairer.sign_of_relist()
        await asyncio.sleep(300)
        assert not at.repairer.take_kinds_came_back()
        assert at.names() == ["m0", "m1", "m2", "m3", "m4"], "a kind that is not known is no deletion of its objects"
        at.cluster.heal()
        await asyncio.sleep(4)
        assert at.repairer.take_kinds_came_back()
        assert not at.repairer.take_kinds_came_back()


@virtual
async def test_a_list_that_breaks_off_between_pages_is_no_list() -> None:
    """The gate stays shut and nothing is removed until one is complete."""
    at = Bench()
    at.cluster.make(GATEWAY_CONFIGS, gateway())
    at.store.put(VIRTUAL_MODELS, parse_stored(at.cluster.make(VIRTUAL_MODELS, model("zzz"))))
    for number in range(4):
        at.cluster.make(VIRTUAL_MODELS, model(f"m{number}"))
    pages = at.cluster.list_pages

    async def broken(
        resource: Resource, namespace: str | None, *, metadata_only: bool = False
    ) -> AsyncIterator[tuple[list[JsonObject], str]]:
        count = 0
        async for page in pages(resource, namespace, metadata_only=metadata_only):
            yield page
            count += 1
            if resource == VIRTUAL_MODELS and count == 2:
                raise Unavailable("forgotten before its end", status=410)

    at.cluster.list_pages = broken  # type: ignore[method-assign]  # breaks off as a 410 does
    task = asyncio.create_task(at.repairer.run())
    await asyncio.sleep(60)
    assert not at.store.has_listed(VIRTUAL_MODELS)
    assert "zzz" in at.names()
    at.cluster.list_pages = pages  # type: ignore[method-assign]
    await asyncio.sleep(20)
    assert at.store.listed
    task.cancel()


@virtual
async def test_signs_of_a_relist_cause_one_list_when_they_are_over() -> None:
    """A thousand listed objects are one sign; endless ones do not put the LIST off for ever."""
    async with bench() as at:
        await asyncio.sleep(1)
        at.cluster.remove(VIRTUAL_MODELS, "ai", "m0", silently=True)
        lists = at.lists
        for _ in range(1000):
            at.repairer.sign_of_relist()
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.9)
        assert at.lists == lists
        await asyncio.sleep(0.2)
        assert at.lists == lists + 1
        assert "m0" not in at.names()
        for _ in range(300):
            at.repairer.sign_of_relist()
            await asyncio.sleep(0.5)
        assert at.lists == lists + 2


@virtual
async def test_a_sign_during_a_list_causes_another() -> None:
    """The re-list may be newer than the LIST under way."""
    async with bench() as at:
        await asyncio.sleep(1)
        gate = at.cluster.hang("list", resource=VIRTUAL_MODELS)
        at.repairer.sign_of_relist()
        await asyncio.sleep(5)
        lists = at.lists
        at.repairer.sign_of_relist()
        gate.set()
        await asyncio.sleep(2)
        assert at.lists == lists + 1


@virtual
async def test_a_watch_that_owes_changes_is_noticed_and_forgiven_when_it_delivers() -> None:
    """The time counts from the LIST that showed the change; delivery, or a deletion, ends it at once."""
    async with bench() as at:
        await asyncio.sleep(1)
        assert at.repairer.owed_seconds() == 0
        at.cluster.make(VIRTUAL_MODELS, model("new"))
        at.cluster.change(VIRTUAL_MODELS, "ai", "m0", spec=model(current="big")["spec"])
        await asyncio.sleep(PERIOD_SECONDS + 40)
        assert 38 <= at.repairer.owed_seconds() <= 42
        at.see("m0")
        assert at.repairer.owed_seconds() >= 38, "the other one is still owed"
        at.store.remove(VIRTUAL_MODELS, ObjectKey("ai", "new"), "10000")
        assert at.repairer.owed_seconds() == 0


@virtual
async def test_what_is_owed_and_then_deleted_is_owed_no_more() -> None:
    """The next LIST, ten seconds later, no longer shows it."""
    async with bench() as at:
        await asyncio.sleep(1)
        at.cluster.make(VIRTUAL_MODELS, model("new"))
        await asyncio.sleep(PERIOD_SECONDS + 5)
        assert at.repairer.owed_seconds() > 0
        at.cluster.remove(VIRTUAL_MODELS, "ai", "new", silently=True)
        await asyncio.sleep(12)
        assert at.repairer.owed_seconds() == 0


@virtual
async def test_a_watch_that_is_a_moment_behind_causes_no_further_lists() -> None:
    """In a busy cluster every LIST is newer than the watch by something; ten thousand objects are not listed for that."""
    async with bench() as at:
        await asyncio.sleep(PERIOD_SECONDS - 1)
        lists = at.lists
        at.cluster.make(VIRTUAL_MODELS, model("new"))
        await asyncio.sleep(2)
        assert at.lists == lists + 1
        at.see("new")
        await asyncio.sleep(PERIOD_SECONDS - 5)
        assert at.lists == lists + 1


@virtual
async def test_named_namespaces_are_listed_each_and_nothing_else() -> None:
    """With Roles only, the cluster is never listed; one namespace's list alone removes nothing of another's."""
    async with bench(("ai", "other")) as at:
        at.cluster.make(VIRTUAL_MODELS, model("elsewhere", namespace="third"))
        at.cluster.make(VIRTUAL_MODELS, model("theirs", namespace="other"))
        await asyncio.sleep(PERIOD_SECONDS + 2)
        assert at.names() == ["m0", "m1", "m2", "m3", "m4", "theirs"]
        assert {call.namespace for call in at.cluster.calls} == {"ai", "other"}


@virtual
async def test_an_object_made_while_namespaces_are_listed_in_turn_is_not_taken_for_deleted() -> None:
    """Each namespace has a list of another moment: absence counts as of the oldest, by number and not by text."""
    async with bench(("ai", "other")) as at:
        at.cluster.make(VIRTUAL_MODELS, model("theirs", namespace="other"))
        await asyncio.sleep(1)
        for number in range(10_000):
            version = at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"n": number})["metadata"]["resourceVersion"]
            if version == "999":
                break
        first_is_answered = at.cluster.hang("list", resource=VIRTUAL_MODELS, after=True)
        at.repairer.sign_of_relist()
        await asyncio.sleep(2)
        late = at.cluster.make(VIRTUAL_MODELS, model("late"))
        assert late["metadata"]["resourceVersion"] == "1000"
        at.see("late")
        lists = at.lists
        first_is_answered.set()
        await asyncio.sleep(1)
        assert at.lists == lists + 1, "the other namespace's list is newer than the object"
        assert "late" in at.names()


@virtual
async def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    """A busy API server says when to come again; our own back-off may be shorter."""
    async with bench() as at:
        await asyncio.sleep(1)
        at.cluster.fail("list", Unavailable("429", status=429, retry_after_seconds=60.0), resource=GATEWAY_CONFIGS)
        at.repairer.sign_of_relist()
        await asyncio.sleep(2)
        lists = at.lists
        await asyncio.sleep(55)
        assert at.lists == lists
        await asyncio.sleep(10)
        assert at.lists == lists + 1
