"""What pods are to prove, what the status says of it, and what follows from a proof: plan/propagation.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.proof import Phase, Proof, Target
from aigateway_operator.plan.result import Plan, StatusWrite
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model, make_world

DELIVERY = {"podSelector": {"matchLabels": {"app": "gateway"}}}
GATEWAY = "gateway/main"


def selected(*manifests: Any, **spec: Any) -> World:
    """Return a settled world whose gateway selects pods."""
    return make_world(*(manifests or (make_virtual_model(),)), delivery=DELIVERY, **spec)


def target_of(made: Plan) -> Target:
    """Return the target of a plan that has one."""
    assert made.target is not None
    return made.target


def all_run(target: Target, pods: int = 3, **parts: Any) -> Proof:
    """Return the proof that all pods run a target."""
    return Proof(target, desired=pods, updated=pods, **{"last_duration_milliseconds": 120, **parts})


def some_do_not(target: Target, *, silent: bool = False, names: tuple[str, ...] = ("gateway-2",), **parts: Any) -> Proof:
    """Return the proof that some pods do not."""
    who: dict[str, Any] = {"unreachable": names, "unknown": len(names)} if silent else {"stragglers": names}
    reasons = dict.fromkeys(names, "runs revision 1 of config.yml, not 2")
    return Proof(target, **{"desired": 3, "updated": 3 - len(names), "reasons": reasons, **who, **parts})


def status(world: World) -> StatusWrite:
    """Return the status of the gateway as last written."""
    return world.statuses[GATEWAY]


def said(world: World) -> tuple[str, str, Any]:
    """Return status, reason, and the pods' figure."""
    return *world.verdict(GATEWAY, "Propagated"), status(world).fields.get("pods")


def test_target_names_every_document_and_credentials_manifest_with_what_is_written() -> None:
    """A pod is asked for exactly what the manifests say, over all shards."""
    world = make_world(make_virtual_model(), make_virtual_model("other"), delivery={**DELIVERY, "shards": 2})
    target = target_of(world.plan())
    manifests = {"config.yml": world.manifest(), "models-00.yml": world.manifest(0), "models-01.yml": world.manifest(1)}
    assert target.documents == {file: (found["revision"], found["sha256"]) for file, found in manifests.items()}
    assert target.credentials == {
        "_manifest.json": world.credentials_manifest()["credentialsRevision"],
        "_manifest-00.json": world.credentials_manifest(0)["credentialsRevision"],
        "_manifest-01.json": world.credentials_manifest(1)["credentialsRevision"],
    }
    assert world.gateway is not None
    assert target.lineage == world.gateway.uid
    assert target.revision == max(revision for revision, _ in target.documents.values())
    assert target.credentials_revision == max(target.credentials.values())


def test_target_of_a_round_that_writes_is_what_will_be_live() -> None:
    """The rollout is told after the writes; the next round must not tell it anything else."""
    world = selected()
    world.apply(make_virtual_model(current="big"))
    written = target_of(world.round())
    assert written == target_of(world.plan())
    assert written.revision == 2


def test_no_target_without_documents_or_for_a_gateway_that_goes() -> None:
    """Nobody is asked what he runs when there is nothing to run."""
    world = World()
    world.apply(make_gateway_config(app={"port": 0}, delivery=DELIVERY))
    assert world.round().target is None
    assert said(world) == ("Unknown", "NotAsked", None)
    world = selected()
    world.apply(make_gateway_config(delivery=DELIVERY), deleting=True)
    assert world.round().target is None


def test_no_target_when_the_name_of_the_only_document_is_taken() -> None:
    """Pods cannot get what is not written."""
    world = World()
    world.objects.put("ConfigMap", "main-config", {"a": b"b"})
    world.apply(make_gateway_config(delivery=DELIVERY))
    assert world.round().target is None
    assert said(world)[:2] == ("Unknown", "NotAsked")


def test_document_that_is_blocked_is_not_asked_for() -> None:
    """With one of three documents taken by somebody else the others are still proved."""
    world = World()
    world.objects.put("ConfigMap", "main-models-01", {"a": b"b"})
    world.apply(make_gateway_config(delivery={**DELIVERY, "shards": 2}))
    target = target_of(world.round())
    assert set(target.documents) == {"config.yml", "models-00.yml"}
    assert set(target.credentials) == {"_manifest.json", "_manifest-00.json"}


