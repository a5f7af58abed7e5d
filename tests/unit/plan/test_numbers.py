"""Numbers move beyond what pods claim, so that a pod which can never take up ours mends: plan/numbers.py."""

from __future__ import annotations

from dataclasses import replace

from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.proof import Proof, Target
from aigateway_operator.plan.result import Plan
from tests.builders import World, make_secret_state, make_virtual_model, make_world

DELIVERY = {"podSelector": {"matchLabels": {"app": "gateway"}}}


def selected(**delivery: int) -> World:
    """Return a settled world whose gateway selects pods."""
    return make_world(make_virtual_model(), delivery={**DELIVERY, **delivery})


def target_of(made: Plan) -> Target:
    """Return the target of a plan that has one."""
    assert made.target is not None
    return made.target


def claimed(world: World, *files: str, revision: int = 40, credentials: int = 0) -> Proof:
    """Return the proof of one pod that claims higher numbers of files than are live."""
    return Proof(
        target_of(world.plan()),
        desired=1,
        updated=0,
        stragglers=("gateway-0",),
        reasons={"gateway-0": "claims revision 40"},
        ahead=files,
        highest_revision=revision,
        highest_credentials_revision=credentials,
    )


def test_document_that_a_pod_claims_a_higher_number_of_is_written_again_under_a_higher_one() -> None:
    """ConfigMaps and status were lost and written anew from 1: the pod would ignore us until the fortieth edit."""
    world = selected()
    world.proof = claimed(world, "config.yml")
    made = world.round()
    assert [write.name for write in made.writes] == ["main-config"]
    assert world.manifest()["revision"] == 41
    assert (target_of(made).revision, target_of(made).repeats, made.renumbered) == (41, True, True)
    assert world.entries()["chat"]["current"] == "small", "the content stays"
    assert world.round().writes == (), "what was asked about is not what is live any more"


def test_only_what_is_claimed_moves() -> None:
    """Of many shards one may be ahead; the others are left alone."""
    world = selected(shards=2)
    world.proof = claimed(world, "models-01.yml")
    world.round()
    assert (world.manifest()["revision"], world.manifest(0)["revision"], world.manifest(1)["revision"]) == (1, 1, 41)


def test_credentials_move_too() -> None:
    """Readers never take up a lower revision of a Secret either."""
    world = selected()
    world.proof = claimed(world, "_manifest.json", revision=0, credentials=7)
    made = world.round()
    assert [write.name for write in made.writes] == ["main-credentials"]
    assert world.credentials_manifest()["credentialsRevision"] == 8
    assert world.credentials()["openai.api-key"] == b"backend"
    assert not target_of(made).housekeeping
    assert world.round().writes == ()


def test_claim_about_what_is_not_live_any_more_moves_nothing() -> None:
    """The pod answered about an older target: a write of ours lies between."""
    world = selected()
    proof = claimed(world, "config.yml")
    world.apply(make_virtual_model(current="big"))
    world.round()
    world.proof = proof
    assert world.round().writes == ()


def test_claim_about_another_lineage_moves_nothing() -> None:
    """A GatewayConfig that was made anew counts for itself."""
    world = selected()
    proof = claimed(world, "config.yml")
    world.proof = replace(proof, target=replace(proof.target, lineage="another"))
    assert world.round().writes == ()


def test_numbers_wait_for_their_pause() -> None:
    """A pod that always claims one more must not make the operator write for ever."""
    world = selected()
    world.proof = claimed(world, "config.yml")
    made = plan(replace(world.snapshot(), renumber_after_seconds=42.0), world.memo, world.now)
    assert (made.writes, made.renumbered, made.wake_after_seconds) == ((), False, 42.0)


def test_change_that_comes_with_it_is_no_repetition() -> None:
    """Pods get their full time when there is something new to take up."""
    world = selected()
    world.proof = claimed(world, "config.yml")
    world.secrets["openai"] = make_secret_state(api_key="rotated")
    made = world.round()
    assert {write.name for write in made.writes} == {"main-config", "main-credentials"}
    assert not target_of(made).repeats
