"""Poking, asking and summing up, with pods in memory and in virtual time: rollout/rollouts.py, tracker.py, follower.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from aigateway_config.documents import DocumentState
from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.errors import Forbidden
from aigateway_operator.plan.proof import Phase, Proof, Target
from aigateway_operator.rollout.answers import Answered, Misanswered, Silent
from aigateway_operator.rollout.rollouts import Rollouts
from tests.fake_pods import FakePods, answer_of
from tests.virtual_time import now, virtual

KEY = GatewayKey("ai", "main")


def delivery(**parts: Any) -> Delivery:
    """Return a delivery that selects pods."""
    return Delivery.model_validate({"podSelector": {"matchLabels": {"app": "gateway"}}, **parts})


def target(revision: int = 1, credentials: int = 1, **parts: Any) -> Target:
    """Return the target of a gateway with one document."""
    documents = {"config.yml": (revision, f"{revision:064x}")}
    made = Target(revision, credentials, "uid-1", documents, {"_manifest.json": credentials})
    return replace(made, **parts)


@dataclass
class Setting:
    """Rollouts over a fleet; `news` is every proof that was told, with its time."""

    fleet: FakePods
    rollouts: Rollouts
    news: list[tuple[float, Proof | None]] = field(default_factory=list)

    def write(self, wanted: Target, given: Delivery | None = None, *, written: bool = True) -> None:
        """Do what the reconciler does after a write."""
        self.fleet.mounted = wanted
        self.rollouts.set_target(KEY, wanted, given or delivery(), written=written)

    @property
    def proof(self) -> Proof:
        proof = self.rollouts.proof(KEY)
        assert proof is not None
        return proof

    async def prove(self, wanted: Target, pods: int = 3) -> None:
        """Start pods that run `wanted`, and let it be proved."""
        for number in range(pods):
            self.fleet.put(f"gateway-{number}", wanted)
        self.write(wanted, written=False)
        await asyncio.sleep(1)
        assert self.proof.complete
        self.news.clear()


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    """Open rollouts over an empty fleet; nothing may be left behind."""
    fleet = FakePods()
    news: list[tuple[float, Proof | None]] = []
    rollouts = Rollouts(
        fleet,
        fleet.poke,
        fleet.ask,
        on_change=lambda key: news.append((now(), rollouts.proof(key))),
        clock=now,
        on_proven=fleet.proven.append,
        random=Random(1),
    )
    try:
        yield Setting(fleet, rollouts, news)
    finally:
        await rollouts.stop()
        assert fleet.following == 0, "a watch was left behind"
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


@virtual
async def test_write_is_proved_within_a_few_hundredths_of_the_pods_sync_and_told_once() -> None:
    """One poke a pod after the write, one news, the time from the write to the last answer."""
    async with setting() as at:
        await at.prove(target(1))
        began = now()
        at.write(target(2))
        await asyncio.sleep(3)
        assert [at.fleet.poked(f"gateway-{number}") for number in range(3)] == [["2.1.0"]] * 3
        assert len(at.news) == 1
        told, proof = at.news[0]
        assert proof is not None
        assert (proof.target, proof.complete, proof.phase, proof.everyone) == (target(2), True, Phase.SETTLED, True)
        assert told - began < 0.22, "pods had it after 0.1 s"
        assert proof.last_duration_milliseconds == round((told - began) * 1000)
        assert at.fleet.proven == [proof.last_duration_milliseconds / 1000] or len(at.fleet.proven) == 1


@virtual
async def test_pods_that_run_it_already_are_asked_and_not_poked() -> None:
    """After a restart of the operator nothing is written; the proof says nothing of a duration nobody measured."""
    async with setting() as at:
        at.fleet.put("gateway-0", target(1))
        at.write(target(1), written=False)
        await asyncio.sleep(10)
        assert at.fleet.pokes == []
        assert at.proof.complete
        assert at.proof.last_duration_milliseconds is None
        assert at.fleet.proven == []


@virtual
async def test_pod_that_missed_a_write_before_a_restart_is_poked() -> None:
    """A crash between write and poke: the first wrong answer brings the poke, with an attempt that is new to the pod."""
    async with setting() as at:
        at.fleet.put("gateway-0", target(1), poked="2.1.3")
        at.write(target(2), written=False)
        await asyncio.sleep(1)
        assert at.fleet.poked("gateway-0") == ["2.1.4"]
        assert at.proof.complete


async def burst(at: Setting, seconds: float) -> dict[str, list[float]]:
    """Write twenty times a second for so long, and let it be proved; return when each pod was poked."""
    last = 1 + round(seconds * 20)
    for revision in range(2, last + 1):
        at.write(target(revision))
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)
    assert at.proof.complete
    assert at.proof.target == target(last)
    times: dict[str, list[float]] = {}
    for poke in at.fleet.pokes:
        times.setdefault(poke.pod, []).append(poke.at)
    assert {at.fleet.poked(name)[-1] for name in times} == {f"{last}.1.0"}, "a poke carries the newest numbers"
    return times


@virtual
async def test_burst_of_writes_is_four_pokes_a_second_for_one_of_few_pods() -> None:
    """The next relist of a kubelet, whenever that is, finds a poke that waits for it; more of them would gain nothing."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        for times in (await burst(at, 5)).values():
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert min(gaps) > 0.249
            assert max(gaps) < 0.31