def test_new_documents_say_progressing_whatever_was_proved_before() -> None:
    """Status never claims a revision that no pod was asked about; how many pods there are is known already."""
    world = selected()
    world.proof = all_run(target_of(world.plan()))
    world.round()
    assert said(world) == ("True", "Propagated", "3/3")
    world.apply(make_virtual_model(current="big"))
    world.round()
    assert said(world) == ("Unknown", "Progressing", "0/3")
    assert status(world).fields["rollout"] == {
        "revision": 2,
        "credentialsRevision": 1,
        "desired": 3,
        "updated": 0,
        "unknown": 0,
    }
    assert not status(world).urgent


def test_proof_of_this_very_target_makes_propagated_true_and_is_urgent_once() -> None:
    """People wait for it; a second round with the same proof is no hurry."""
    world = selected()
    world.proof = all_run(target_of(world.plan()), restart_required=("app.port",))
    world.round()
    assert status(world).urgent
    assert world.condition(GATEWAY, "Propagated").message == "All 3 ready pods run this revision."
    assert status(world).fields["rollout"] == {
        "revision": 1,
        "credentialsRevision": 1,
        "desired": 3,
        "updated": 3,
        "unknown": 0,
        "restartRequired": ["app.port"],
        "lastDurationMilliseconds": 120,
    }
    first = status(world)
    world.round()
    assert status(world) == replace(first, urgent=False)
    assert world.verdict(GATEWAY, "Ready") == ("True", "Ready")
    world.proof = all_run(target_of(world.plan()), pods=1)
    world.round()
    assert world.condition(GATEWAY, "Propagated").message == "The one ready pod runs this revision."


@pytest.mark.parametrize("part", ["lineage", "documents", "credentials", "revision"])
def test_proof_of_any_other_target_is_not_believed(part: str) -> None:
    """Equal numbers with another digest, lineage or credentials are another target."""
    world = selected()
    target = target_of(world.plan())
    other: dict[str, Any] = {
        "lineage": "another",
        "documents": {"config.yml": (1, "f" * 64)},
        "credentials": {"_manifest.json": 7},
        "revision": 9,
    }
    world.proof = all_run(replace(target, **{part: other[part]}))
    world.round()
    assert said(world)[:2] == ("Unknown", "Progressing")


def test_stragglers_and_unreachable_pods_are_named_with_the_remedy() -> None:
    """At most five names; what is known to differ weighs more than what is not known."""
    world = selected()
    target = target_of(world.plan())
    names = tuple(f"gateway-{number}" for number in range(7))
    world.proof = some_do_not(target, names=names, desired=9, updated=2)
    world.round()
    assert said(world) == ("False", "Stragglers", "2/9")
    assert status(world).fields["rollout"]["stragglers"] == list(names[:5])
    message = world.condition(GATEWAY, "Propagated").message
    assert "gateway-0 runs revision 1 of config.yml, not 2; " in message
    assert "; and 2 more" in message
    world.proof = some_do_not(target, silent=True)
    world.round()
    assert said(world) == ("Unknown", "Unreachable", "2/3")
    message = world.condition(GATEWAY, "Propagated").message
    assert all(word in message for word in ("gateway-2", "NetworkPolicy", "mesh", "hostNetwork", "statusPort"))
    assert status(world).fields["rollout"] | {"stragglers": ["gateway-2"], "unknown": 1} == status(world).fields["rollout"]
    assert world.verdict(GATEWAY, "Ready") == ("True", "Ready")


def test_without_pods_that_are_ready_nothing_is_proved() -> None:
    """An empty set proves nothing."""
    world = selected()
    world.proof = Proof(target_of(world.plan()), desired=0, updated=0)
    world.round()
    assert said(world) == ("Unknown", "NoPods", "0/0")


def test_one_pod_that_says_otherwise_ends_propagated_at_once() -> None:
    """While time is given the claim is withdrawn, and nothing is named yet."""
    world = selected()
    target = target_of(world.plan())
    world.proof = all_run(target)
    world.round()
    world.proof = some_do_not(target, phase=Phase.PROGRESSING)
    world.round()
    assert said(world)[:2] == ("Unknown", "Progressing")


