"""Who is served under which name, round after round: conflicts, renames, the last good, moves."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from aigateway_operator.rules import RuleContext
from tests.builders import (
    Manifest,
    World,
    make_backend,
    make_gateway_config,
    make_stored,
    make_uid,
    make_virtual_model,
    make_world,
)

INVALID: dict[str, Any] = {"current": "nowhere"}


def served_by(world: World) -> dict[str, str]:
    """Return public name → VirtualModel, as the manifests say."""
    return {public: source.partition("/")[0] for public, source in world.manifest()["sources"].items()}


def upstream(world: World, public: str) -> Any:
    """Return the upstream model that a public name leads to."""
    entry = world.entries()[public]
    return entry[entry["current"]]["model"]


def named(name: str, public: str, model: str | None = None, **overrides: Any) -> Manifest:
    """Return a model with one backend that asks for `public`; its upstream model tells whose entry is served."""
    return make_virtual_model(name, modelName=public, backends=[make_backend(model=model or name)], **overrides)


def test_of_two_models_with_one_name_the_older_is_served() -> None:
    """creationTimestamp decides, not the order in which they are seen or named."""
    world = make_world()
    world.apply(named("a-young", "chat"), created="2026-02-02T00:00:00Z")
    world.apply(named("z-old", "chat"), created="2026-02-01T00:00:00Z")
    world.settle()
    assert served_by(world) == {"chat": "z-old"}
    assert world.verdict("a-young", "Accepted") == ("False", "ModelNameConflict")
    assert "'z-old'" in world.condition("a-young", "Accepted").message
    assert world.verdict("a-young", "Ready") == ("False", "ModelNameConflict")
    assert world.verdict("z-old", "Ready") == ("True", "Ready")


def test_of_two_models_of_one_second_the_first_by_name_is_served() -> None:
    """Creation times have a resolution of a second; the name settles the rest."""
    world = make_world()
    world.apply(named("b", "chat"), named("a", "chat"), created="2026-02-01T00:00:00Z")
    world.settle()
    assert served_by(world) == {"chat": "a"}


def test_an_older_model_takes_a_name_over() -> None:
    """The loser has nothing else to be served under, so it is not."""
    world = make_world(named("old", "mine"), named("young", "chat"))
    world.apply(named("old", "chat"))
    world.settle()
    assert served_by(world) == {"chat": "old"}
    assert world.verdict("young", "Programmed") == ("False", "Pending")


def test_the_loser_gets_the_name_when_the_winner_is_deleted() -> None:
    """Nothing but the present state counts."""
    world = make_world(named("old", "chat"), named("young", "chat"))
    world.delete("old")
    world.settle()
    assert served_by(world) == {"chat": "young"}
    assert world.verdict("young", "Ready") == ("True", "Ready")


def test_a_rename_into_a_conflict_keeps_the_old_name() -> None:
    """A served model stays served as it was last valid."""
    world = make_world(named("old", "taken"), named("young", "mine", "first"))
    world.apply(named("young", "taken", "second"))
    world.settle()
    assert served_by(world) == {"taken": "old", "mine": "young"}
    assert upstream(world, "mine") == "first"
    assert world.verdict("young", "Accepted") == ("False", "ModelNameConflict")
    assert world.verdict("young", "Programmed") == ("False", "KeptLastGood")
    assert world.statuses["young"].fields["modelName"] == "mine"


def test_a_kept_name_is_not_lost_to_a_younger_model() -> None:
    """The model that could not be renamed is the older claimant of the name it is served under."""
    world = make_world(named("old", "taken"), named("middle", "mine"))
    world.apply(named("middle", "taken"), named("newcomer", "mine"))
    world.settle()
    assert served_by(world) == {"taken": "old", "mine": "middle"}
    assert world.verdict("newcomer", "Accepted") == ("False", "ModelNameConflict")
    assert "'middle'" in world.condition("newcomer", "Accepted").message


def test_a_kept_name_is_lost_to_an_older_model() -> None:
    """Older wins, also over a last good entry."""
    world = make_world(named("oldest", "other"), named("old", "taken"), named("middle", "mine"))
    world.apply(named("middle", "taken"), named("oldest", "mine"))
    world.settle()
    assert served_by(world) == {"taken": "old", "mine": "oldest"}


def test_names_can_be_swapped_in_one_round() -> None:
    """Each asks for what the other leaves."""
    world = make_world(named("a", "x"), named("b", "y"))
    world.apply(named("a", "y"), named("b", "x"))
    world.settle()
    assert served_by(world) == {"x": "b", "y": "a"}
    assert world.verdict("a", "Ready") == world.verdict("b", "Ready") == ("True", "Ready")


def test_names_can_be_handed_round_a_chain() -> None:
    """A rename into a name that is left in the same round is no conflict, however long the chain."""
    world = make_world(*(named(f"m{number}", f"n{number}") for number in range(5)))
    world.apply(*(named(f"m{number}", f"n{number + 1}") for number in range(5)))
    world.settle()
    assert served_by(world) == {f"n{number + 1}": f"m{number}" for number in range(5)}


def test_an_invalid_edit_keeps_the_last_good_entry() -> None:
    """The webhook was bypassed: pods go on with what was valid, and status says so."""
    world = make_world(named("chat", "chat", "first"))
    world.apply(named("chat", "chat", "second", **INVALID))
    made = world.settle()
    assert made.writes == ()
    assert upstream(world, "chat") == "first"
    assert world.verdict("chat", "Accepted") == ("False", "Invalid")
    assert "spec.current" in world.condition("chat", "Accepted").message
    assert world.verdict("chat", "Programmed") == ("False", "KeptLastGood")
    assert world.verdict("chat", "ResolvedRefs") == ("Unknown", "Pending")


def test_an_invalid_edit_with_another_name_keeps_the_old_name() -> None:
    """An invalid spec claims nothing, not even a name."""
    world = make_world(named("chat", "chat"))
    world.apply(named("chat", "renamed", **INVALID))
    world.settle()
    assert set(world.entries()) == {"chat"}
    assert world.statuses["chat"].fields["modelName"] == "chat"


def test_a_kept_model_that_is_mended_is_served_as_it_is_now() -> None:
    """The last good is only kept as long as it is needed."""
    world = make_world(named("chat", "chat", "first"))
    world.apply(named("chat", "chat", "second", **INVALID))
    world.settle()
    world.apply(named("chat", "chat", "third"))
    world.settle()
    assert upstream(world, "chat") == "third"
    assert world.verdict("chat", "Ready") == ("True", "Ready")


def test_an_invalid_model_that_was_never_valid_is_not_served() -> None:
    """There is nothing to keep, and the others are served as usual."""
    world = make_world(named("chat", "chat"), named("bad", "bad", **INVALID))
    assert set(world.entries()) == {"chat"}
    assert world.verdict("bad", "Programmed") == ("False", "Pending")
    assert world.verdict("chat", "Ready") == ("True", "Ready")


@pytest.mark.parametrize("spec", [None, "text", [], 7, {}, {"backends": "x"}, {"modelName": ["x"]}])
def test_a_spec_of_any_shape_stops_nobody(spec: Any) -> None:
    """One bad object never stops the others."""
    world = make_world(named("chat", "chat"))
    world.models["odd"] = make_stored({"kind": "VirtualModel", "metadata": {"namespace": "ai", "name": "odd"}, "spec": spec})
    world.settle()
    assert set(world.entries()) == {"chat"}
    assert world.verdict("odd", "Accepted") == ("False", "Invalid")


def test_a_model_made_anew_under_the_same_name_inherits_nothing() -> None:
    """Its uid is another, so what its predecessor was served as is not its last good."""
    world = make_world(named("chat", "chat", "first"))
    world.delete("chat")
    world.apply(named("chat", "chat", "second", **INVALID))
    world.settle()
    assert world.entries() == {}
    assert "revision" not in world.statuses["chat"].fields


def test_a_deleted_model_leaves_at_once() -> None:
    """Also one that was only kept."""
    world = make_world(named("a", "a"), named("b", "b"))
    world.apply(named("b", "b", **INVALID))
    world.settle()
    world.delete("b")
    world.settle()
    assert set(world.entries()) == {"a"}


def test_a_model_that_waits_for_a_finalizer_is_served_until_it_is_gone() -> None:
    """Somebody else's finalizer holds it: it still exists."""
    world = make_world(named("a", "a"))
    world.apply(named("a", "a"), deleting=True)
    world.settle()
    assert set(world.entries()) == {"a"}