@pytest.mark.parametrize(("pods", "most"), [(1, 4), (5, 20), (10, 20), (20, 20), (200, 200)])
@virtual
async def test_burst_of_writes_is_twenty_pokes_a_second_or_one_a_pod(pods: int, most: int) -> None:
    """What a burst costs the API server does not grow with a few pods, and for many it is what it was: one a second each."""
    async with setting() as at:
        await at.prove(target(1), pods=pods)
        began = now()
        await burst(at, 5)
        sent = [poke.at - began for poke in at.fleet.pokes]
        for second in range(5):
            assert sum(second <= when < second + 1 for when in sent) <= most
        assert sum(when < 5 for when in sent) >= 4 * most, "pods are poked as often as they may be"


@virtual
async def test_pods_that_were_just_poked_are_poked_when_others_have_taken_up_the_write() -> None:
    """Not at once, when the API server has watchers to serve; and writes that never pause do not put it off."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        await asyncio.sleep(2)
        for revision in range(2, 102):
            at.write(target(revision))
            await asyncio.sleep(0.01)
        sent = [poke.at for poke in at.fleet.pokes][-5:]
        assert sent[1] - sent[0] == pytest.approx(0.25, abs=0.03)
        await asyncio.sleep(0.5)
        began = now()
        at.write(target(200))
        await asyncio.sleep(0.1)
        assert at.fleet.pokes[-1].at - began == pytest.approx(0.02, abs=0.005)
        await asyncio.sleep(1.5)
        began = now()
        at.write(target(201))
        await asyncio.sleep(0.1)
        assert at.fleet.pokes[-1].at == pytest.approx(began, abs=0.005), "after a pause nothing waits"


@virtual
async def test_edit_soon_after_another_is_poked_before_the_kubelets_next_relist_in_most_cases() -> None:
    """A poke that is held back for a second misses the relist, which comes after half a second on average."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        at.write(target(2))
        await asyncio.sleep(0.15)
        at.write(target(3))
        await asyncio.sleep(0.11)
        assert [at.fleet.poked(f"gateway-{number}") for number in range(2)] == [["2.1.0", "3.1.0"]] * 2


@virtual
async def test_only_running_pods_are_poked() -> None:
    """Not one that is starting or ending; one that is not ready runs documents and is."""
    async with setting() as at:
        at.fleet.put("starting", running=False, ready=False)
        at.fleet.put("ending", target(1), terminating=True)
        at.fleet.put("unready", target(1), ready=False)
        at.write(target(1))
        await asyncio.sleep(5)
        at.write(target(2))
        await asyncio.sleep(5)
        assert {poke.pod for poke in at.fleet.pokes} == {"unready"}
        assert at.fleet.asked == []
        assert (at.proof.desired, at.proof.complete, at.proof.everyone) == (0, False, False)


