"""The whole loop over fakes: what is written when, by whom, and what happens when things go wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.errors import Conflict, Forbidden, Unavailable
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS
from aigateway_operator.plan import known, planner
from aigateway_operator.plan.assess import ModelAssessment, assess_model
from aigateway_operator.plan.claims import Claims
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile import controller as controller_module
from aigateway_operator.reconcile.observe import FETCHES
from aigateway_operator.reconcile.queue import MAX_DELAY_SECONDS, MAX_REST_SECONDS
from aigateway_operator.reconcile.telling import FEW_WRITES, HEAD_START_SECONDS
from aigateway_operator.rules import RuleContext
from tests.fake_cluster import FakeCluster
from tests.unit.reconcile.objects import gateway, model, secret
from tests.unit.reconcile.world import World, world
from tests.virtual_time import now, virtual


@virtual
async def test_a_model_is_served_and_ready_and_then_nothing_more_is_written() -> None:
    """One write a document, one status an object; an idle operator sends nothing but its LISTs."""
    async with world() as at:
        at.furnish()
        await at.settle()
        assert at.served()["chat"]["current"] == "small"
        assert at.condition("Ready") == ("True", "Ready")
        assert at.condition("Ready", "main", GATEWAY_CONFIGS)[0] == "True"
        assert at.cluster.count("patch_status", VIRTUAL_MODELS) == 1
        assert at.cluster.count("create", CONFIG_MAPS) == 1
        seen = len(at.cluster.calls)
        await asyncio.sleep(3600)
        later = at.cluster.calls[seen:]
        assert {call.verb for call in later} == {"list"}
        assert all(call.sent["metadata_only"] for call in later)


@virtual
async def test_an_edit_is_served_at_once() -> None:
    """It waits neither for a quiet time nor for statuses."""
    async with world() as at:
        at.furnish()
        await at.settle()
        gate = at.cluster.hang("patch_status", times=1000)
        began = now()
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(0.01)
        assert at.served()["chat"]["current"] == "big"
        assert now() - began < 0.02
        gate.set()


@virtual
async def test_statuses_give_documents_a_head_start() -> None:
    """Not one is written while pods take the documents up; where no document was written nothing waits."""
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        seen = at.cluster.count("patch_status")
        began = now()
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        while at.served()["chat"]["current"] != "big":
            await asyncio.sleep(0.001)
        assert now() + HEAD_START_SECONDS / 2 < began + HEAD_START_SECONDS
        await asyncio.sleep(HEAD_START_SECONDS / 2)
        assert at.cluster.count("patch_status") == seen
        await asyncio.sleep(HEAD_START_SECONDS)
        assert at.cluster.count("patch_status") > seen
        await at.settle()
        seen = at.cluster.count("patch_status")
        at.cluster.change(VIRTUAL_MODELS, "ai", "other", spec=model("other", current="none")["spec"])
        await asyncio.sleep(HEAD_START_SECONDS / 2)
        assert at.cluster.count("patch_status") > seen


@virtual
async def test_statuses_of_a_round_of_many_writes_give_its_documents_a_head_start_too() -> None:
    """Such a round is told of at once, but its statuses wait: pods take up five documents at the same time."""
    async with world() as at:
        at.furnish()
        at.cluster.make(GATEWAY_CONFIGS, gateway("wide", delivery={"shards": 4}))
        await at.settle()
        writes, seen = at.cluster.count("replace"), at.cluster.count("patch_status")
        for number in range(12):
            at.cluster.make(VIRTUAL_MODELS, model(f"m{number}", gateway="wide"))
        while at.cluster.count("replace") - writes <= FEW_WRITES:
            await asyncio.sleep(0.001)
        assert at.cluster.count("patch_status") == seen
        await asyncio.sleep(HEAD_START_SECONDS / 2)
        assert at.cluster.count("patch_status") == seen
        await at.settle()
        assert at.condition("Ready", "m0") == ("True", "Ready")


@virtual
async def test_a_restart_with_nothing_changed_writes_nothing() -> None:
    """Another process over the same cluster reads, compares, and leaves everything as it is."""
    async with world() as at:
        at.furnish()
        await at.settle()
    seen = len(at.cluster.writes())
    async with world(World(at.cluster)) as again:
        await again.settle(60)
        assert again.controller.rounds["unchanged"] >= 1
        assert again.cluster.writes()[seen:] == []


@virtual
@pytest.mark.parametrize("lacking", ["models", "gateways", "secrets", "owned"])
async def test_no_round_runs_before_every_kind_of_input_has_been_listed(lacking: str) -> None:
    """Not one write while any kind is unknown; as soon as it is known, all is as it should be."""
    at = World(hold=True)
    at.furnish()
    if lacking in {"models", "gateways"}:
        resource = VIRTUAL_MODELS if lacking == "models" else GATEWAY_CONFIGS
        at.cluster.fail("list", Unavailable("503"), times=10**6, resource=resource)
    async with world(at):
        at.controller.on_object(VIRTUAL_MODELS, None, at.cluster.read(VIRTUAL_MODELS, "ai", "chat"))
        at.controller.on_object(GATEWAY_CONFIGS, None, at.cluster.read(GATEWAY_CONFIGS, "ai", "main"))
        if lacking != "secrets":
            at.secrets.list_now("ai")
        if lacking != "owned":
            at.owned.list_now("ai")
        await asyncio.sleep(600)
        assert at.cluster.writes() == []
        at.cluster.heal()
        await asyncio.sleep(20)
        at.secrets.list_now("ai")
        at.owned.list_now("ai")
        await at.settle()
        assert list(at.served()) == ["chat"]


@virtual
async def test_a_standby_writes_nothing_and_takes_over_at_once() -> None:
    """Its store is warm: the first round runs when leadership comes."""
    async with world() as at:
        at.stand_by()
        at.furnish()
        await asyncio.sleep(600)
        assert at.cluster.writes() == []
        at.lead()
        await asyncio.sleep(0.1)
        assert list(at.served()) == ["chat"]


@virtual
async def test_a_standby_has_judged_every_object_before_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand of them take a second, which an edit would wait for; what was edited meanwhile is judged as it is now."""
    async with world() as at:
        at.stand_by()
        at.furnish(*(model(f"m{number}") for number in range(5)))
        await asyncio.sleep(1)
        at.cluster.change(VIRTUAL_MODELS, "ai", "m3", spec=model("m3", current="big")["spec"])
        await asyncio.sleep(3)
        monkeypatch.delattr(known, "assess_model")
        at.lead()
        await at.settle()
        assert {name: entry["current"] for name, entry in at.served().items()} == {
            "m0": "small", "m1": "small", "m2": "small", "m3": "big", "m4": "small",
        }  # fmt: skip


