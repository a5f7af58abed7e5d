"""The limit of a ConfigMap or Secret: nothing is truncated, nothing served vanishes, one large object stops no other."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network
from typing import Any

import pytest

from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.render.files import LIMIT_BYTES
from aigateway_operator.render.shards import shard_of
from aigateway_operator.rules import RuleContext
from tests.builders import Manifest, World, make_backend, make_gateway_config, make_virtual_model, make_world

KIB = 1024


def sized(name: str, kibibytes: int, *, model: str = "m", public: str | None = None, **overrides: Any) -> Manifest:
    """Return a model whose entry takes about so many KiB."""
    parameters = {"stop": ["x" * KIB for _ in range(kibibytes)]}
    return make_virtual_model(
        name, modelName=public or name, backends=[make_backend(model=model, parameters=parameters)], **overrides
    )


def fill(count: int = 5, kibibytes: int = 200) -> list[Manifest]:
    """Return models that together nearly fill a document: 1,000 KiB of 1,024."""
    return [sized(f"m{number}", kibibytes) for number in range(count)]


def upstream(world: World, public: str) -> Any:
    """Return the upstream model of an entry."""
    return world.entries()[public]["small"]["model"]


def test_a_new_model_that_does_not_fit_is_left_out_and_told_the_remedy() -> None:
    """The last good set stays; status names the way out."""
    world = make_world(*fill())
    world.apply(sized("late", 100))
    made = world.settle()
    assert made.writes == ()
    assert world.verdict("late", "Accepted") == ("True", "Accepted")
    assert world.verdict("late", "Programmed") == ("False", "TooLarge")
    message = world.condition("late", "Programmed").message
    assert "GatewayConfig 'main-2' with spec.delivery.shards: 2" in message
    assert world.verdict("gateway/main", "Programmed") == ("False", "TooLarge")
    assert world.verdict("m0", "Ready") == ("True", "Ready")


def test_a_new_model_that_fits_beside_one_that_does_not_is_served() -> None:
    """One model that is too large keeps out itself and no other."""
    world = make_world(*fill())
    world.apply(sized("late", 100), sized("small", 2))
    world.settle()
    assert "small" in world.entries()
    assert "late" not in world.entries()
    assert world.verdict("small", "Ready") == ("True", "Ready")


def test_of_new_models_as_many_are_served_as_fit() -> None:
    """The smallest first, in every round the same."""
    world = make_world(*fill())
    world.apply(sized("a", 9), sized("b", 10), sized("c", 8))
    world.settle()
    assert {"a", "c"} <= world.entries().keys()
    assert "b" not in world.entries()


def test_deletions_land_beyond_the_limit_and_make_room() -> None:
    """Taking out is the first remedy."""
    world = make_world(*fill())
    world.apply(sized("late", 240))
    world.settle()
    world.delete("m0")
    world.apply(sized("m1", 230))
    world.settle()
    assert "m0" not in world.entries()
    assert "late" not in world.entries()
    world.delete("m1")
    world.settle()
    assert "late" in world.entries()
    assert world.verdict("late", "Ready") == ("True", "Ready")
    assert world.verdict("gateway/main", "Programmed") == ("True", "Programmed")


def test_edits_of_served_models_land_beside_a_new_one_that_does_not_fit() -> None:
    """Whoever switches a backend must not wait for somebody else's model."""
    world = make_world(*fill())
    world.apply(sized("late", 100), sized("m1", 200, model="switched"))
    world.settle()
    assert upstream(world, "m1") == "switched"
    assert world.verdict("m1", "Ready") == ("True", "Ready")


def test_an_edit_that_does_not_fit_keeps_that_model_alone_as_it_was() -> None:
    """Other edits of the same round land."""
    world = make_world(*fill())
    revision = world.statuses["m0"].fields["revision"]
    world.apply(sized("m0", 240, model="grown"), sized("m1", 200, model="switched"))
    world.settle()
    assert upstream(world, "m0") == "m"
    assert upstream(world, "m1") == "switched"
    assert world.verdict("m0", "Programmed") == ("False", "TooLarge")
    assert world.statuses["m0"].fields["revision"] == revision
    assert world.verdict("m1", "Ready") == ("True", "Ready")


def test_edits_of_served_models_have_room_before_new_models() -> None:
    """Also where not every edit fits."""
    world = make_world(*fill())
    world.apply(sized("m0", 240, model="grown"), sized("m1", 213, model="grown"), sized("new", 10))
    world.settle()
    assert upstream(world, "m1") == "grown"
    assert "new" not in world.entries()