@virtual
async def test_stale_pod_is_named_within_five_seconds_and_recovery_clears_it() -> None:
    """A frozen worker goes on saying the old revision; before the time is over nothing is told."""
    async with setting() as at:
        await at.prove(target(1))
        at.fleet.frozen.add("gateway-1")
        began = now()
        at.write(target(2))
        await asyncio.sleep(4.4)
        assert at.news == []
        await asyncio.sleep(0.6)
        (told, proof), *more = at.news
        assert not more
        assert proof is not None
        assert told - began < 5
        assert (proof.stragglers, proof.unreachable, proof.updated, proof.desired) == (("gateway-1",), (), 2, 3)
        assert proof.reasons == {"gateway-1": "runs revision 1 of config.yml, not 2"}
        assert proof.phase is Phase.SETTLED
        at.fleet.frozen.clear()
        at.fleet.runs["gateway-1"] = target(2)
        await asyncio.sleep(5.1)
        assert at.proof.complete
        assert len(at.news) == 2


@virtual
async def test_pokes_are_repeated_with_growing_pauses_and_end() -> None:
    """A missed sync is repaired; a pod that will never follow is not poked for ever."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        at.fleet.frozen.add("gateway-0")
        at.write(target(2))
        await asyncio.sleep(600)
        pauses = [round(later.at - earlier.at) for earlier, later in pairwise(at.fleet.pokes)]
        assert pauses == [1, 2, 4, 8, 16, 30]
        assert at.fleet.poked("gateway-0") == [f"2.1.{attempt}" for attempt in range(7)]
        asked = [time for _, time in at.fleet.asked if time > now() - 60]
        assert len(asked) <= 13, "a broken pod is asked too often"


@virtual
async def test_missed_sync_is_repaired_by_the_next_poke() -> None:
    """The kubelet read the old object: two pokes, and no straggler is ever told."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        at.fleet.frozen.add("gateway-0")
        at.write(target(2))
        await asyncio.sleep(0.5)
        at.fleet.frozen.clear()
        await asyncio.sleep(2)
        assert len(at.fleet.pokes) == 2
        assert [proof.complete for _, proof in at.news if proof] == [True]


@virtual
async def test_pods_that_answer_nonsense_hang_or_lie_are_told_apart() -> None:
    """Something that answers wrongly is a straggler; one that gives no answer is unknown."""
    async with setting() as at:
        await at.prove(target(1), pods=6)
        lie = {"config.yml": DocumentState(revision=2, digest="f" * 64)}
        at.fleet.outcomes = {
            "gateway-0": Misanswered("answers with something that is not a status answer"),
            "gateway-1": 2.0,
            "gateway-2": Silent("accepts no connection on port 8081"),
            "gateway-3": Answered(answer_of(target(2), documents=lie)),
            "gateway-4": Answered(answer_of(target(9))),
        }
        began = now()
        at.write(target(2))
        await asyncio.sleep(5)
        assert at.news[0][1] is not None
        assert (at.news[0][1].phase, at.news[0][1].ahead) == (Phase.PROGRESSING, ("config.yml",)), "numbers may have to move"
        told, proof = next((told, proof) for told, proof in at.news if proof is not None and proof.phase is Phase.SETTLED)
        assert told - began < 5
        assert proof.stragglers == ("gateway-0", "gateway-3", "gateway-4")
        assert proof.unreachable == ("gateway-1", "gateway-2")
        assert (proof.desired, proof.updated, proof.unknown) == (6, 1, 2)
        assert proof.highest_revision == 9
        assert proof.reasons["gateway-3"] == "runs config.yml of revision 2 with another content"
        at.fleet.outcomes.clear()
        at.fleet.runs = dict.fromkeys(at.fleet.runs, target(2))
        await asyncio.sleep(6)
        assert at.proof.complete