@virtual
@pytest.mark.parametrize("leads", [True, False])
async def test_objects_are_judged_page_by_page_while_they_are_listed(monkeypatch: pytest.MonkeyPatch, leads: bool) -> None:
    """All at once take a second at ten thousand models, in which nothing else is heard; nothing is written before the end."""
    at, judged = World(FakeCluster(page_size=2)), list[str]()

    def watched(stored: Stored, context: RuleContext) -> ModelAssessment:
        judged.append(stored.name)
        return assess_model(stored, context)

    monkeypatch.setattr(known, "assess_model", watched)
    at.leadership.is_leader, at.deaf = leads, True
    at.furnish(*(model(f"m{number}") for number in range(5)))
    gates = [at.cluster.hang("list", resource=VIRTUAL_MODELS) for _ in range(3)]
    async with world(at):
        for gate, expected in zip(gates, ([], ["m0", "m1"], ["m0", "m1", "m2", "m3"]), strict=True):
            await asyncio.sleep(5)
            assert sorted(judged) == expected
            assert at.cluster.writes() == []
            gate.set()
        await at.settle()
        assert sorted(judged) == ["m0", "m1", "m2", "m3", "m4"], "each is judged once"
        assert len(at.served()) == (5 if leads else 0)


@virtual
async def test_a_fault_with_what_was_listed_stops_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The round that comes after meets it again, or finds nothing wrong; other gateways are served meanwhile."""
    faults = iter([True])

    def broken_once(stored: Stored, context: RuleContext) -> ModelAssessment:
        if next(faults, False):
            raise RuntimeError("a fault of ours")
        return assess_model(stored, context)

    monkeypatch.setattr(known, "assess_model", broken_once)
    at = World(FakeCluster(page_size=2))
    at.deaf = True
    at.furnish(*(model(f"m{number}") for number in range(5)))
    async with world(at):
        await at.settle()
        assert sorted(at.served()) == ["m0", "m1", "m2", "m3", "m4"]
        assert at.controller.rounds["fault"] == 1


@virtual
async def test_a_standby_forgets_a_gateway_that_is_gone() -> None:
    """It may stand by for months, while gateways come and go."""
    async with world() as at:
        at.stand_by()
        at.furnish()
        await asyncio.sleep(5)
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        await asyncio.sleep(5)
        assert at.controller._states == {}


@virtual
async def test_a_new_leader_reads_several_generated_objects_at_a_time() -> None:
    """One after the other they are half a second at 64 shards."""
    async with world() as at:
        at.furnish(model())
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"delivery": {"shards": 8}})
        await at.settle()
        at.stand_by()
        at.cluster.most_in_flight.clear()
        at.lead()
        await at.settle()
        assert 4 <= at.cluster.most_in_flight["get"] <= FETCHES


@virtual
async def test_a_read_that_fails_ends_the_round_and_the_other_reads() -> None:
    """Nothing is concluded from a part of what is live."""
    async with world() as at:
        at.furnish(model())
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"delivery": {"shards": 8}})
        await at.settle()
        at.stand_by()
        writes, left = len(at.cluster.writes()), at.cluster.hang("get", times=3, resource=CONFIG_MAPS)
        at.cluster.fail("get", Unavailable("503"), resource=CONFIG_MAPS)
        at.lead()
        await asyncio.sleep(0.1)
        assert at.controller.rounds["error"] == 1
        left.set()
        await at.settle()
        assert len(at.cluster.writes()) == writes, "what is live is as it should be, and found to be so"


@virtual
async def test_a_new_leader_reads_again_what_the_former_one_wrote() -> None:
    """Both take turns; each keeps what the other served as last good, and none undoes the other's work."""
    async with world() as first, world(World(first.cluster)) as second:
        second.stand_by()
        first.furnish()
        await first.settle()
        first.stand_by()
        second.lead()
        second.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await second.settle()
        assert second.served()["chat"]["current"] == "big"
        second.stand_by()
        first.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="nowhere")["spec"])
        await asyncio.sleep(1)
        first.lead()
        await first.settle()
        assert first.served()["chat"]["current"] == "big", "the last valid version, which the other leader wrote"
        assert first.condition("Programmed") == ("False", "KeptLastGood")