def test_nothing_is_written_while_pods_are_given_their_time() -> None:
    """Partial counts are not told: one status when it begins, one when it ends."""
    world = selected()
    target = target_of(world.plan())
    world.proof = some_do_not(target)
    world.round()
    before = status(world)
    world.proof = some_do_not(target, phase=Phase.PROGRESSING, names=("gateway-1", "gateway-3"))
    world.round()
    assert status(world) == before


def test_after_a_restart_the_status_stays_as_it_is_until_pods_are_asked() -> None:
    """No write on a restart, whether pods matched, were behind, out of reach or absent; the duration stays too."""
    world = selected()
    target = target_of(world.plan())
    proofs = (all_run(target), some_do_not(target), some_do_not(target, silent=True), Proof(target, desired=0, updated=0))
    for proof in proofs:
        world.proof = proof
        world.round()
        before = replace(status(world), urgent=False)
        world.restart()
        world.proof = None
        world.round()
        assert status(world) == before
        world.proof = replace(proof, last_duration_milliseconds=None)
        world.round()
        assert status(world) == before


def test_what_status_says_of_another_revision_is_not_kept_after_a_restart() -> None:
    """A crash between write and status must not leave Propagated=True for what no pod was asked about."""
    world = selected()
    world.proof = all_run(target_of(world.plan()))
    world.round()
    world.apply(make_virtual_model(current="big"))
    kept = world.gateway
    world.round()
    world.gateway = kept  # the status was never written
    world.restart()
    world.proof = None
    world.round()
    assert said(world) == ("Unknown", "Progressing", None)
    assert status(world).fields["rollout"] == {"revision": 2, "credentialsRevision": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"rollout": "nonsense"},
        {"rollout": {"revision": 1, "credentialsRevision": 1}},
        {"rollout": {"revision": 1, "credentialsRevision": 1}, "conditions": [{"type": "Ready", "reason": "Ready"}]},
        {
            "rollout": {"revision": 1, "credentialsRevision": 1},
            "conditions": [{"type": "Propagated", "status": "Unknown", "reason": "NoSelector", "message": "none"}],
        },
    ],
)
def test_status_of_another_shape_is_not_kept(told: dict[str, Any]) -> None:
    """What was not found out by asking is no reason to say anything."""
    world = selected()
    assert world.gateway is not None
    world.gateway = replace(world.gateway, status=pack(orjson.dumps(told)))
    world.round()
    assert said(world) == ("Unknown", "Progressing", None)


def test_gateway_that_became_invalid_keeps_what_was_proved() -> None:
    """Its last good documents are live and pods run them; after a restart, when nobody knows the selector, status is kept."""
    world = selected()
    world.proof = all_run(target_of(world.plan()))
    world.round()
    world.apply(make_gateway_config(app={"port": 0}, delivery=DELIVERY))
    made = world.round()
    assert made.delivery is None
    assert said(world) == ("True", "Propagated", "3/3")
    world.proof = None
    world.round()
    assert said(world) == ("True", "Propagated", "3/3")
    assert world.gateway is not None
    world.gateway = replace(world.gateway, status=pack(b"{}"))
    world.round()
    assert said(world) == ("Unknown", "NotAsked", None)


def test_rotated_secret_is_another_target() -> None:
    """The document is the same; the credentials revision has to be proved all the same."""
    world = selected()
    before = target_of(world.plan())
    world.proof = all_run(before)
    world.round()
    world.secrets["openai"] = make_secret_state(api_key="rotated")
    target = target_of(world.round())
    assert (target.revision, target.credentials_revision) == (before.revision, before.credentials_revision + 1)
    assert not target.housekeeping
    assert said(world) == ("Unknown", "Progressing", "0/3")


def dropped() -> tuple[World, Target]:
    """Return a world in which a backend with a key of its own was removed, and the target of that."""
    own = make_backend("own", apiKeySecretRef={"name": "own", "key": "key"})
    world = World()
    world.secrets = {
        "chat-keys": make_secret_state(proxy="caller"),
        "openai": make_secret_state(api_key="backend"),
        "own": make_secret_state(key="x"),
    }
    spec = make_virtual_model()["spec"]
    world.apply(make_gateway_config(delivery=DELIVERY), make_virtual_model(backends=[*spec["backends"], own]))
    world.settle()
    world.proof = all_run(target_of(world.plan()))
    world.round()
    world.apply(make_virtual_model())
    target = target_of(world.round())
    assert "own.key" in world.credentials()
    return world, target


