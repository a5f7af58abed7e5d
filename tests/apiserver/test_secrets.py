"""Secrets: missing, late, rotated, deleted, of a refused type; their values are where they belong and nowhere else."""

from __future__ import annotations

import json
import time

import pytest

from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver


def _credentials(world: World, name: str = "main-credentials") -> dict[str, object]:
    manifest: dict[str, object] = json.loads(world.values(name)["_manifest.json"])
    return manifest


@pytest.mark.usefixtures("operator")
def test_a_missing_secret_is_named_and_the_model_is_rendered(world: World) -> None:
    """The document names the key, the manifest says that it is missing, so that readers do not wait for it."""
    world.create(gateway_config(), virtual_model())
    condition = world.wait_condition("VirtualModel", "chat", "ResolvedRefs", "False", "SecretNotFound")
    assert "'keys'" in condition["message"]
    world.wait_models({"chat"})
    assert _credentials(world)["missing"] == ["keys.openai", "keys.proxy"]
    world.create(secret(proxy="only-this"))
    condition = world.wait_condition("VirtualModel", "chat", "ResolvedRefs", "False", "SecretKeyNotFound")
    assert "'openai'" in condition["message"]
    world.patch("Secret", "keys", {"stringData": {"openai": "late"}})
    world.wait_ready("chat")
    assert world.values("main-credentials")["keys.openai"] == "late"
    assert _credentials(world)["missing"] == []


@pytest.mark.usefixtures("operator")
def test_a_rotated_secret_is_followed_at_once(world: World) -> None:
    """The new value is in the credentials within a second; the document does not change, its revision neither."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    document, revision = world.data("main-config"), _credentials(world)["credentialsRevision"]
    world.patch("Secret", "keys", {"stringData": {"openai": "rotated"}})
    eventually(lambda: _value(world, "rotated"), within_seconds=1)
    assert world.data("main-config") == document
    assert int(str(_credentials(world)["credentialsRevision"])) == int(str(revision)) + 1


def _value(world: World, wanted: str) -> None:
    assert world.values("main-credentials")["keys.openai"] == wanted


@pytest.mark.usefixtures("operator")
def test_a_vanished_secret_revokes_after_five_seconds_and_not_before(world: World) -> None:
    """Controllers delete and recreate Secrets: a short gap is bridged, a lasting one revokes; the model stays rendered."""
    world.create(secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    world.delete("Secret", "keys")
    world.wait_condition("VirtualModel", "chat", "ResolvedRefs", "False", "SecretNotFound")
    assert world.values("main-credentials")["keys.openai"] == "backend-key"
    world.create(secret(proxy="caller-key", openai="again"))
    eventually(lambda: _value(world, "again"), within_seconds=20)
    world.wait_ready("chat")
    gone = time.monotonic()
    world.delete("Secret", "keys")

    def revoked() -> None:
        assert "keys.openai" not in world.values("main-credentials")

    eventually(revoked, within_seconds=9)
    assert time.monotonic() - gone >= 4.5
    assert set(world.models()) == {"chat"}
    assert _credentials(world)["missing"] == ["keys.openai", "keys.proxy"]


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("kind", ["helm.sh/release.v1", "kubernetes.io/service-account-token"])
def test_a_secret_of_a_forbidden_type_is_never_read(world: World, kind: str) -> None:
    """Helm releases and tokens are refused as references, with the type in the message; their values go nowhere."""
    refused = secret("keys", kind, proxy="hidden", openai="hidden")
    refused["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
    world.create(refused, gateway_config(), virtual_model())
    condition = world.wait_condition("VirtualModel", "chat", "ResolvedRefs", "False", "SecretTypeRefused")
    assert kind in condition["message"]
    assert "hidden" not in world.values("main-credentials").values()


@pytest.mark.usefixtures("operator")
def test_a_key_that_is_no_longer_named_stays_for_running_pods(world: World) -> None:
    """Union before removal: a pod that still runs the old document finds its key."""
    world.create(secret(proxy="p", openai="o", second="s"), gateway_config(), virtual_model())
    world.wait_ready("chat")
    backends = [{"name": "small", "model": "m", "apiKeySecretRef": {"name": "keys", "key": "second"}}]
    world.patch_spec("VirtualModel", "chat", backends=backends)
    eventually(lambda: _keys(world, {"keys.openai", "keys.proxy", "keys.second"}), within_seconds=20)
    assert world.models()["chat"]["small"]["api_key_ref"] == "keys.second"


def _keys(world: World, wanted: set[str]) -> None:
    assert {key for key in world.values("main-credentials") if not key.startswith("_")} == wanted


def test_values_are_in_no_config_map_status_event_or_log(
    world: World, start_operator: StartOperator, capfd: pytest.CaptureFixture[str]
) -> None:
    """Canaries in every Secret: they are found in Secrets and nowhere else."""
    start_operator()
    canaries = {"proxy": "canary-proxy-7f3a", "openai": "canary-openai-9c1b", "mongodb": "canary-mongodb-55d0"}
    storage = {"mongodb": {"host": "mongodb.ai.svc", "passwordSecretRef": {"name": "keys", "key": "mongodb"}}}
    world.create(secret(**canaries), gateway_config(storage=storage), virtual_model())
    world.wait_ready("chat")
    world.patch("Secret", "keys", {"stringData": {"openai": "canary-rotated-1111"}})
    eventually(lambda: _value(world, "canary-rotated-1111"), within_seconds=20)
    world.patch_spec("VirtualModel", "chat", baseUrl="http://public.example.com")
    world.wait_condition("VirtualModel", "chat", "Accepted", "False")
    texts = [
        json.dumps(world.plane.request("GET", world.path(kind)).body) for kind in ("ConfigMap", "VirtualModel", "GatewayConfig")
    ]
    texts.append(json.dumps(world.plane.request("GET", f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events").body))
    captured = capfd.readouterr()
    texts += [captured.out, captured.err, json.dumps(_credentials(world))]
    for text in texts:
        assert "canary" not in text