@virtual
async def test_leadership_that_comes_back_without_a_call_is_noticed() -> None:
    """A renewal whose answer was late ends leadership for a moment only; the mark of that moment is not lost."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.leadership.is_leader = False
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(1)
        assert at.served()["chat"]["current"] == "small"
        at.leadership.is_leader = True
        await at.settle()
        assert at.served()["chat"]["current"] == "big"


@virtual
async def test_a_round_that_breaks_does_not_stop_other_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in one gateway's round backs off alone, and heals when the fault is gone."""
    real, broken = planner.plan, {"ai/bad"}

    def plan(snapshot, memo, time):  # type: ignore[no-untyped-def]  # as the real one
        if str(snapshot.key) in broken:
            raise RuntimeError("a fault of ours")
        return real(snapshot, memo, time)

    monkeypatch.setattr(controller_module, "plan", plan)
    async with world() as at:
        at.cluster.make(GATEWAY_CONFIGS, gateway("bad"))
        at.furnish(model(), model("lost", gateway="bad"))
        await asyncio.sleep(300)
        assert list(at.served()) == ["chat"]
        assert 5 < at.controller.rounds["fault"] < 30
        broken.clear()
        await at.settle(60)
        assert list(at.served("bad")) == ["lost"]


@virtual
async def test_a_fault_half_way_through_a_plan_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model had been taken out of what is remembered when the fault came; the next round serves its edit all the same."""
    real = Claims._compete
    armed: list[str] = []

    def compete(self: Claims, *arguments: Any) -> None:
        if armed:
            raise RuntimeError(armed.pop())
        real(self, *arguments)

    monkeypatch.setattr(Claims, "_compete", compete)
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        armed.append("a fault of ours")
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await at.settle()
        assert at.controller.rounds["fault"] == 1
        assert {name: entry["current"] for name, entry in at.served().items()} == {"chat": "big", "other": "small"}
        assert at.cluster.read(VIRTUAL_MODELS, "ai", "chat")["status"]["observedGeneration"] == 2


@virtual
async def test_live_objects_are_remembered_without_their_lists_of_models() -> None:
    """Manifests name every model; what is read once need not be kept, and is read again after a change of leader."""
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        for _ in range(2):
            live = at.controller._states[GatewayKey("ai", "main")].live[CONFIG_MAPS]["main-config"]
            assert live.manifest is not None
            assert not live.manifest.sources
            assert set(at.served()) == {"chat", "other"}
            written = at.cluster.count("replace")
            at.stand_by()
            at.lead()
            await at.settle()
            assert at.cluster.count("replace") == written


@virtual
async def test_an_outage_of_the_api_server_is_survived() -> None:
    """Nothing is removed, requests become rare, and what was edited meanwhile is served soon after."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.fail("*", Unavailable("connection refused"), times=10**6)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        seen = len(at.cluster.calls)
        await asyncio.sleep(3600)
        assert len(at.cluster.calls) - seen < 1000
        assert at.served()["chat"]["current"] == "small"
        at.cluster.heal()
        await asyncio.sleep(60)
        await at.settle()
        assert at.served()["chat"]["current"] == "big"
        assert at.condition("Ready") == ("True", "Ready")