@virtual
async def test_pod_with_a_higher_number_is_told_at_once_and_named_no_later_for_being_given_a_new_one() -> None:
    """New numbers for its sake leave the time that pods were given as it is, but for the two seconds that any pod needs."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        at.fleet.outcomes["gateway-1"] = Answered(answer_of(target(9)))
        began = now()
        at.write(target(2))
        await asyncio.sleep(0.5)
        assert [(proof.phase, proof.ahead, proof.highest_revision) for _, proof in at.news if proof] == [
            (Phase.PROGRESSING, ("config.yml",), 9)
        ]
        at.write(target(10, repeats=True))
        await asyncio.sleep(6)
        told, proof = at.news[-1]
        assert proof is not None
        assert (proof.phase, proof.stragglers) == (Phase.SETTLED, ("gateway-1",))
        assert told - began < 5
        at.news.clear()
        began = now()
        at.fleet.outcomes["gateway-1"] = Answered(answer_of(target(20)))
        at.write(target(21, repeats=True))
        at.fleet.outcomes.clear()
        await asyncio.sleep(3)
        assert [proof.complete for _, proof in at.news if proof] == [True], "nobody who needs a moment is named"


@virtual
async def test_watch_of_pods_that_is_refused_says_that_nobody_knows_and_heals() -> None:
    """A right that was taken away: what was proved stays no longer, and is proved again when the watch is back."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        at.fleet.trouble = "the operator may not list and watch them"
        at.fleet.tell()
        await asyncio.sleep(0.1)
        assert at.proof.blind == "the operator may not list and watch them"
        await asyncio.sleep(10)
        at.fleet.trouble = None
        await asyncio.sleep(2)
        assert [proof.complete for _, proof in at.news if proof] == [False, True]


@virtual
async def test_watch_of_pods_that_never_worked_is_told() -> None:
    """From the first refused list on, without waiting for pods that nobody can see."""
    async with setting() as at:
        at.fleet.listed, at.fleet.trouble = False, "the operator may not list and watch them"
        at.write(target(1), written=False)
        await asyncio.sleep(1)
        assert at.proof.blind
        assert at.proof.desired == 0


@virtual
async def test_answer_to_a_question_from_before_the_write_is_no_straggler() -> None:
    """A question that was under way when the documents changed says nothing of the new ones."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        at.fleet.outcomes["gateway-0"] = 1.0
        at.fleet.put("gateway-0", ip="10.0.0.2")
        await asyncio.sleep(0.5)
        at.write(target(2))
        at.fleet.outcomes.clear()
        await asyncio.sleep(0.7)
        assert all(proof is None or not proof.unreachable for _, proof in at.news)
        await asyncio.sleep(2)
        assert at.proof.complete


@virtual
async def test_pod_that_turns_ready_later_is_asked_and_counts_only_then() -> None:
    """One that has it changes the figures once; one that has not takes Propagated away at once, and is poked."""
    async with setting() as at:
        await at.prove(target(2), pods=1)
        at.fleet.put("late", target(2), ready=False)
        await asyncio.sleep(5)
        assert at.proof.desired == 1
        assert not at.proof.everyone
        at.news.clear()
        at.fleet.put("late", ready=True)
        await asyncio.sleep(1)
        assert [(proof.desired, proof.updated) for _, proof in at.news if proof] == [(2, 2)]
        at.news.clear()
        at.fleet.put("stale", target(1), ready=False)
        at.fleet.put("stale", ready=True)
        await asyncio.sleep(2)
        assert [(proof.phase, proof.complete) for _, proof in at.news if proof] == [
            (Phase.PROGRESSING, False),
            (Phase.SETTLED, True),
        ]
        assert at.fleet.poked("stale") == ["2.1.0"]


@virtual
async def test_pod_that_falls_silent_keeps_the_claim_until_time_is_over() -> None:
    """It did report this revision: one lost answer writes nothing, five seconds of silence do."""
    async with setting() as at:
        await at.prove(target(1))
        at.fleet.outcomes["gateway-2"] = Silent("accepts no connection on port 8081")
        await asyncio.sleep(61)
        began = next(time for name, time in at.fleet.asked if name == "gateway-2" and time > now() - 17)
        at.news.clear()
        await asyncio.sleep(20)
        assert at.proof.unreachable == ("gateway-2",)
        assert at.fleet.pokes == [], "silence without a write is no reason to poke"
        at.fleet.outcomes.clear()
        await asyncio.sleep(6)
        assert at.proof.complete
        assert began > 0


@virtual
async def test_lost_answer_at_the_minute_is_no_news() -> None:
    """A pod that answers again a moment later was never behind."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        at.fleet.outcomes["gateway-0"] = Silent("closes the connection")
        asked = len(at.fleet.asked)
        while len(at.fleet.asked) == asked:
            await asyncio.sleep(0.1)
        at.fleet.outcomes.clear()
        await asyncio.sleep(30)
        assert at.news == []


