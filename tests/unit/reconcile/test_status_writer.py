"""Statuses: written when they differ, once, by the leader, against the version they were made for; transitions announced."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import ConditionType, Reason, Status, Verdict
from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import Forbidden, Unavailable
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.reconcile.ports import JsonObject
from aigateway_operator.reconcile.status_writer import MAX_IN_FLIGHT, ROOM_FACTOR, ROOM_SECONDS, StatusWriter, merge_patch
from aigateway_operator.reconcile.store import Store, parse_stored
from tests.fake_cluster import FakeCluster, apply_merge
from tests.fakes import FakeLeadership, RecordingAnnouncer
from tests.unit.reconcile.objects import gateway, model
from tests.virtual_time import now, virtual

CHAT = ObjectKey("ai", "chat")
MOMENT = 0.01


class Desk:
    """A status writer with everything around it."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.store = Store()
        self.leadership = FakeLeadership()
        self.announcer = RecordingAnnouncer()
        self.marked: list[GatewayKey] = []
        self.missing = 0
        self.busy = False
        self.writer = StatusWriter(
            self.cluster, self.store, self.leadership, self.announcer, self.marked.append, now, self._miss, lambda: self.busy
        )

    def _miss(self) -> None:
        self.missing += 1

    def make(self, resource: Resource, manifest: JsonObject) -> JsonObject:
        made = self.cluster.make(resource, manifest)
        self.store.put(resource, parse_stored(made))
        return made

    def see(self, resource: Resource, name: str) -> None:
        """Let the watch tell the newest version of an object."""
        self.store.put(resource, parse_stored(self.cluster.read(resource, "ai", name)))

    def wish(self, obj: JsonObject, status: Status = "True", **fields: Any) -> None:
        """Wish for Accepted=`status` for the generation that `obj` has."""
        reason = Reason.ACCEPTED if status == "True" else Reason.INVALID
        metadata = obj["metadata"]
        verdicts = (
            Verdict(ConditionType.ACCEPTED, status, reason, "a sentence"),
            Verdict(ConditionType.READY, status, reason, "a summary"),
        )
        kind = obj["kind"]
        self.writer.wish("ai", StatusWrite(kind, metadata["name"], metadata["uid"], metadata["generation"], verdicts, fields))

    def status(self, name: str = "chat", resource: Resource = VIRTUAL_MODELS) -> JsonObject:
        found: JsonObject = self.cluster.read(resource, "ai", name).get("status") or {}
        return found

    @property
    def writes(self) -> int:
        return self.cluster.count("patch_status")


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    """Run a status writer."""
    made = Desk()
    task = asyncio.create_task(made.writer.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_a_status_is_written_once_and_then_is_what_the_store_has() -> None:
    """The second round of an undisturbed generation writes nothing, whether the watch has told by then or not."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.wish(made, modelName="chat")
        await asyncio.sleep(MOMENT)
        assert at.status()["modelName"] == "chat"
        assert at.status()["observedGeneration"] == 1
        assert {condition["observedGeneration"] for condition in at.status()["conditions"]} == {1}
        at.wish(made, modelName="chat")
        at.see(VIRTUAL_MODELS, "chat")
        at.wish(made, modelName="chat")
        await asyncio.sleep(60)
        assert at.writes == 1
        assert at.writer.idle
        assert at.writer.written == 1


@virtual
async def test_a_status_that_is_there_already_is_not_written() -> None:
    """After a restart the statuses of ten thousand objects are compared and none is written."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.wish(made)
        await asyncio.sleep(MOMENT)
        fresh = StatusWriter(at.cluster, at.store, at.leadership, at.announcer, at.marked.append, now, at._miss)
        at.writer = fresh
        task = asyncio.create_task(fresh.run())
        at.wish(made)
        await asyncio.sleep(1)
        task.cancel()
        assert at.writes == 1


@virtual
async def test_the_wish_that_follows_from_our_own_write_is_settled_without_a_look() -> None:
    """The round after a burst repeats every wish of it, since every object is another one now: none gets into the queue."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        write = StatusWrite(meta.VIRTUAL_MODEL, "chat", made["metadata"]["uid"], 1, (), {"modelName": "chat"})
        at.writer.wish("ai", write)
        await asyncio.sleep(MOMENT)
        at.writer.wish("ai", replace(write, fields={"modelName": "chat"}))
        assert at.writer.idle
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", status={})
        at.see(VIRTUAL_MODELS, "chat")
        at.writer.wish("ai", write)
        await asyncio.sleep(MOMENT)
        assert at.status()["modelName"] == "chat", "a status that somebody else wiped is put right"


@virtual
async def test_a_status_that_is_wiped_before_the_wish_that_follows_is_put_right() -> None:
    """What was written last settles a wish only while the object still has it."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.wish(made, modelName="chat")
        await asyncio.sleep(MOMENT)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", status={})
        at.see(VIRTUAL_MODELS, "chat")
        at.wish(made, modelName="chat")
        await asyncio.sleep(MOMENT)
        assert at.status()["modelName"] == "chat"


@virtual
async def test_statuses_that_wait_take_half_a_kilobyte_each() -> None:
    """After a burst thousands wait; verdicts and fields as objects are as much again, which the process keeps for good."""
    at = Desk()
    made = [at.make(VIRTUAL_MODELS, model(f"m{number}")) for number in range(200)]
    tracemalloc.start()
    try:
        for number, obj in enumerate(made):
            at.wish(obj, modelName=f"m{number}", revision=1000 + number)
        each = tracemalloc.get_traced_memory()[0] / len(made)
    finally:
        tracemalloc.stop()
    assert at.writer.waiting == 200
    assert each < 700, f"{each:.0f} bytes"


@virtual
async def test_a_status_that_waited_says_every_word_as_it_was_meant() -> None:
    """What waits is packed: texts of any script, numbers of any size and nested fields come out as they went in."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        fields = {"modelName": "ключ 'ü\u2028' 鍵", "revision": 2**53 - 1, "pods": {"stragglers": ["a", "b"], "off": None}}
        at.wish(made, "False", **fields)
        await asyncio.sleep(MOMENT)
        assert {name: at.status().get(name) for name in fields} == {**fields, "pods": {"stragglers": ["a", "b"]}}
        said = [[one[name] for name in ("type", "status", "reason", "message")] for one in at.status()["conditions"]]
        assert said == [["Accepted", "False", "Invalid", "a sentence"], ["Ready", "False", "Invalid", "a summary"]]


@virtual
async def test_a_newer_wish_takes_the_place_of_one_that_waits() -> None:
    """Only the last of several verdicts is written."""
    async with desk() as at:
        made = at.make(GATEWAY_CONFIGS, gateway())
        for revision in range(1, 6):
            at.wish(made, revision=revision)
        await asyncio.sleep(5)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 5
        assert at.writes == 1


@virtual
async def test_a_gateway_config_is_written_at_most_once_a_second() -> None:
    """Its counts move with every model of a burst; models do not wait for that, not even one of the same name."""
    async with desk() as at:
        made = at.make(GATEWAY_CONFIGS, gateway("chat"))
        same_name = at.make(VIRTUAL_MODELS, model("chat"))
        for revision in range(50):
            at.wish(made, revision=revision)
            at.wish(same_name, revision=revision)
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        assert at.status("chat", GATEWAY_CONFIGS)["revision"] == 49
        assert 5 <= at.cluster.count("patch_status", GATEWAY_CONFIGS) <= 7
        assert at.cluster.count("patch_status", VIRTUAL_MODELS) == 50


@virtual
async def test_what_is_urgent_of_a_gateway_config_is_written_at_once() -> None:
    """Nobody waits a second for the news that all pods run a revision, whether or not a status of it waits already."""
    async with desk() as at:
        made = at.make(GATEWAY_CONFIGS, gateway())
        write = StatusWrite(meta.GATEWAY_CONFIG, "main", made["metadata"]["uid"], 1, (), {"revision": 1})
        at.writer.wish("ai", write)
        await asyncio.sleep(MOMENT)
        at.writer.wish("ai", replace(write, fields={"revision": 2}, urgent=True))
        await asyncio.sleep(MOMENT)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 2
        at.writer.wish("ai", replace(write, fields={"revision": 3}))
        await asyncio.sleep(MOMENT)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 2
        at.writer.wish("ai", replace(write, fields={"revision": 4}, urgent=True), after_seconds=0.1)
        await asyncio.sleep(0.1 - MOMENT)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 2, "documents have their head start"
        await asyncio.sleep(2 * MOMENT)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 4
        await asyncio.sleep(5)
        assert at.writes == 3


@virtual
async def test_a_new_model_waits_as_long_as_it_was_to_wait() -> None:
    """In a burst every model is new: were each urgent for that, documents would lose their head start."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        write = StatusWrite(meta.VIRTUAL_MODEL, "chat", made["metadata"]["uid"], 1, (), {"revision": 1})
        at.writer.wish("ai", write, after_seconds=1)
        at.writer.wish("ai", replace(write, fields={"revision": 2}))
        await asyncio.sleep(0.9)
        assert at.writes == 0
        await asyncio.sleep(0.2)
        assert (at.writes, at.status()["revision"]) == (1, 2)


@virtual
async def test_an_edit_of_a_gateway_config_is_answered_at_once() -> None:
    """Whoever edits it a moment after its last status hears of a refusal; only counts wait, and each edit costs one write."""
    async with desk() as at:
        made = at.make(GATEWAY_CONFIGS, gateway())
        at.wish(made, models={"accepted": 1})
        await asyncio.sleep(MOMENT)
        at.wish(made, models={"accepted": 2})
        edited = at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"app": {"port": 1}})
        at.see(GATEWAY_CONFIGS, "main")
        assert edited["metadata"]["generation"] == 2
        for accepted in (2, 3, 4):
            at.wish(edited, "False", models={"accepted": accepted})
            await asyncio.sleep(MOMENT)
        told = at.status("main", GATEWAY_CONFIGS)
        assert (told["observedGeneration"], told["models"]) == (2, {"accepted": 2})
        assert at.writes == 2
        await asyncio.sleep(5)
        assert at.status("main", GATEWAY_CONFIGS)["models"] == {"accepted": 4}
        assert at.writes == 3