def test_a_rename_lands_in_a_full_document() -> None:
    """It takes no more room than before; names can be swapped too."""
    world = make_world(*fill())
    world.apply(sized("late", 100), sized("m0", 200, public="m1"), sized("m1", 200, public="m0"))
    world.settle()
    assert world.manifest()["sources"]["m0"].startswith("m1/")
    assert world.verdict("m0", "Ready") == ("True", "Ready")


def test_a_rename_into_a_name_whose_owner_cannot_leave_waits() -> None:
    """m1 would become `free` but grew too much, so it stays, and m0 stays with it."""
    world = make_world(*fill())
    world.apply(sized("m1", 240, public="free"), sized("m0", 200, public="m1"))
    world.settle()
    assert set(world.entries()) == {f"m{number}" for number in range(5)}
    assert world.verdict("m0", "Programmed") == world.verdict("m1", "Programmed") == ("False", "TooLarge")
    assert world.statuses["m0"].fields["modelName"] == "m0"


def test_a_model_made_anew_does_not_inherit_its_place_beyond_the_limit() -> None:
    """Its predecessor is gone, and what it was served as with it."""
    world = make_world(*fill())
    world.delete("m0")
    world.apply(sized("m0", 240))
    world.settle()
    assert "m0" not in world.entries()
    assert world.verdict("m0", "Programmed") == ("False", "TooLarge")


def test_what_rules_refuse_meanwhile_is_not_kept_beyond_the_limit() -> None:
    """The newest does not fit and the one before is not allowed any more."""
    world = World(context=RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),)))
    world.apply(make_gateway_config(), *fill(4, 240), sized("local", 10, baseUrl="http://127.0.0.1/v1"))
    world.settle()
    world.restart()
    world.context = RuleContext("")
    world.apply(sized("local", 100))
    world.settle()
    assert "local" not in world.entries()


def test_settings_that_do_not_fit_keep_the_last_good_ones() -> None:
    """Models go on being edited meanwhile."""
    world = make_world(*fill())
    search = {"provider": "searxng", "baseUrl": "http://s.ai.svc", "options": {"a": ["x" * KIB for _ in range(100)]}}
    world.apply(make_gateway_config(webSearch=search), sized("m1", 200, model="switched"))
    made = world.settle()
    assert world.document()["web_search"] is None
    assert made.settings is not None
    assert made.settings.sections["web_search"] == "null"
    assert upstream(world, "m1") == "switched"
    assert world.verdict("gateway/main", "Programmed") == ("False", "TooLarge")


def test_settings_that_fit_land_beside_a_model_that_does_not() -> None:
    """The two are judged apart."""
    world = make_world(*fill())
    world.apply(make_gateway_config(app={"port": 9000}), sized("late", 100))
    world.settle()
    assert world.document()["app"]["port"] == 9000


def test_a_first_set_beyond_the_limit_is_served_as_far_as_it_fits() -> None:
    """There is no last good yet."""
    world = World()
    world.apply(make_gateway_config(), *fill(7))
    world.settle()
    assert len(world.entries()) == 5
    assert [world.verdict(f"m{number}", "Programmed")[1] for number in range(7)].count("TooLarge") == 2


def test_a_last_good_set_that_is_itself_too_large_is_left_alone() -> None:
    """What is live stays as it is: the API server would refuse the write. Only another limit than ours gets there."""
    world = make_world(*fill())
    entry = next(iter(world.served.values())).entry
    before = world.document()
    large = type(entry)("m0", entry.text[:-1] + " " * LIMIT_BYTES + "}", True, entry.credentials)
    world.served = {**world.served, "m0": type(world.served["m0"])(large, world.served["m0"].source)}
    world.apply(sized("m0", 240, model="grown"))
    made = world.round()
    assert made.writes == ()
    assert (world.document(), made.revision) == (before, 1)
    assert set(made.served) == set(world.models)
    assert made.settings is not None
    assert world.verdict("gateway/main", "Programmed") == ("False", "TooLarge")
    del world.objects.by_name["ConfigMap", "main-config"]
    made = world.round()
    assert (made.revision, dict(made.served), made.settings) == (None, {}, None)


# -- shards


def in_shard(wanted: int, shards: int = 2, prefix: str = "n") -> list[str]:
    """Return some public names of one shard."""
    return [name for number in range(40) if shard_of(name := f"{prefix}{number}", shards) == wanted]


def test_a_full_shard_does_not_stop_the_others() -> None:
    """Only models of that shard wait."""
    full, other = in_shard(0), in_shard(1)
    world = make_world(*(sized(f"v{index}", 200, public=full[index]) for index in range(5)), delivery={"shards": 2})
    world.apply(sized("late", 200, public=full[5]), sized("there", 200, public=other[0]))
    world.settle()
    assert other[0] in world.entries()
    assert world.verdict("late", "Programmed") == ("False", "TooLarge")
    assert "shards: 4" in world.condition("late", "Programmed").message


