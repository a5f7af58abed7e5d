"""The whole controller with pods in memory: from an edit to Propagated, and what it costs in writes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aigateway_config.documents import DocumentState
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS
from aigateway_operator.rollout.answers import Answered, Silent
from tests.fake_pods import answer_of
from tests.unit.reconcile.objects import gateway, model, secret
from tests.unit.reconcile.world import World, resource_of, world
from tests.virtual_time import virtual

DELIVERY = {"podSelector": {"matchLabels": {"app": "gateway"}}}


def furnish(at: World, pods: int = 3, **delivery: Any) -> None:
    """Make a gateway that selects pods, a model, and pods that run nothing yet."""
    at.cluster.make(resource_of(secret()), secret())
    at.cluster.make(GATEWAY_CONFIGS, gateway(delivery={**DELIVERY, **delivery}))
    at.cluster.make(VIRTUAL_MODELS, model())
    for number in range(pods):
        at.fleet.put(f"gateway-{number}")


async def follow(at: World) -> None:
    """Let pods that are synced run what is proved next: the fake's mount is what the controller told last."""
    tracked = at.rollouts.set_target

    def set_target(key: Any, target: Any, delivery: Any, *, written: bool) -> None:
        writes = [
            call for call in at.cluster.calls if call.resource in (CONFIG_MAPS, SECRETS) and call.verb in ("create", "replace")
        ]
        assert writes or not written
        at.fleet.mounted = target
        tracked(key, target, delivery, written=written)

    at.rollouts.set_target = set_target  # type: ignore[method-assign]  # listens, and passes on


def status(at: World) -> dict[str, Any]:
    """Return the status of the gateway."""
    found: dict[str, Any] = at.cluster.read(GATEWAY_CONFIGS, "ai", "main").get("status") or {}
    return found


def propagated(at: World) -> tuple[str, str]:
    """Return status and reason of Propagated."""
    return at.condition("Propagated", "main", GATEWAY_CONFIGS)


def status_writes(at: World, since: int) -> int:
    """Count writes of the gateway's status since a number of requests."""
    return sum(call.verb == "patch_status" and call.resource == GATEWAY_CONFIGS for call in at.cluster.calls[since:])


def edit(at: World, **spec: Any) -> None:
    """Edit the model."""
    at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec={**model()["spec"], **spec})


@virtual
async def test_edit_costs_two_statuses_of_the_gateway_and_is_told_at_once() -> None:
    """Progressing, then Propagated a quarter of a second later, although the interval between two statuses is a second."""
    async with world() as at:
        await follow(at)
        furnish(at)
        await at.settle()
        assert propagated(at) == ("True", "Propagated")
        before = len(at.cluster.calls)
        edit(at, current="big")
        await asyncio.sleep(0.4)
        assert propagated(at) == ("True", "Propagated")
        assert status(at)["rollout"]["revision"] == status(at)["revision"] == 2
        assert status(at)["pods"] == "3/3"
        await at.settle(200)
        assert status_writes(at, before) == 2
        assert at.announcer.announced == []
        before = len(at.cluster.calls)
        await at.settle(600)
        assert len([call for call in at.cluster.calls[before:] if call.verb not in {"get", "list"}]) == 0


@virtual
async def test_stragglers_and_their_recovery_are_announced_once_each() -> None:
    """Progress is no event; a second edit while a pod is still behind does not tell it again."""
    async with world() as at:
        await follow(at)
        furnish(at)
        await at.settle()
        at.fleet.frozen.add("gateway-1")
        edit(at, current="big")
        await at.settle(10)
        assert propagated(at) == ("False", "Stragglers")
        assert at.condition("Ready", "main", GATEWAY_CONFIGS)[0] == "True"
        edit(at, use=False)
        await at.settle(10)
        assert [(told.warning, told.reason) for told in at.announcer.announced] == [(True, "Stragglers")]
        at.fleet.frozen.clear()
        at.fleet.runs["gateway-1"] = at.fleet.mounted
        await at.settle(10)
        assert propagated(at) == ("True", "Propagated")
        assert [(told.warning, told.reason) for told in at.announcer.announced] == [(True, "Stragglers"), (False, "Propagated")]
        at.fleet.outcomes = {f"gateway-{number}": Silent("accepts no connection on port 8081") for number in range(3)}
        edit(at)
        await at.settle(10)
        assert at.announcer.announced[-1].reason == "Unreachable"