@virtual
async def test_a_conflict_is_looked_at_and_tried_again() -> None:
    """Somebody edited our ConfigMap a moment before: what they did is replaced whole."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.owned.watched.clear()
        at.owned._listed.clear()
        at.cluster.change(CONFIG_MAPS, "ai", "main-config", data={"config.yml": "{}", "mine": "x"})
        at.owned.watched.add("ai")
        at.owned._listed.add("ai")
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await at.settle()
        assert at.controller.rounds["conflict"] == 1
        assert at.served()["chat"]["current"] == "big"
        assert "mine" not in at.cluster.read(CONFIG_MAPS, "ai", "main-config")["data"]


@virtual
async def test_conflicts_that_never_end_do_not_become_a_busy_loop() -> None:
    """A name that can neither be read as ours nor created (a finalizer holds its deletion) is tried ever more slowly."""
    async with world() as at:
        at.cluster.fail("create", Conflict("already exists", status=409), times=10**6, resource=CONFIG_MAPS)
        at.furnish()
        await asyncio.sleep(600)
        assert 5 < at.cluster.count("create", CONFIG_MAPS) < 60


@virtual
@pytest.mark.parametrize("how", ["edited", "deleted", "relabelled", "key added"])
async def test_what_is_done_to_our_objects_by_hand_is_put_right(how: str) -> None:
    """The watch of generated objects tells, and the next round compares."""
    async with world() as at:
        at.furnish()
        await at.settle()
        before = at.cluster.read(CONFIG_MAPS, "ai", "main-config")
        if how == "edited":
            at.cluster.change(CONFIG_MAPS, "ai", "main-config", data={**before["data"], "config.yml": "{}"})
        elif how == "deleted":
            at.cluster.remove(CONFIG_MAPS, "ai", "main-config")
        elif how == "relabelled":
            at.cluster.change(CONFIG_MAPS, "ai", "main-config", metadata={"labels": {}})
        else:
            at.cluster.change(CONFIG_MAPS, "ai", "main-config", data={**before["data"], "mine": "x"})
        await at.settle()
        after = at.cluster.read(CONFIG_MAPS, "ai", "main-config")
        assert after["data"]["config.yml"] == before["data"]["config.yml"]
        assert after["data"].keys() == before["data"].keys()
        assert after["metadata"]["labels"] == before["metadata"]["labels"]


@virtual
async def test_a_name_that_somebody_else_holds_is_looked_at_until_it_is_free() -> None:
    """A ConfigMap without our label is not watched; it is never written, and its deletion is noticed all the same."""
    async with world() as at:
        metadata = {"name": "main-config", "namespace": "ai"}
        foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}
        at.cluster.make(CONFIG_MAPS, foreign)
        at.furnish()
        await asyncio.sleep(60)
        assert at.cluster.read(CONFIG_MAPS, "ai", "main-config")["data"] == {"a": "b"}
        assert at.condition("Programmed", "main", GATEWAY_CONFIGS) == ("False", "NameTaken")
        at.cluster.remove(CONFIG_MAPS, "ai", "main-config")
        await at.settle(20)
        assert list(at.served()) == ["chat"]
        assert at.condition("Programmed", "main", GATEWAY_CONFIGS) == ("True", "Programmed")


@virtual
async def test_a_model_that_moves_leaves_only_when_the_other_gateway_serves_it() -> None:
    """At no moment is it served by nobody."""
    async with world() as at:
        at.cluster.make(GATEWAY_CONFIGS, gateway("other"))
        at.furnish()
        await at.settle()
        held: list[bool] = []
        at.cluster.listeners.append(lambda *_: held.append("chat" in at.served() or "chat" in at.served("other")))
        at.cluster.fail("replace", Unavailable("503"), times=3, resource=CONFIG_MAPS)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(gateway="other")["spec"])
        await at.settle()
        assert (list(at.served()), list(at.served("other"))) == ([], ["chat"])
        assert held
        assert all(held)
        assert at.condition("Ready") == ("True", "Ready")


@virtual
async def test_a_model_moved_to_a_missing_gateway_stays_until_that_one_is_there() -> None:
    """A typing error in gatewayRef takes nothing away; the status says where it is served."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(gateway="other")["spec"])
        await at.settle()
        assert list(at.served()) == ["chat"]
        assert at.condition("Accepted") == ("False", "GatewayNotFound")
        assert at.condition("Programmed") == ("False", "KeptLastGood")
        at.cluster.make(GATEWAY_CONFIGS, gateway("other"))
        await at.settle()
        assert (list(at.served()), list(at.served("other"))) == ([], ["chat"])
        assert at.condition("Accepted") == ("True", "Accepted")