def test_key_goes_as_soon_as_every_running_pod_has_proved_that_it_needs_it_no_more() -> None:
    """Not before, and without the status claiming less meanwhile: what pods prove is as true as it was."""
    world, target = dropped()
    world.round()
    assert "own.key" in world.credentials(), "it went before any pod proved the new documents"
    world.proof = all_run(target)
    made = world.round()
    assert "own.key" not in world.credentials()
    after = target_of(made)
    assert after.housekeeping
    assert (after.documents, after.credentials_revision) == (target.documents, target.credentials_revision + 1)
    assert said(world) == ("True", "Propagated", "3/3")
    assert status(world).fields["rollout"]["credentialsRevision"] == target.credentials_revision
    world.proof = replace(world.proof, stands_for=after)
    assert world.round().writes == ()
    assert said(world) == ("True", "Propagated", "3/3")
    world.proof = all_run(after)
    world.round()
    assert status(world).fields["rollout"]["credentialsRevision"] == after.credentials_revision


@pytest.mark.parametrize(
    "parts",
    [
        {"everyone": False},
        {"updated": 2, "stragglers": ("gateway-2",), "reasons": {"gateway-2": "x"}},
        {"desired": 0, "updated": 0},
    ],
    ids=["a running pod is not ready", "a pod is behind", "no pods"],
)
def test_key_stays_while_any_running_pod_may_still_use_it(parts: dict[str, Any]) -> None:
    """The two minutes hold then."""
    world, target = dropped()
    world.proof = replace(all_run(target), **parts)
    world.round()
    assert "own.key" in world.credentials()
    world.now += 121
    assert target_of(world.round()).housekeeping
    assert "own.key" not in world.credentials()
    # A claim stands while keys are taken away; what was no claim does not speak of the new target.
    assert said(world)[:2] == (("True", "Propagated") if world.proof.complete else ("Unknown", "Progressing"))


def test_key_stays_when_the_proof_is_of_other_documents() -> None:
    """An edit on top of the removal: what pods have proved is not what they are about to run."""
    world, target = dropped()
    world.apply(make_virtual_model(current="big"))
    world.proof = all_run(target)
    world.round()
    assert "own.key" in world.credentials()
    world.objects.edit("ConfigMap", "main-config")["data"]["config.yml"] = "{}"
    world.proof = all_run(target_of(world.plan()))
    world.round()
    assert "own.key" in world.credentials()


def test_drop_together_with_a_new_value_is_not_housekeeping() -> None:
    """The new value has to be proved, so the claim is withdrawn."""
    world, target = dropped()
    world.proof = all_run(target)
    world.secrets["openai"] = make_secret_state(api_key="rotated")
    made = world.round()
    assert "own.key" not in world.credentials()
    assert not target_of(made).housekeeping
    assert said(world)[:2] == ("Unknown", "Progressing")


def test_drop_together_with_a_secret_that_vanished_is_not_housekeeping() -> None:
    """Pods have to take up that a key is missing."""
    world, target = dropped()
    world.proof = all_run(target)
    world.secrets["openai"] = replace(make_secret_state(), values={}, gone_since=world.now - 60)
    assert not target_of(world.round()).housekeeping


def test_watch_of_pods_that_fails_is_unreachable_with_its_remedy() -> None:
    """Numbers of pods that nobody can count any more are not told; Ready is untouched."""
    world = selected()
    target = target_of(world.plan())
    world.proof = all_run(target)
    world.round()
    world.proof = all_run(target, blind="the operator may not list and watch them; give it the verbs")
    assert not world.proof.complete
    world.round()
    assert said(world) == ("Unknown", "Unreachable", None)
    assert "not known which pods there are: the operator may not" in world.condition(GATEWAY, "Propagated").message
    assert world.verdict(GATEWAY, "Ready")[0] == "True"
    assert set(status(world).fields["rollout"]) == {"revision", "credentialsRevision"}


def test_numbers_go_beyond_what_pods_report() -> None:
    """Pods never go back within a lineage: after both ConfigMaps and status were lost a lower number would be ignored."""
    world = selected()
    world.proof = some_do_not(target_of(world.plan()), highest_revision=40, highest_credentials_revision=50)
    world.secrets["openai"] = make_secret_state(api_key="rotated")
    world.apply(make_virtual_model(current="big"))
    target = target_of(world.round())
    assert (target.revision, target.credentials_revision) == (41, 51)