def test_a_rename_into_a_full_shard_keeps_the_old_place() -> None:
    """The new shard has no room, so the model is served where it was."""
    full, other = in_shard(0), in_shard(1)
    models = [sized(f"v{index}", 200, public=full[index]) for index in range(5)]
    world = make_world(*models, sized("mover", 100, public=other[0]), delivery={"shards": 2})
    revision = world.statuses["mover"].fields["revision"]
    world.apply(sized("mover", 100, public=full[6]))
    world.settle()
    assert other[0] in world.entries()
    assert world.verdict("mover", "Programmed") == ("False", "TooLarge")
    assert world.statuses["mover"].fields == {"modelName": other[0], "revision": revision}
    world.delete("v0")
    world.settle()
    assert {full[6]} <= world.entries().keys()
    assert other[0] not in world.entries()


def test_a_rename_into_a_full_shard_is_not_lost_to_a_newcomer() -> None:
    """Somebody took the name that the mover leaves; it cannot leave, so the newcomer waits."""
    full, other = in_shard(0), in_shard(1)
    models = [sized(f"v{index}", 200, public=full[index]) for index in range(5)]
    world = make_world(*models, sized("mover", 100, public=other[0]), delivery={"shards": 2})
    world.apply(sized("mover", 100, public=full[6]), sized("newcomer", 1, public=other[0]))
    world.settle()
    assert world.manifest(1)["sources"][other[0]].startswith("mover/")
    assert world.verdict("newcomer", "Programmed") == ("False", "TooLarge")


def test_a_rename_that_makes_room_elsewhere_lets_others_in() -> None:
    """Moves between shards are settled together, in whatever order they become possible."""
    full, other = in_shard(0), in_shard(1)
    models = [sized(f"v{index}", 200, public=full[index]) for index in range(5)]
    world = make_world(*models, *(sized(f"w{index}", 200, public=other[index]) for index in range(4)), delivery={"shards": 2})
    world.apply(sized("v0", 201, public=other[5]), sized("w0", 150, public=full[6]), sized("late", 200, public=full[7]))
    world.settle()
    assert {other[5], full[6]} <= world.entries().keys()
    assert full[7] not in world.entries()


# -- credentials


def secret_of(size: int) -> SecretState:
    """Return a Secret whose key `k` has so many KiB."""
    return SecretState(True, True, values={"k": b"s" * size * KIB})


def keyed(name: str, secret: str) -> Manifest:
    """Return a model with a proxy key in a Secret of its own."""
    return make_virtual_model(name, proxyKeySecretRef={"name": secret, "key": "k"})


def test_a_model_whose_credentials_do_not_fit_is_left_out() -> None:
    """The credentials Secret has the same limit as the document."""
    world = make_world()
    world.secrets |= {"s1": secret_of(600), "s2": secret_of(600)}
    world.apply(keyed("a", "s1"))
    world.settle()
    world.apply(keyed("b", "s2"))
    world.settle()
    assert set(world.entries()) == {"a"}
    assert world.verdict("b", "Programmed") == ("False", "TooLarge")
    assert "1216 KiB" in world.condition("b", "Programmed").message
    world.apply(keyed("c", "s1"))
    world.settle()
    assert set(world.entries()) == {"a", "c"}


def test_a_secret_that_grows_too_large_keeps_its_value_and_stops_no_other() -> None:
    """The one before stays; other credentials and documents are followed at once."""
    world = make_world()
    world.secrets |= {"s1": secret_of(600), "s2": secret_of(100)}
    world.apply(keyed("a", "s1"), keyed("b", "s2"))
    world.settle()
    world.secrets |= {"s1": secret_of(1100), "s2": SecretState(True, True, values={"k": b"new"})}
    world.apply(make_virtual_model("c"))
    world.settle()
    assert len(world.credentials()["s1.k"]) == 600 * KIB
    assert world.credentials()["s2.k"] == b"new"
    assert set(world.entries()) == {"a", "b", "c"}
    assert world.verdict("a", "Programmed") == ("False", "TooLarge")
    assert "'s1.k'" in world.condition("a", "Programmed").message
    assert world.verdict("b", "Ready") == ("True", "Ready")
    assert world.verdict("gateway/main", "Programmed") == ("False", "TooLarge")