@virtual
async def test_a_model_moved_away_and_deleted_is_gone_everywhere() -> None:
    """Its last good does not outlive the object."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(gateway="other")["spec"])
        await at.settle()
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat")
        await at.settle()
        assert at.served() == {}
        assert GatewayKey("ai", "other") not in at.controller._states, "nothing is remembered of a gateway that nobody names"


@virtual
async def test_a_gateway_made_again_waits_for_the_objects_of_the_former_one() -> None:
    """They belong to another lineage and are being collected; they are neither overwritten nor believed."""
    async with world() as at:
        at.furnish()
        await at.settle()
        former = at.cluster.read(CONFIG_MAPS, "ai", "main-config")
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        at.cluster.make(GATEWAY_CONFIGS, gateway())
        await at.settle()
        assert at.cluster.read(CONFIG_MAPS, "ai", "main-config") == former
        assert at.condition("Programmed", "main", GATEWAY_CONFIGS) == ("False", "Pending")
        at.cluster.collect_garbage()
        await at.settle()
        uid = at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["metadata"]["uid"]
        manifest = json.loads(at.cluster.read(CONFIG_MAPS, "ai", "main-config")["data"]["config.manifest.json"])
        assert (manifest["lineage"], manifest["revision"]) == (uid, 1)
        assert list(at.served()) == ["chat"]


@virtual
async def test_a_gateway_made_again_while_its_inputs_are_read_gets_nothing_of_the_former_one() -> None:
    """The round notices that the lineage changed under it and begins anew."""
    async with world() as at:
        at.secrets.ensure_takes_seconds = 5.0
        at.furnish()
        await asyncio.sleep(1)
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        at.cluster.make(GATEWAY_CONFIGS, gateway())
        await at.settle(30)
        uid = at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["metadata"]["uid"]
        owners = [call.sent["metadata"]["ownerReferences"][0]["uid"] for call in at.cluster.writes() if call.verb == "create"]
        assert set(owners) == {uid}


@virtual
async def test_a_deletion_that_no_watch_told_is_found_within_two_minutes() -> None:
    """Deletions behind a 410: the periodic LIST takes the model out of the documents."""
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        at.cluster.remove(VIRTUAL_MODELS, "ai", "other", silently=True)
        await asyncio.sleep(125)
        assert list(at.served()) == ["chat"]


@virtual
async def test_a_secret_that_rotates_appears_or_vanishes_is_followed() -> None:
    """A new value at once; a vanished one after five seconds; the model stays."""
    async with world() as at:
        at.furnish()
        await at.settle()

        def held() -> dict[str, str]:
            found: dict[str, str] = at.cluster.read(SECRETS, "ai", "main-credentials")["data"]
            return {name: value for name, value in found.items() if name == "keys.proxy"}

        first = held()
        at.cluster.change(SECRETS, "ai", "keys", data=secret(proxy="rotated")["data"])
        await asyncio.sleep(0.1)
        assert held() != first
        rotated = held()
        at.cluster.remove(SECRETS, "ai", "keys")
        await asyncio.sleep(4)
        assert held() == rotated, "controllers delete and recreate Secrets"
        await asyncio.sleep(3)
        assert held() == {}
        assert list(at.served()) == ["chat"]
        assert at.condition("ResolvedRefs") == ("False", "SecretNotFound")
        at.cluster.make(SECRETS, secret())
        await at.settle()
        assert held() == first
        assert at.condition("ResolvedRefs")[0] == "True"


@virtual
async def test_a_namespace_is_followed_only_while_it_holds_a_gateway() -> None:
    """Its Secrets are nobody's business otherwise, and a gateway that goes needs its references no more."""
    async with world() as at:
        at.cluster.make(GATEWAY_CONFIGS, gateway("other"))
        at.furnish()
        await at.settle()
        assert (at.secrets.watched, at.owned.watched) == ({"ai"}, {"ai"})
        assert at.secrets.ensured["ai/main"] == {"keys": {"proxy"}}
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        await at.settle()
        assert at.secrets.ensured["ai/main"] == {}
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "other", silently=True)
        await at.settle(130)
        assert (at.secrets.watched, at.owned.watched) == (set(), set())