@virtual
async def test_an_urgent_status_waits_like_any_other_while_writes_fail() -> None:
    """Good news comes with every round; it must not hammer a server that refuses."""
    async with desk() as at:
        uid = at.make(GATEWAY_CONFIGS, gateway())["metadata"]["uid"]
        at.cluster.fail("patch_status", Unavailable("503"), times=10**6)
        for revision in range(100):
            at.writer.wish("ai", StatusWrite(meta.GATEWAY_CONFIG, "main", uid, 1, (), {"revision": revision}, urgent=True))
            await asyncio.sleep(0.1)
        assert at.writes <= 4, "after 2, 4 and 8 seconds"
        at.cluster.heal()
        await asyncio.sleep(20)
        assert at.status("main", GATEWAY_CONFIGS)["revision"] == 99


@virtual
async def test_a_gateway_config_does_not_wait_because_of_a_model_of_its_name() -> None:
    """The least time between writes is each object's own."""
    async with desk() as at:
        at.wish(at.make(VIRTUAL_MODELS, model("chat")))
        await asyncio.sleep(MOMENT)
        at.wish(at.make(GATEWAY_CONFIGS, gateway("chat")))
        await asyncio.sleep(MOMENT)
        assert at.writes == 2


@virtual
async def test_at_most_four_writes_are_under_way() -> None:
    """Status writes run beside rounds and do not flood the server; none is lost."""
    async with desk() as at:
        gate = at.cluster.hang("patch_status", times=1000)
        for number in range(100):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(1)
        assert at.cluster.most_in_flight["patch_status"] == MAX_IN_FLIGHT == 4
        gate.set()
        await asyncio.sleep(1)
        assert at.writes == 100
        assert all(at.status(f"m{number}") for number in range(100))