def test_a_last_good_entry_that_rules_refuse_meanwhile_is_not_kept() -> None:
    """Rules guard other people; what was allowed by a setting before is not served on."""
    local = RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),))
    world = World(context=local)
    world.apply(make_gateway_config(), named("chat", "chat", baseUrl="http://127.0.0.1:9000/v1"))
    world.settle()
    assert set(world.entries()) == {"chat"}
    world.restart()
    world.context = RuleContext("")
    world.settle()
    assert world.entries() == {}
    assert world.verdict("chat", "Programmed") == ("False", "Pending")


def test_after_a_restart_the_last_good_is_read_back_from_the_documents() -> None:
    """An invalid edit made while nobody looked does not end a model."""
    world = make_world(named("chat", "chat", "first"))
    world.restart()
    world.apply(named("chat", "chat", "second", **INVALID))
    world.settle()
    assert upstream(world, "chat") == "first"
    assert world.verdict("chat", "Programmed") == ("False", "KeptLastGood")


def test_a_document_whose_digest_does_not_verify_is_not_believed() -> None:
    """Somebody edited the ConfigMap by hand: what stands there is not what was valid."""
    world = make_world(named("chat", "chat", "first"))
    data = world.objects.edit("ConfigMap", "main-config")["data"]
    data["config.yml"] = data["config.yml"].replace("first", "evil!")
    world.restart()
    world.apply(named("chat", "chat", "second", **INVALID))
    world.settle()
    assert world.entries() == {}