@virtual
async def test_documents_that_are_refused_are_told_where_people_look_and_who_is_served_stays() -> None:
    """A quota or a policy that refuses ConfigMaps stood in the log alone, while status said Ready or Pending for ever."""
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        before = at.cluster.read(VIRTUAL_MODELS, "ai", "other")["status"]
        at.cluster.fail("replace", Forbidden("exceeded quota: configmaps", status=403), times=1000, resource=CONFIG_MAPS)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(120)
        status = at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["status"]
        assert status["revision"] == 1, "pods have no other"
        for condition in ("Programmed", "Ready"):
            assert at.condition(condition, "main", GATEWAY_CONFIGS) == ("False", "WriteRefused")
            assert at.condition(condition) == ("False", "WriteRefused")
        assert any("exceeded quota: configmaps" in one["message"] for one in status["conditions"])
        assert at.cluster.read(VIRTUAL_MODELS, "ai", "other")["status"] == before
        assert at.cluster.count("patch_status") <= 3 + 2, "it is told once, not with every try"
        assert [one.reason for one in at.announcer.announced if one.key.name == "main"] == ["WriteRefused"]
        at.cluster.heal()
        await at.settle(120)
        assert at.served()["chat"]["current"] == "big"
        for name, resource in (("main", GATEWAY_CONFIGS), ("chat", VIRTUAL_MODELS)):
            assert at.condition("Ready", name, resource) == ("True", "Ready")


@virtual
async def test_a_new_gateway_whose_documents_are_refused_says_so() -> None:
    """Nothing was served before: neither object may go on waiting for the operator."""
    async with world() as at:
        at.cluster.fail("create", Forbidden("denied by policy", status=403), times=1000, resource=CONFIG_MAPS)
        at.furnish()
        await asyncio.sleep(120)
        assert at.condition("Accepted") == ("True", "Accepted")
        assert at.condition("Ready") == at.condition("Ready", "main", GATEWAY_CONFIGS) == ("False", "WriteRefused")


