"""What a new configuration costs the gateway's event loop: what changed in it, and not how many models there are beside."""

from __future__ import annotations

from typing import Any, NoReturn

from hypothesis import given
from hypothesis import strategies as st

from aigateway_config.model import Model
from aigateway_gateway.keys import Keyring
from aigateway_gateway.limits import Gates
from aigateway_gateway.serving import Serving
from tests.gateway_runs import make_configuration, make_model

NAMES = "abcd"
STEP = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["k1", "k2", None, "gone"]))  # models and their keys


class Guarded(dict[str, Any]):
    """A mapping in which names may be looked up, and which nobody may go through."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("all of it is gone through")

    __iter__ = keys = values = items = __eq__ = _refuse


def test_an_edit_does_not_go_through_models_of_other_documents() -> None:
    """Models are compared, digested and dropped by name, those of the document that changed alone."""
    same, old, new = make_model("same"), make_model("edited", key="old"), make_model("edited", key="new")
    other = Guarded({"same": same})
    first = make_configuration(same, old, parts={"models-00.yml": other, "models-01.yml": {"edited": old}})
    second = make_configuration(
        parts={"models-00.yml": other, "models-01.yml": {"edited": new}}, models=Guarded({"same": same, "edited": new})
    )
    gates = Gates(1, 0, 1)
    before = Serving(first, gates)
    targets = {name: before.target(name, key) for name, key in (("same", b"key-chat"), ("edited", b"old"))}
    after = Serving(second, gates, before)
    assert not after.lost
    assert after.target("same", b"key-chat") is targets["same"]
    assert after.target("edited", b"new").model is new
    assert (after.keys.opens(b"old"), after.keys.opens(b"new")) == ([], ["edited"])
    assert before.keys.opens(b"old") == ["edited"], "requests go on with the configuration they took"
    assert before.target("edited", b"old") is targets["edited"]


def test_a_model_that_is_gone_is_noticed() -> None:
    """Its target, its key and, when it is idle, its gate go with it."""
    kept, gone = make_model("kept"), make_model("gone", key="gone")
    gates = Gates(1, 0, 1)
    first = Serving(make_configuration(kept, gone, parts={"config.yml": {"kept": kept, "gone": gone}}), gates)
    first.target("gone", b"gone")
    second = Serving(make_configuration(kept, parts={"config.yml": {"kept": kept}}), gates, first)
    assert second.lost
    assert "gone" not in second.targets
    assert second.keys.opens(b"gone") == []


@given(st.lists(STEP, max_size=6))
def test_keys_followed_step_by_step_open_what_keys_made_from_nothing_open(steps: list[dict[str, str | None]]) -> None:
    """Whatever came, went, changed its key or shares it: no key opens more or less."""
    models: dict[str, Model] = {}
    ring = Keyring(models)
    for step in steps:
        before, models = models, dict(models)
        for name, key in step.items():
            models.pop(name, None)
            if key != "gone":
                models[name] = make_model(name, key=key)
        ring = Keyring(models, ring, {name for name in NAMES if models.get(name) is not before.get(name)})
        anew = Keyring(models)
        for presented in (b"k1", b"k2", b""):
            opened = ring.opens(presented)
            assert sorted(opened) == sorted(anew.opens(presented))
            assert len(opened) == len(set(opened))
            assert {name for name in models if ring.is_for(name, presented)} == set(opened)
        assert ring.known.keys() == models.keys()