def test_a_model_moved_to_a_gateway_that_does_not_serve_it_stays() -> None:
    """The move is not accepted yet: the other GatewayConfig is missing, or refuses the model."""
    world = make_world(named("chat", "chat"), named("other", "other"))
    world.departed = {"chat": world.models.pop("chat")}
    world.settle()
    assert set(world.entries()) == {"chat", "other"}
    assert "chat" not in {status.name for status in world.round().statuses}


def test_a_model_that_is_served_by_its_new_gateway_leaves() -> None:
    """The reconciler says so by not naming it among the departed any more."""
    world = make_world(named("chat", "chat"))
    world.departed = {"chat": world.models.pop("chat")}
    world.settle()
    world.departed = {}
    world.settle()
    assert world.entries() == {}


def test_a_departed_model_keeps_its_name_against_a_younger_one() -> None:
    """Until it is served elsewhere it is the older claimant; an older one takes the name."""
    world = make_world(named("elder", "elder"), named("chat", "chat"))
    world.departed = {"chat": world.models.pop("chat")}
    world.apply(named("newcomer", "chat"))
    world.settle()
    assert served_by(world)["chat"] == "chat"
    assert world.verdict("newcomer", "Accepted") == ("False", "ModelNameConflict")
    world.apply(named("elder", "chat"))
    world.settle()
    assert served_by(world) == {"chat": "elder"}


def test_a_model_of_a_missing_gateway_is_told_so() -> None:
    """Without a GatewayConfig nothing is written; status names what is missing and the remedy."""
    world = World()
    world.apply(named("chat", "chat"), named("bad", "bad", **INVALID))
    made = world.settle()
    assert (made.writes, made.revision) == ((), None)
    assert world.verdict("chat", "Accepted") == ("False", "GatewayNotFound")
    assert "'main'" in world.condition("chat", "Accepted").message
    assert world.verdict("chat", "Programmed") == ("False", "Pending")
    assert world.verdict("bad", "Accepted") == ("False", "Invalid")


def test_a_model_still_served_by_the_gateway_it_left_says_so() -> None:
    """Callers reach it as it was; its new gateway does not exist."""
    world = World(served_elsewhere=frozenset({"chat"}))
    world.apply(named("chat", "chat"))
    world.settle()
    assert world.verdict("chat", "Programmed") == ("False", "KeptLastGood")
    assert "moved away from" in world.condition("chat", "Programmed").message
    world.served_elsewhere = frozenset()
    world.settle()
    assert world.verdict("chat", "Programmed") == ("False", "Pending")


def test_a_source_names_object_and_uid() -> None:
    """So that readers, and the operator after a restart, tell a model from its successor."""
    world = make_world(named("chat", "public"))
    assert world.manifest()["sources"] == {"public": f"chat/{world.models['chat'].uid[:8]}"}
    assert make_uid("a")[:8] != make_uid("b")[:8]