@virtual
async def test_what_was_said_while_documents_were_refused_is_taken_back_by_the_round_that_succeeds() -> None:
    """An edit that changes no document is refused with its neighbour's; its status is still under way when that is written.

    Nothing that the next round is made from differs for it, and its own status write wakes nobody: `WriteRefused` stayed.
    """
    async with world() as at:
        at.furnish(model(), model("other"))
        await at.settle()
        at.cluster.make(SECRETS, secret("more"))
        gate = at.cluster.hang("patch_status", times=1000, resource=VIRTUAL_MODELS)
        at.cluster.fail("replace", Forbidden("denied by policy", status=403), resource=SECRETS)
        at.cluster.change(VIRTUAL_MODELS, "ai", "other", spec=model("other", modelName="other")["spec"])
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(proxyKeySecretRef={"name": "more", "key": "proxy"})["spec"])
        await asyncio.sleep(5)
        assert at.served()["chat"]["proxy_key_ref"] == "more.proxy"
        refused = [call for call in at.cluster.calls if call.verb == "patch_status" and "WriteRefused" in str(call.sent)]
        assert "other" in [call.name for call in refused], "it is to be told of a refusal first, or this shows nothing"
        gate.set()
        await at.settle(60)
        for name in ("chat", "other"):
            assert at.condition("Programmed", name) == ("True", "Programmed")
            assert at.condition("Ready", name) == ("True", "Ready")


@virtual
async def test_an_old_deletion_takes_no_status_from_the_object_made_again() -> None:
    """The watch tells of the former object after our LIST has brought the one that was made since."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.deaf = True
        gone = at.cluster.read(VIRTUAL_MODELS, "ai", "chat")
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat", silently=True)
        at.cluster.make(VIRTUAL_MODELS, model())
        made = at.cluster.read(VIRTUAL_MODELS, "ai", "chat")
        at.cluster.fail("patch_status", Unavailable("away"), resource=VIRTUAL_MODELS)
        at.controller.on_object(VIRTUAL_MODELS, "ADDED", made)
        await asyncio.sleep(0.2)
        at.controller.on_object(VIRTUAL_MODELS, "DELETED", gone)
        await at.settle(60)
        assert at.condition("Ready") == ("True", "Ready")


@virtual
async def test_what_landed_before_a_failure_is_the_last_good() -> None:
    """The document was written although its answer was lost: an invalid edit right after keeps that version."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.fail("replace", Unavailable("cut off"), resource=CONFIG_MAPS, after=True)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(0.01)
        assert at.served()["chat"]["current"] == "big"
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="nowhere")["spec"])
        await at.settle()
        assert at.served()["chat"]["current"] == "big"


@virtual
async def test_a_label_taken_away_during_a_restart_does_not_lose_the_last_good() -> None:
    """The document is not found by its label; it is read when its creation conflicts, and what it served stays served."""
    async with world() as at:
        at.furnish()
        await at.settle()
    at.cluster.change(CONFIG_MAPS, "ai", "main-config", metadata={"labels": {}})
    at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="nowhere")["spec"])
    async with world(World(at.cluster)) as again:
        await again.settle()
        assert again.served()["chat"]["current"] == "small"
        assert again.cluster.read(CONFIG_MAPS, "ai", "main-config")["metadata"]["labels"]


@virtual
async def test_a_burst_costs_few_writes() -> None:
    """A hundred models in a second: a handful of ConfigMap writes, one status each."""
    async with world() as at:
        at.furnish(model("m"))
        await at.settle()
        at.cluster.calls.clear()
        for number in range(100):
            at.cluster.make(VIRTUAL_MODELS, model(f"m{number}"))
            await asyncio.sleep(0.01)
        await at.settle()
        assert len(at.served()) == 101
        assert at.cluster.count("replace", CONFIG_MAPS) <= 4
        assert at.cluster.count("patch_status", VIRTUAL_MODELS) == 100
        assert at.cluster.count("get") == 0, "what we wrote ourselves is not read again"