@virtual
async def test_matching_pods_are_asked_once_a_minute_at_different_times() -> None:
    """Nothing else happens when nothing happens."""
    async with setting() as at:
        await at.prove(target(1), pods=40)
        at.fleet.asked.clear()
        await asyncio.sleep(600)
        assert at.news == []
        assert at.fleet.pokes == []
        assert 40 * 10 <= len(at.fleet.asked) <= 40 * 14
        late = [time for _, time in at.fleet.asked if time > now() - 60]
        assert max(sum(start <= time < start + 5 for time in late) for start in range(int(now()) - 60, int(now()))) < 20


@virtual
async def test_change_that_nobody_wrote_is_seen_within_a_minute() -> None:
    """A pod that lost its documents says so when it is asked again."""
    async with setting() as at:
        await at.prove(target(1))
        at.fleet.runs["gateway-1"] = None
        at.fleet.frozen.add("gateway-1")
        await asyncio.sleep(66)
        assert at.proof.stragglers == ("gateway-1",)
        assert at.proof.reasons == {"gateway-1": "has not loaded a configuration yet"}
        assert [proof.phase for _, proof in at.news if proof] == [Phase.PROGRESSING, Phase.SETTLED]


@virtual
async def test_without_pokes_pods_get_ninety_seconds() -> None:
    """A kubelet that is left alone takes up to 75 s."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        began = now()
        at.write(target(2), delivery(poke=False))
        await asyncio.sleep(89)
        assert at.fleet.pokes == []
        assert at.news == []
        await asyncio.sleep(2)
        assert at.proof.stragglers == ("gateway-0", "gateway-1")
        assert at.news[0][0] - began == 90 or abs(at.news[0][0] - began - 90) < 0.1


@virtual
async def test_changed_delivery_takes_effect_at_once() -> None:
    """Another selector is another watch; another port asks all again; pokes switched on poke those behind."""
    async with setting() as at:
        await at.prove(target(1), pods=1)
        at.fleet.frozen.clear()
        at.write(target(2), delivery(poke=False))
        await asyncio.sleep(2)
        assert at.fleet.pokes == []
        at.rollouts.set_target(KEY, target(2), delivery(), written=False)
        await asyncio.sleep(2)
        assert at.fleet.poked("gateway-0") == ["2.1.0"]
        assert at.proof.complete
        asked = len(at.fleet.asked)
        at.rollouts.set_target(KEY, target(2), delivery(statusPort=9000), written=False)
        await asyncio.sleep(0.1)
        assert len(at.fleet.asked) == asked + 1
        assert at.fleet.following == 1
        at.rollouts.set_target(KEY, target(2), delivery(podSelector={"matchLabels": {"app": "other"}}), written=False)
        await asyncio.sleep(0.1)
        assert at.fleet.following == 1
        assert at.fleet.selectors == ["app=gateway", "app=other"]
        at.rollouts.set_target(KEY, target(2), delivery(podSelector=None), written=False)
        assert at.fleet.following == 0
        assert at.rollouts.proof(KEY) is None


@virtual
async def test_delivery_that_cannot_be_read_leaves_the_last_one_in_force() -> None:
    """An invalid edit of the GatewayConfig does not end the proof of what is live; without any before there is none."""
    async with setting() as at:
        at.rollouts.set_target(KEY, target(1), None, written=False)
        assert at.fleet.following == 0
        await at.prove(target(1), pods=1)
        at.fleet.mounted = target(2)
        at.rollouts.set_target(KEY, target(2), None, written=True)
        await asyncio.sleep(1)
        assert at.proof.complete
        assert at.proof.target == target(2)


@virtual
async def test_same_target_again_changes_nothing() -> None:
    """Every round tells the target; nobody is asked or poked for it."""
    async with setting() as at:
        await at.prove(target(1))
        asked = len(at.fleet.asked)
        for _ in range(5):
            at.rollouts.set_target(KEY, target(1), delivery(), written=True)
            await asyncio.sleep(1)
        assert len(at.fleet.asked) == asked
        assert (at.fleet.pokes, at.news) == ([], [])


@virtual
async def test_claim_stands_while_keys_that_nobody_needs_are_taken_away() -> None:
    """Housekeeping: the old proof stands for the new target until that is proved; the duration is that of the edit."""
    async with setting() as at:
        await at.prove(target(1))
        at.write(target(2))
        await asyncio.sleep(1)
        duration = at.proof.last_duration_milliseconds
        cleaned = target(2, 2, housekeeping=True)
        at.fleet.sync_seconds = 0.4
        at.write(cleaned)
        assert at.proof.complete
        assert at.proof.speaks_of(cleaned)
        assert at.proof.target == target(2)
        at.news.clear()
        await asyncio.sleep(2)
        assert [(proof.target, proof.complete) for _, proof in at.news if proof] == [(cleaned, True)]
        assert at.proof.last_duration_milliseconds == duration
        at.fleet.frozen.add("gateway-0")
        at.news.clear()
        at.write(target(2, 3, housekeeping=True))
        await asyncio.sleep(5)
        assert [proof.stragglers for _, proof in at.news if proof] == [("gateway-0",)]


@virtual
async def test_pods_that_come_and_go_are_followed() -> None:
    """A pod made anew under its name is another one; one that is deleted is asked no more; none left is told."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        at.fleet.remove("gateway-1")
        await asyncio.sleep(1)
        assert (at.proof.desired, at.proof.updated) == (1, 1)
        at.fleet.states["gateway-0"] = replace(at.fleet.states["gateway-0"], uid="another")
        at.fleet.runs["gateway-0"] = None
        at.fleet.frozen.add("gateway-0")
        at.fleet.tell()
        await asyncio.sleep(6)
        assert at.proof.stragglers == ("gateway-0",)
        at.fleet.remove("gateway-0")
        asked = len(at.fleet.asked)
        await asyncio.sleep(10)
        assert (at.proof.desired, at.proof.complete) == (0, False)
        assert len(at.fleet.asked) == asked