@virtual
async def test_key_that_nobody_needs_goes_once_all_pods_run_the_new_documents() -> None:
    """Not two minutes later, and Propagated stays True meanwhile."""
    async with world() as at:
        await follow(at)
        at.cluster.make(SECRETS, secret("own", key="x"))
        furnish(at)
        backends = model()["spec"]["backends"]
        edit(at, backends=[*backends, {"name": "own", "model": "m", "apiKeySecretRef": {"name": "own", "key": "key"}}])
        await at.settle()
        assert "own.key" in at.cluster.read(SECRETS, "ai", "main-credentials")["data"]
        seen: list[tuple[bool, str]] = []
        edit(at)
        for _ in range(40):
            await asyncio.sleep(0.1)
            gone = "own.key" not in at.cluster.read(SECRETS, "ai", "main-credentials")["data"]
            seen.append((gone, propagated(at)[0]))
        await at.settle()
        assert seen[-1] == (True, "True")
        assert all(said == "True" for gone, said in seen if gone), "the claim was withdrawn while a key was taken away"
        assert status(at)["rollout"]["credentialsRevision"] == 2


@virtual
async def test_lost_leadership_ends_asking_and_regained_leadership_writes_nothing() -> None:
    """A standby neither asks nor pokes; who leads again finds the status true."""
    async with world() as at:
        await follow(at)
        furnish(at)
        await at.settle()
        at.stand_by()
        asked, pokes = len(at.fleet.asked), len(at.fleet.pokes)
        await asyncio.sleep(200)
        assert (len(at.fleet.asked), len(at.fleet.pokes)) == (asked, pokes)
        before = len(at.cluster.calls)
        at.lead()
        await at.settle(20)
        assert len(at.fleet.asked) > asked
        assert len(at.fleet.pokes) == pokes
        assert [call for call in at.cluster.calls[before:] if call.verb not in {"get", "list"}] == []
        assert propagated(at) == ("True", "Propagated")


@virtual
async def test_gateway_that_goes_or_stops_selecting_is_asked_no_more() -> None:
    """The watch of its pods ends with it."""
    async with world() as at:
        await follow(at)
        furnish(at)
        await at.settle()
        assert at.fleet.following == 1
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={})
        await at.settle()
        assert at.fleet.following == 0
        assert propagated(at) == ("Unknown", "NoSelector")
        assert "rollout" not in status(at)
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec={"delivery": DELIVERY})
        await at.settle()
        assert at.fleet.following == 1
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        await at.settle()
        assert at.fleet.following == 0


def revision(at: World) -> int:
    """Return the revision of the document that is live."""
    data = at.cluster.read(CONFIG_MAPS, "ai", "main-config")["data"]
    found: int = json.loads(data["config.manifest.json"])["revision"]
    return found


def claim(at: World, pod: str, by: int) -> None:
    """Let a pod claim a revision of config.yml that is `by` above what is live."""
    assert at.fleet.mounted is not None
    said = DocumentState(revision=revision(at) + by, digest="f" * 64)
    at.fleet.outcomes[pod] = Answered(answer_of(at.fleet.mounted, documents={"config.yml": said}))


@virtual
async def test_pod_that_knows_higher_numbers_gets_documents_under_a_higher_one_at_once() -> None:
    """Nobody has to edit anything after ConfigMaps and status were lost and written anew."""
    async with world() as at:
        await follow(at)
        furnish(at)
        at.lead()
        await at.settle()
        claim(at, "gateway-1", by=30)
        at.fleet.put("gateway-1", ready=False)
        await asyncio.sleep(0.1)
        at.fleet.put("gateway-1", ready=True)
        await asyncio.sleep(0.5)
        assert revision(at) == 32
        at.fleet.outcomes.clear()
        await at.settle()
        assert propagated(at) == ("True", "Propagated")
        assert status(at)["rollout"]["revision"] == 32


@virtual
async def test_pod_that_always_claims_one_more_costs_few_writes() -> None:
    """Numbers move at once, then after one minute, two, four …: a lie must not drive the operator."""
    async with world() as at:
        await follow(at)
        furnish(at)
        at.lead()
        await at.settle()
        before, moves = len(at.cluster.calls), []
        for _ in range(3600):
            claim(at, "gateway-1", by=1)
            was = revision(at)
            at.fleet.tell()
            await asyncio.sleep(1)
            moves += [revision(at)] if revision(at) != was else []
        assert 4 <= len(moves) <= 7, moves
        assert propagated(at) == ("False", "Stragglers")
        assert "gateway-1" in status(at)["rollout"]["stragglers"]
        assert status_writes(at, before) <= 3 * len(moves) + 2