@virtual
async def test_while_rounds_are_due_statuses_are_written_one_at_a_time() -> None:
    """They leave the API server to documents, yet go on: a burst without end starves nobody."""
    async with desk() as at:
        gate = at.cluster.hang("patch_status", times=2)
        at.busy = True
        for number in range(20):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(1)
        assert at.cluster.most_in_flight["patch_status"] == 1
        at.busy = False
        await asyncio.sleep(2 * ROOM_SECONDS)
        assert at.cluster.most_in_flight["patch_status"] == MAX_IN_FLIGHT
        assert at.writer.written == 18, "the others were not held up by those that hang"
        gate.set()
        at.busy = True
        for number in range(20, 40):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(1)
        assert at.writes == 40


@virtual
async def test_while_rounds_are_due_a_pause_follows_each_status() -> None:
    """They take a quarter of the time of one connection; once rounds are done nothing waits any more."""
    async with desk() as at:
        gate = at.cluster.hang("patch_status")
        at.busy = True
        for number in range(3):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(0.02)
        gate.set()
        await asyncio.sleep(0.9 * ROOM_FACTOR * 0.02)
        assert at.writes == 1
        await asyncio.sleep(0.2 * ROOM_FACTOR * 0.02)
        assert at.writes == 3, "a write that takes no time is followed by no pause"