@virtual
async def test_nothing_is_concluded_before_pods_have_been_listed() -> None:
    """An empty watch is not the same as no pods."""
    async with setting() as at:
        at.fleet.listed = False
        at.write(target(1))
        await asyncio.sleep(200)
        assert at.rollouts.proof(KEY) is None
        at.fleet.listed = True
        at.fleet.tell()
        await asyncio.sleep(1)
        assert at.proof.desired == 0


@virtual
async def test_refused_pokes_do_not_end_the_proof() -> None:
    """Without the right the kubelet's own sync still comes, and pods are asked until it has."""
    async with setting() as at:
        await at.prove(target(1))
        at.fleet.refuse_pokes = Forbidden("pods/status is forbidden", status=403)
        at.write(target(2))
        await asyncio.sleep(40)
        assert len(at.proof.stragglers) == 3
        at.fleet.runs = dict.fromkeys(at.fleet.runs, target(2))
        await asyncio.sleep(6)
        assert at.proof.complete


@virtual
async def test_two_hundred_pods_are_asked_a_few_at_a_time_and_few_times_each() -> None:
    """Bounded concurrency; with all pods well, one edit costs about a question and a poke for each."""
    async with setting() as at:
        await at.prove(target(1), pods=200)
        at.fleet.asked.clear()
        began = now()
        at.write(target(2))
        await asyncio.sleep(2)
        assert len(at.news) == 1
        assert at.proof.complete
        assert at.news[0][0] - began < 1
        assert at.fleet.most_asking <= 32
        assert len(at.fleet.pokes) == 200
        assert len(at.fleet.asked) <= 600