@virtual
@pytest.mark.parametrize("edited", [False, True])
async def test_in_a_stream_of_creates_rounds_rest_unless_something_served_is_edited(edited: bool) -> None:
    """Writing took long, so what is new waits for more of it; an edit of what is served waits for a second, as ever."""
    async with world() as at:
        at.furnish()
        await at.settle()
        gate = at.cluster.hang("replace", resource=CONFIG_MAPS)
        at.cluster.make(VIRTUAL_MODELS, model("first"))
        began = changed = now()
        asyncio.get_running_loop().call_later(1.0, gate.set)
        await asyncio.sleep(0.01)
        for number in range(1000):
            at.cluster.make(VIRTUAL_MODELS, model(f"m{number}"))
            await asyncio.sleep(0.005)
            if number == 250 and edited:
                at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
                changed = now()
            if "m0" in at.served():
                break
        seconds = now() - began
        assert seconds == pytest.approx(changed - began + MAX_DELAY_SECONDS if edited else 1.0 + MAX_REST_SECONDS, abs=0.02)
        assert at.served()["chat"]["current"] == ("big" if edited else "small")


@virtual
async def test_an_object_made_again_while_its_status_is_written_gets_a_round() -> None:
    """Its event comes while the former one's status is under way and must not be taken for our own."""
    async with world() as at:
        at.furnish()
        gate = at.cluster.hang("patch_status", resource=VIRTUAL_MODELS, after=True)
        await asyncio.sleep(1)
        at.cluster.remove(VIRTUAL_MODELS, "ai", "chat", silently=True)
        at.cluster.make(VIRTUAL_MODELS, model(current="big"))
        await asyncio.sleep(1)
        assert at.served()["chat"]["current"] == "big", "it does not wait for that answer"
        gate.set()
        await at.settle()
        assert at.condition("Ready") == ("True", "Ready")


@virtual
async def test_an_event_of_one_namespace_concerns_no_other() -> None:
    """Secrets, generated objects and moves are looked at by namespace, not by name alone."""
    async with world() as at:
        at.cluster.make(SECRETS, secret(namespace="other"))
        at.cluster.make(GATEWAY_CONFIGS, gateway(namespace="other"))
        at.cluster.make(VIRTUAL_MODELS, model(namespace="other"))
        at.furnish()
        await at.settle()
        rounds = at.controller.rounds.total()
        at.controller.on_secret("third", "keys")
        at.controller.on_secret("ai", "unreferenced")
        at.controller.on_owned(CONFIG_MAPS, "ai", "somebody-elses", "99999")
        at.controller.on_owned(CONFIG_MAPS, "third", "main-config", "99999")
        version = at.cluster.read(CONFIG_MAPS, "ai", "main-config")["metadata"]["resourceVersion"]
        at.controller.on_owned(CONFIG_MAPS, "ai", "main-config", version)
        at.controller.on_namespace_listed("third")
        await at.settle()
        assert at.controller.rounds.total() == rounds
        at.controller.on_secret("other", "keys")
        await at.settle()
        assert at.controller.rounds.total() == rounds + 1


@virtual
async def test_a_leader_that_changes_while_inputs_are_read_begins_anew() -> None:
    """What was read for the former leadership is not mixed with what is read for the new one."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.make(SECRETS, secret("more"))
        at.secrets.ensure_takes_seconds = 5.0
        changed = model(current="big", proxyKeySecretRef={"name": "more", "key": "proxy"})
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=changed["spec"])
        await asyncio.sleep(1)
        at.stand_by()
        at.lead()
        await at.settle(20)
        assert at.controller.rounds["conflict"] == 1
        assert at.cluster.count("create") == 2, "one Secret and one ConfigMap, at the beginning: nothing was taken for missing"
        assert at.served()["chat"]["current"] == "big"


@virtual
async def test_a_gateway_is_told_of_a_model_that_another_one_keeps_for_it() -> None:
    """The one named has its round first and knows nothing of it; the status is put right when the other has had its own."""
    async with world() as at:
        at.furnish()
        await at.settle()
        at.cluster.make(SECRETS, secret("more"))
        at.secrets.ensure_takes_seconds = 5.0
        at.cluster.make(VIRTUAL_MODELS, model("busy", proxyKeySecretRef={"name": "more", "key": "proxy"}))
        await asyncio.sleep(1)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(gateway="other")["spec"])
        await asyncio.sleep(1)
        assert at.condition("Programmed") == ("False", "Pending")
        await at.settle(20)
        assert at.condition("Programmed") == ("False", "KeptLastGood")
        assert sorted(at.served()) == ["busy", "chat"]