def test_a_key_that_appears_and_does_not_fit_is_missing() -> None:
    """There is nothing to keep for it."""
    world = make_world()
    world.secrets |= {"s1": secret_of(600), "s2": SecretState(True, False)}
    world.apply(keyed("a", "s1"), keyed("b", "s2"))
    world.settle()
    world.secrets["s2"] = secret_of(600)
    world.settle()
    assert "s2.k" not in world.credentials()
    assert "s2.k" in world.credentials_manifest()["missing"]
    assert world.verdict("b", "Programmed") == ("False", "TooLarge")


def test_a_value_that_never_fitted_stops_no_edit() -> None:
    """The credentials Secret was deleted by hand, so there is no smaller value to keep for the one that grew."""
    world = make_world()
    world.secrets |= {"s1": secret_of(10), "s2": secret_of(10)}
    world.apply(keyed("a", "s1"), keyed("b", "s2"))
    world.settle()
    world.secrets["s1"] = secret_of(1100)
    del world.objects.by_name["Secret", "main-credentials"]
    world.apply({**keyed("b", "s2"), "spec": {**keyed("b", "s2")["spec"], "current": "big"}})
    world.settle()
    assert world.entries()["b"]["current"] == "big"
    assert world.credentials().keys() >= {"s2.k"}
    assert "s1.k" in world.credentials_manifest()["missing"]


def test_credentials_that_one_edit_frees_are_room_for_another() -> None:
    """a leaves a large one, c takes a large one up, e alone is too large."""
    world = make_world()
    sizes = {"s1": 600, "s2": 600, "s3": 1, "s4": 100, "s5": 10, "s6": 1000}
    world.secrets |= {name: secret_of(size) for name, size in sizes.items()}
    world.apply(keyed("a", "s1"), keyed("c", "s4"), keyed("e", "s5"))
    world.settle()
    world.apply(keyed("a", "s3"), keyed("c", "s2"), keyed("e", "s6"))
    world.settle()
    refs = {name: entry["proxy_key_ref"] for name, entry in world.entries().items()}
    assert refs == {"a": "s3.k", "c": "s2.k", "e": "s5.k"}
    assert world.verdict("e", "Programmed") == ("False", "TooLarge")


def test_of_keys_no_longer_used_the_newest_stay_as_long_as_there_is_room() -> None:
    """More pods still use those."""
    world = make_world()
    world.secrets |= {name: secret_of(500) for name in ("s1", "s2", "s3")}
    world.apply(keyed("a", "s1"))
    world.settle()
    for name in ("s2", "s3"):
        world.now += 10
        world.apply(keyed("a", name))
        world.round()
    assert {"s2.k", "s3.k"} <= world.credentials().keys()
    assert "s1.k" not in world.credentials()


def test_a_value_that_shrinks_is_followed_in_a_full_secret() -> None:
    """What cannot be read is carried over and fills the Secret; taking up less room is always possible."""
    world = make_world()
    world.secrets |= {"s1": secret_of(600), "s2": secret_of(10)}
    world.apply(keyed("a", "s1"), keyed("b", "s2"))
    world.settle()
    large = b64encode(b"s" * (LIMIT_BYTES - 400)).decode()
    world.objects.edit("Secret", "main-credentials")["data"]["s1.k"] = large
    world.secrets |= {"s1": SecretState(known=False, exists=False), "s2": SecretState(True, True, values={"k": b"x"})}
    world.round()
    assert world.credentials()["s2.k"] == b"x"
    assert len(world.credentials()["s1.k"]) == LIMIT_BYTES - 400


def test_keys_no_longer_used_do_not_stand_in_the_way_of_new_ones() -> None:
    """Carrying over is a courtesy to running pods; where there is no room the new ones come first."""
    world = make_world()
    world.secrets |= {"s1": secret_of(600), "s2": secret_of(600)}
    world.apply(keyed("a", "s1"))
    world.settle()
    world.apply(keyed("a", "s2"))
    world.settle()
    assert "s1.k" not in world.credentials()
    assert len(world.credentials()["s2.k"]) == 600 * KIB


# -- warnings


@pytest.mark.parametrize(
    ("kibibytes", "warning"),
    [(500, None), (640, "60 %"), (700, "60 %"), (730, "70 %"), (1000, "90 %")],
)
def test_a_document_that_fills_up_is_announced_in_steps(kibibytes: int, warning: str | None) -> None:
    """From 60 % on, in steps, so that the status does not change with every edit."""
    world = make_world(*(sized(f"m{number}", kibibytes // 5) for number in range(5)))
    message = world.condition("gateway/main", "Programmed").message
    assert world.verdict("gateway/main", "Programmed") == ("True", "Programmed")
    if warning is None:
        assert "%" not in message
    else:
        assert f"config.yml takes more than {warning}" in message
