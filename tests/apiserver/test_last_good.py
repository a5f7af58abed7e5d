"""A served model stays served as it was last valid: through invalid edits, restarts and renames, until it is deleted."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import InProcess

pytestmark = pytest.mark.apiserver

BAD_URL = "http://public.example.com/v1"


def _serve_then_break(world: World, **edit: object) -> dict[str, object]:
    world.create(secret(), gateway_config(), virtual_model(), virtual_model("other"))
    world.wait_ready("chat", "other")
    served = world.models()["chat"]
    world.patch_spec("VirtualModel", "chat", baseUrl=BAD_URL, **edit)
    world.wait_condition("VirtualModel", "chat", "Accepted", "False", "Invalid")
    world.wait_condition("VirtualModel", "chat", "Programmed", "False", "KeptLastGood")
    return dict(served)


@pytest.mark.usefixtures("operator")
def test_an_invalid_edit_keeps_the_last_good_entry(world: World) -> None:
    """Pods keep what they had; the edit is named; mending it serves the new version."""
    served = _serve_then_break(world, current="big")
    assert world.models()["chat"] == served
    assert "spec.baseUrl" in world.condition("VirtualModel", "chat", "Accepted")["message"]
    world.patch_spec("VirtualModel", "chat", baseUrl="https://mended.example.com/v1")
    world.wait_ready("chat")
    assert world.models()["chat"]["current"] == "big"
    assert world.models()["chat"]["base_url"] == "https://mended.example.com/v1"


def test_the_last_good_entry_survives_a_restart(world: World, start_operator: StartOperator) -> None:
    """A new process knows nothing but the rendered document, and keeps the entry when others are edited."""
    first = start_operator()
    served = _serve_then_break(world)
    eventually(first.assert_idle, within_seconds=20)
    first.stop()
    start_operator()
    world.patch_spec("VirtualModel", "other", current="big")
    world.wait_ready("other")
    assert world.models()["other"]["current"] == "big"
    assert world.models()["chat"] == served


def test_an_invalid_rename_keeps_the_old_name_also_across_a_restart(world: World, start_operator: StartOperator) -> None:
    """An edit that renames and breaks a model at once leaves it served under the name it had."""
    first = start_operator()
    served = _serve_then_break(world, modelName="renamed")
    assert world.models() == {"chat": served, "other": world.models()["other"]}
    first.stop()
    second = start_operator()
    world.patch_spec("VirtualModel", "other", current="big")
    world.wait_ready("other")
    assert world.models()["chat"] == served
    assert "renamed" not in world.models()
    world.patch_spec("VirtualModel", "chat", baseUrl="https://mended.example.com/v1")
    world.wait_models({"renamed", "other"})
    eventually(second.assert_idle, within_seconds=20)


def test_a_model_made_again_under_the_same_name_inherits_nothing(world: World, start_operator: StartOperator) -> None:
    """Deleted and made again, invalid, while the operator was down: the former one's entry is not served for it."""
    first = start_operator()
    world.create(secret(), gateway_config(), virtual_model(), virtual_model("other"))
    world.wait_ready("chat", "other")
    first.stop()
    world.delete("VirtualModel", "chat")
    world.create(virtual_model(baseUrl=BAD_URL))
    start_operator()
    world.wait_models({"other"}, within_seconds=30)
    world.wait_condition("VirtualModel", "chat", "Programmed", "False", "Pending")


def test_a_tampered_document_is_not_believed_after_a_restart(world: World, start_operator: StartOperator) -> None:
    """An entry is read back only if the digest verifies: one that somebody wrote by hand meanwhile is not served on."""
    first = start_operator()
    _serve_then_break(world)
    first.stop()
    text = world.data("main-config")["config.yml"].replace("https://api.example.com/v1", "https://evil.example.com/v1")
    world.patch("ConfigMap", "main-config", {"data": {"config.yml": text}})
    start_operator()
    world.wait_models({"other"}, within_seconds=30)
    assert "evil" not in world.data("main-config")["config.yml"]


@pytest.mark.usefixtures("operator")
def test_an_invalid_gateway_keeps_its_last_valid_settings(world: World) -> None:
    """What passes the schema but breaks a rule is not rendered; the models are served and edited as usual."""
    world.create(
        secret(), gateway_config(webSearch={"provider": "searxng", "baseUrl": "http://searxng.ai.svc:8080"}), virtual_model()
    )
    world.wait_ready("chat")
    world.patch_spec("GatewayConfig", "main", webSearch={"baseUrl": "http://public.example.com"})
    condition = world.wait_condition("GatewayConfig", "main", "Accepted", "False", "Invalid")
    assert "spec.webSearch.baseUrl" in condition["message"]
    world.wait_condition("GatewayConfig", "main", "Programmed", "False", "KeptLastGood")
    assert world.document()["web_search"]["base_url"] == "http://searxng.ai.svc:8080"
    world.patch_spec("VirtualModel", "chat", current="big")
    eventually(lambda: _current(world, "big"), within_seconds=20)
    assert world.document()["web_search"]["base_url"] == "http://searxng.ai.svc:8080"


def _current(world: World, wanted: str) -> None:
    assert world.models()["chat"]["current"] == wanted


@pytest.mark.usefixtures("operator")
def test_deleting_a_model_that_is_kept_ends_it(world: World) -> None:
    """Last good lasts until the object is deleted, and no longer."""
    _serve_then_break(world)
    world.delete("VirtualModel", "chat")
    world.wait_models({"other"})


def test_a_set_beyond_the_limit_keeps_the_last_good_and_says_so(world: World, operator: InProcess) -> None:
    """Nothing is truncated: new models are held out with the remedy, served ones stay, deletions and small edits land."""
    blob = {"note": "x" * 100_000}
    world.create(secret(), gateway_config())
    names = [f"model-{number}" for number in range(4)]

    def heavy(name: str) -> dict[str, object]:
        backends = [{"name": "small", "model": "m", "parameters": blob}, {"name": "big", "model": "m", "parameters": blob}]
        return virtual_model(name, backends=backends)

    world.create(*(heavy(name) for name in names))
    world.wait_ready(*names)
    world.create(heavy("extra-1"), heavy("extra-2"))
    condition = world.wait_condition("VirtualModel", "extra-2", "Programmed", "False", "TooLarge")
    assert "main-2" in condition["message"]
    assert "shards" in condition["message"]
    world.wait_condition("GatewayConfig", "main", "Programmed", "False", "TooLarge")
    assert set(names) <= set(world.models())
    world.patch_spec("VirtualModel", "model-1", current="big")
    eventually(lambda: _assert_current(world, "model-1", "big"), within_seconds=20)
    world.delete("VirtualModel", "extra-1")
    world.delete("VirtualModel", "extra-2")
    world.wait_models(set(names))
    world.wait_ready(*names)
    eventually(operator.assert_idle, within_seconds=20)


def _assert_current(world: World, name: str, wanted: str) -> None:
    assert world.models()[name]["current"] == wanted