@virtual
async def test_a_gateway_config_comes_before_the_models_that_wait() -> None:
    """Thousands of models wait after a burst; what sums them up is what people and pipelines look at."""
    async with desk() as at:
        gate = at.cluster.hang("patch_status", times=MAX_IN_FLIGHT)
        for number in range(20):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(MOMENT)
        at.wish(at.make(GATEWAY_CONFIGS, gateway("main")))
        await asyncio.sleep(MOMENT)
        at.cluster.calls.clear()
        gate.set()
        await asyncio.sleep(MOMENT)
        assert at.cluster.calls[0].resource == GATEWAY_CONFIGS


@virtual
async def test_a_conflict_is_tried_again_without_hammering_until_the_watch_has_told() -> None:
    """Somebody changed labels and the watch is late for a minute: a handful of tries, then the status is there."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", metadata={"labels": {"a": "b"}})
        at.wish(made)
        await asyncio.sleep(60)
        assert 2 <= at.writes <= 12
        assert at.status() == {}
        at.see(VIRTUAL_MODELS, "chat")
        await asyncio.sleep(60)
        assert at.status()["observedGeneration"] == 1


@virtual
async def test_a_generation_that_came_meanwhile_gets_no_old_verdict() -> None:
    """The conflict's retry finds another generation in the store and drops the wish: its own round has another."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        at.wish(made)
        await asyncio.sleep(MOMENT)
        at.see(VIRTUAL_MODELS, "chat")
        await asyncio.sleep(60)
        assert at.status() == {}
        assert at.writes == 1
        assert at.writer.idle


@virtual
async def test_nothing_is_wished_for_or_written_to_another_object_of_the_same_name() -> None:
    """The uid is asked when the wish comes and when it is carried out."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat")
        at.wish(made)
        again = at.make(VIRTUAL_MODELS, model())
        assert again["metadata"]["uid"] != made["metadata"]["uid"]
        await asyncio.sleep(MOMENT)
        at.wish(made)
        assert at.writer.idle
        await asyncio.sleep(60)
        assert at.writes == 0


@virtual
async def test_a_missing_object_is_reported_and_left_in_peace() -> None:
    """A deletion that was never told: a LIST is asked for, and the server is not asked in a loop until it comes."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat")
        at.wish(made)
        await asyncio.sleep(MOMENT)
        assert at.missing == 1
        await asyncio.sleep(100)
        assert at.writes <= 7
        at.store.settle(VIRTUAL_MODELS, [], "1000")
        at.writer.forget(VIRTUAL_MODELS, CHAT)
        await asyncio.sleep(100)
        assert at.writer.idle


@virtual
async def test_a_deletion_that_overtakes_the_answer_is_not_undone() -> None:
    """The answer of our own write is older than the deletion: it does not bring the object back into the store."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        gate = at.cluster.hang("patch_status", after=True)
        at.wish(made)
        await asyncio.sleep(MOMENT)
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat")
        at.store.remove(VIRTUAL_MODELS, CHAT, str(at.cluster._version))
        gate.set()
        await asyncio.sleep(MOMENT)
        assert at.store.get(VIRTUAL_MODELS, CHAT) is None


@virtual
async def test_a_change_that_overtakes_the_answer_asks_for_a_round() -> None:
    """Its event came while ours was awaited and was taken for ours; the writer notices that it was not."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        gate = at.cluster.hang("patch_status", after=True)
        at.wish(made)
        await asyncio.sleep(MOMENT)
        assert at.writer.in_flight(VIRTUAL_MODELS, CHAT)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", status={"modelName": "forged"})
        at.see(VIRTUAL_MODELS, "chat")
        gate.set()
        await asyncio.sleep(MOMENT)
        assert at.marked == [GatewayKey("ai", "main")]
        assert not at.writer.in_flight(VIRTUAL_MODELS, CHAT)


@virtual
async def test_failures_are_tried_again_ever_more_slowly_until_they_succeed() -> None:
    """An hour without the right to write costs some dozens of requests, and the status comes when the right does."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.fail("patch_status", Forbidden("no right", status=403), times=10**6)
        at.wish(made)
        await asyncio.sleep(3600)
        assert 10 < at.writes < 80
        at.cluster.heal()
        await asyncio.sleep(61)
        assert at.status()["observedGeneration"] == 1


@virtual
async def test_the_server_decides_when_to_try_again() -> None:
    """Retry-After of a 429 is obeyed."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.fail("patch_status", Unavailable("too many", status=429, retry_after_seconds=30))
        at.wish(made)
        await asyncio.sleep(29)
        assert at.writes == 1
        await asyncio.sleep(2)
        assert at.writes == 2
        assert at.status()