@virtual
async def test_two_hundred_pods_that_all_hang_are_named_in_time() -> None:
    """Questions that hang do not push the verdict beyond five seconds."""
    async with setting() as at:
        await at.prove(target(1), pods=200)
        at.fleet.outcomes = {f"gateway-{number}": 2.0 for number in range(200)}
        began = now()
        at.write(target(2))
        await asyncio.sleep(6)
        told, proof = at.news[0]
        assert proof is not None
        assert told - began < 5
        assert len(proof.unreachable) == 200
        assert at.fleet.most_asking <= 32


@virtual
async def test_standby_asks_and_pokes_nobody() -> None:
    """Another process leads: everything ends, and what was known is forgotten."""
    async with setting() as at:
        await at.prove(target(1))
        at.fleet.mounted = target(2)
        at.rollouts.set_target(KEY, target(2), delivery(), written=True)
        at.rollouts.forget_all()
        asked = len(at.fleet.asked)
        await asyncio.sleep(200)
        assert (len(at.fleet.asked), at.fleet.pokes) == (asked, [])
        assert at.rollouts.proof(KEY) is None
        at.rollouts.forget(KEY)


@virtual
async def test_first_write_to_a_slow_pod_is_not_told_before_time_is_over() -> None:
    """The round that wrote has said Progressing already: with a pod behind, the next news is how it ended."""
    async with setting() as at:
        at.fleet.put("gateway-0", target(1))
        at.fleet.frozen.add("gateway-0")
        at.write(target(2))
        await asyncio.sleep(4)
        assert at.news == []
        await asyncio.sleep(1)
        assert [proof.phase for _, proof in at.news if proof] == [Phase.SETTLED]


@virtual
async def test_silent_pod_after_a_change_of_leader_takes_nothing_away_before_time_is_over() -> None:
    """What the status says was proved by another process; one lost answer does not contradict it."""
    async with setting() as at:
        at.fleet.put("gateway-0", target(1))
        at.fleet.outcomes["gateway-0"] = Silent("accepts no connection on port 8081")
        at.write(target(1), written=False)
        await asyncio.sleep(3.5)
        assert at.news == []


@virtual
async def test_pod_that_turns_ready_while_another_is_behind_is_not_told_as_unknown() -> None:
    """It is given time for its first answer: one news, with that answer in it."""
    async with setting() as at:
        await at.prove(target(1), pods=2)
        at.fleet.frozen.add("gateway-1")
        at.write(target(2))
        await asyncio.sleep(6)
        at.news.clear()
        at.fleet.answer_seconds = 0.5
        at.fleet.put("late", target(2))
        await asyncio.sleep(3)
        assert [(proof.desired, proof.updated, proof.unknown) for _, proof in at.news if proof] == [(3, 2, 0)]


@virtual
async def test_late_answer_about_the_documents_before_brings_no_poke() -> None:
    """The question was under way when the target changed, and the pod has the new documents: nothing is to be mended."""
    async with setting() as at:
        at.fleet.answer_seconds = 0.5
        at.fleet.put("gateway-0", target(1))
        at.write(target(1), written=False)
        await asyncio.sleep(0.1)
        at.fleet.runs["gateway-0"] = target(2)
        at.write(target(2), written=False)
        await asyncio.sleep(3)
        assert at.fleet.pokes == []
        assert [proof.complete for _, proof in at.news if proof] == [True]