@virtual
async def test_a_write_whose_answer_was_lost_is_not_repeated() -> None:
    """It landed: the retry conflicts until the watch tells, finds the status equal, and writes nothing."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.cluster.fail("patch_status", Unavailable("cut off"), after=True)
        at.wish(made)
        await asyncio.sleep(MOMENT)
        version = at.cluster.read(VIRTUAL_MODELS, "ai", "chat")["metadata"]["resourceVersion"]
        at.see(VIRTUAL_MODELS, "chat")
        await asyncio.sleep(60)
        assert at.writes == 1
        assert at.cluster.read(VIRTUAL_MODELS, "ai", "chat")["metadata"]["resourceVersion"] == version


@virtual
async def test_a_standby_writes_nothing_and_leadership_that_comes_back_writes_on() -> None:
    """A wish is dropped by the loss of the lease, not by a moment in which a renewal was late."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.leadership.is_leader = False
        at.wish(made)
        await asyncio.sleep(1)
        assert at.writes == 0
        at.leadership.is_leader = True
        await asyncio.sleep(3)
        assert at.writes == 1
        at.leadership.is_leader = False
        at.wish(made, status="False")
        await asyncio.sleep(1)
        at.writer.forget_wishes()
        at.leadership.is_leader = True
        await asyncio.sleep(120)
        assert at.writes == 1


@virtual
async def test_a_moment_without_leadership_does_not_make_wishes_wait_ever_longer() -> None:
    """Nothing failed: a minute of late renewals costs what the last two seconds of it cost, also for the thousandth wish."""
    async with desk() as at:
        at.leadership.is_leader = False
        for number in range(20):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(70)
        at.leadership.is_leader = True
        await asyncio.sleep(3)
        assert at.writes == 20


@virtual
async def test_one_broken_object_does_not_stop_the_others() -> None:
    """A fault of ours with one status leaves the other workers and objects alone."""
    async with desk() as at:
        at.cluster.fail("patch_status", RuntimeError("a fault of ours"), times=20)  # type: ignore[arg-type]  # not a ClusterError
        for number in range(30):
            at.wish(at.make(VIRTUAL_MODELS, model(f"m{number}")))
        await asyncio.sleep(30)
        assert all(at.status(f"m{number}") for number in range(30))


@virtual
async def test_only_real_transitions_are_announced() -> None:
    """First success: no news. Failure: a warning. Failure repeated: no news. Success again: news. One mistake: one Event."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        told: list[list[tuple[str, bool, str]]] = []
        wishes: list[Status] = ["True", "False", "False", "Unknown", "False", "True"]
        for number, status in enumerate(wishes):
            before = len(at.announcer.announced)
            at.wish(made, status=status, modelName=f"m{number}")
            await asyncio.sleep(MOMENT)
            told.append([(one.key.name, one.warning, one.note) for one in at.announcer.announced[before:]])
        bad, good = ("chat", True, "a summary"), ("chat", False, "a summary")
        assert told == [[], [bad], [], [], [bad], [good]]
        assert {one.uid for one in at.announcer.announced} == {made["metadata"]["uid"]}


@virtual
async def test_a_first_failure_is_announced() -> None:
    """An object that is refused from the start is news."""
    async with desk() as at:
        at.wish(at.make(VIRTUAL_MODELS, model()), status="False")
        await asyncio.sleep(MOMENT)
        assert [(one.kind, one.reason, one.warning) for one in at.announcer.announced] == [("VirtualModel", "Invalid", True)]


@virtual
async def test_fields_that_vanish_are_taken_away() -> None:
    """A merge patch keeps what it does not name: what is no longer true is sent as null."""
    async with desk() as at:
        made = at.make(VIRTUAL_MODELS, model())
        at.wish(made, modelName="chat", revision=3)
        await asyncio.sleep(MOMENT)
        at.wish(made, modelName="chat")
        await asyncio.sleep(MOMENT)
        assert "revision" not in at.status()


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(current=OBJECTS, wanted=OBJECTS)
def test_a_merge_patch_makes_the_one_status_the_other(current: JsonObject, wanted: JsonObject) -> None:
    """At every level, and it is empty exactly when there is nothing to write."""
    patch = merge_patch(current, wanted)
    assert apply_merge(current, patch) == wanted
    assert bool(patch) == (current != wanted)
