"""The real API server asks the real webhook over TLS: what users see, what is let through, what is not even asked about.

The table of bad edits is in test_bad_edits.py; here is what is said of single ones, word for word, and everything around them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from hack.controlplane import ControlPlane
from tests.apiserver.world import Manifest, World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.webhooks import WebhookInThread, configured

PROTECTED = "ai-gateway.io/protected"
ALLOW_DELETE = "ai-gateway.io/allow-delete"


@pytest.fixture
def unconfigured() -> Iterator[WebhookInThread]:
    """A running webhook that no API server knows of yet."""
    webhook = WebhookInThread().start()
    yield webhook
    webhook.stop()


@pytest.fixture
def webhook(plane: ControlPlane, namespace: str, unconfigured: WebhookInThread) -> Iterator[WebhookInThread]:
    """A running webhook that the API server asks about the test's namespace."""
    with configured(plane, unconfigured, namespace):
        yield unconfigured


def apply(world: World, *manifests: Manifest, arguments: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run `kubectl apply -f -`; returns exit code, output and messages."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    done = world.plane.kubectl("apply", "-n", world.namespace, *arguments, "-f", "-", input=text)
    return done.returncode, done.stdout, done.stderr


def broken_gateway(name: str = "main") -> Manifest:
    """A GatewayConfig that schema and CEL let pass, with three faults that only the rules know."""
    return gateway_config(
        name,
        app={"prot": 9000},
        storage={"redis": {"host": "169.254.169.254"}},
        webSearch={"provider": "searxng", "baseUrl": "http://example.com", "options": {}},
    )


def annotated(manifest: Manifest, **annotations: str) -> Manifest:
    """Return the manifest with annotations of our group."""
    keys = {f"ai-gateway.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": keys}}


def accepted_by_status(world: World, models: int, name: str = "main") -> None:
    """Say in the status of a gateway, as the operator does, that it serves so many models."""
    world.patch("GatewayConfig", name, {"status": {"models": {"accepted": models}}}, "status")


def test_kubectl_prints_every_violation_on_a_line_of_its_own(world: World, webhook: WebhookInThread) -> None:
    """The exact text: the object, then one line a violation, sorted by path, without the webhook's name."""
    code, output, messages = apply(world, broken_gateway(), arguments=("--validate=ignore",))
    assert (code, output) == (1, "")
    assert messages == (
        'The GatewayConfig "main" is invalid: \n'
        "* spec.app.prot: Cannot add new key 'prot' to fixed structure at spec.app. "
        "Allowed keys: host, port, debug. Did you mean 'port'?\n"
        "* spec.storage.redis.host: Not an allowed host: '169.254.169.254' is a cloud metadata service, which hands out "
        "credentials; gateways and the operator never connect there. Name the server by its public name, its Service "
        "(<service>.<namespace>.svc) or its private address.\n"
        "* spec.webSearch.baseUrl: http is only for names inside the cluster and private addresses. Write https://, "
        "or example.com.svc if Service 'example' in namespace 'com' is meant.\n"
    )
    assert not world.exists("GatewayConfig", "main")


def test_other_clients_get_all_violations_as_causes_and_as_one_text(world: World, webhook: WebhookInThread) -> None:
    """Helm and Argo CD show `message`, programs read `details.causes`; both name every place."""
    answer = world.plane.request("POST", world.path("GatewayConfig"), broken_gateway())
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    details = answer.body["details"]
    assert (details["group"], details["kind"], details["name"]) == ("ai-gateway.io", "GatewayConfig", "main")
    paths = [cause["field"] for cause in details["causes"]]
    assert paths == ["spec.app.prot", "spec.storage.redis.host", "spec.webSearch.baseUrl"]
    assert {cause["reason"] for cause in details["causes"]} == {"FieldValueForbidden"}
    start = (
        "admission webhook \"validate.ai-gateway.io\" denied the request: GatewayConfig 'main' breaks 3 rules: spec.app.prot:"
    )
    assert answer.body["message"].startswith(start)
    assert all(f"{path}: " in answer.body["message"] for path in paths)


def test_object_with_generated_name_is_refused_by_that_name(world: World, webhook: WebhookInThread) -> None:
    """With generateName the message names what would have been created; a correct one is created."""
    body = virtual_model(baseUrl="http://example.com")
    body["metadata"] = {"generateName": "chat-"}
    answer = world.plane.request("POST", world.path("VirtualModel"), body)
    assert answer.status == 422, answer.body
    assert answer.body["details"]["name"].startswith("chat-")
    created = world.plane.request(
        "POST", world.path("VirtualModel"), {**virtual_model(), "metadata": {"generateName": "chat-"}}
    )
    assert created.status == 201, created.body


def test_dry_run_is_judged_the_same_and_leaves_no_trace(world: World, webhook: WebhookInThread) -> None:
    """`--dry-run=server` and `kubectl diff` refuse what an apply refuses; a correct one is told to be fine and not stored."""
    code, _, messages = apply(world, broken_gateway(), arguments=("--validate=ignore", "--dry-run=server"))
    assert code == 1
    assert messages.startswith('The GatewayConfig "main" is invalid: \n* spec.app.prot: Cannot add new key')
    code, output, _ = apply(world, gateway_config(), virtual_model(), arguments=("--dry-run=server",))
    assert (code, output) == (
        0,
        "gatewayconfig.ai-gateway.io/main created (server dry run)\nvirtualmodel.ai-gateway.io/chat created (server dry run)\n",
    )
    text = json.dumps(virtual_model(baseUrl="http://example.com"))
    diff = world.plane.kubectl("diff", "-n", world.namespace, "-f", "-", input=text)
    assert "spec.baseUrl: http is only for names inside the cluster" in diff.stderr
    assert not world.exists("GatewayConfig", "main")
    assert not world.exists("VirtualModel", "chat")


def test_warnings_are_shown_for_what_is_legal_but_rarely_meant(world: World, webhook: WebhookInThread) -> None:
    """kubectl prints them before the result; an edit repeats only what it brings."""
    code, output, messages = apply(world, annotated(virtual_model(use=False), protected="yes"))
    assert (code, output) == (0, "virtualmodel.ai-gateway.io/chat created\n")
    assert messages == (
        'Warning: metadata.annotations[ai-gateway.io/protected]: only "true" has an effect\n'
        "Warning: spec.use: the model is switched off; callers get 404 model_not_found\n"
        "Warning: spec.backends[1]: no apiKeySecretRef; requests to 'big' carry no key\n"
    )
    code, _, messages = apply(world, annotated(virtual_model(use=False, current="big"), protected="yes"))
    assert (code, messages) == (0, "")


def test_status_writes_and_other_kinds_are_not_asked_about(world: World, webhook: WebhookInThread) -> None:
    """The operator's status writes pass with no review, so they pass while the webhook is down."""
    world.create(gateway_config(), virtual_model())
    before = webhook.reviews()
    accepted_by_status(world, 1)
    world.patch("VirtualModel", "chat", {"status": {"modelName": "chat"}}, "status")
    world.create(secret())
    assert webhook.reviews() == before
    world.patch_spec("VirtualModel", "chat", current="big")
    assert webhook.reviews() == before + 1


def test_other_namespaces_are_not_asked_about(world: World, webhook: WebhookInThread, plane: ControlPlane) -> None:
    """A configuration for one namespace leaves others alone: what only the rules refuse is stored there."""
    answer = plane.request(
        "POST", "/apis/ai-gateway.io/v1alpha1/namespaces/default/gatewayconfigs", broken_gateway("elsewhere")
    )
    assert answer.status == 201, answer.body
    removed = plane.request("DELETE", "/apis/ai-gateway.io/v1alpha1/namespaces/default/gatewayconfigs/elsewhere")
    assert removed.status == 200


def test_stored_invalid_object_can_be_labelled_and_mended_step_by_step(
    world: World, plane: ControlPlane, unconfigured: WebhookInThread
) -> None:
    """Ratchet: what was stored before the webhook was there stands in nobody's way, but nothing may get worse."""
    world.create(broken_gateway())
    with configured(plane, unconfigured, world.namespace):
        unchanged = world.get("GatewayConfig", "main")
        assert plane.request("PUT", world.path("GatewayConfig", "main"), unchanged).status == 200
        world.patch("GatewayConfig", "main", {"metadata": {"labels": {"team": "a"}}})
        done = plane.kubectl(
            "patch", "-n", world.namespace, "gwc", "main", "--type=merge", "-p", json.dumps({"spec": {"app": {"port": 9000}}})
        )
        assert (done.returncode, done.stdout) == (0, "gatewayconfig.ai-gateway.io/main patched\n")
        warnings = [line for line in done.stderr.splitlines() if "stored before, still wrong" in line]
        places = [line.split("still wrong: ")[1].split(": ")[0] for line in warnings]
        assert places == ["spec.app.prot", "spec.storage.redis.host", "spec.webSearch.baseUrl"]
        worse = plane.request(
            "PATCH",
            world.path("GatewayConfig", "main"),
            {"spec": {"storage": {"redis": {"host": "169.254.169.253"}}}},
            content_type="application/merge-patch+json",
        )
        assert worse.status == 422
        assert [cause["field"] for cause in worse.body["details"]["causes"]] == ["spec.storage.redis.host"]
        world.patch_spec("GatewayConfig", "main", webSearch={"baseUrl": "https://example.com"})


def test_protected_object_is_deleted_only_after_its_annotation(world: World, webhook: WebhookInThread) -> None:
    """The refusal names the command that lifts it, and the command works; the others of a collection are deleted."""
    world.create(annotated(virtual_model("kept"), protected="true"), virtual_model("gone"))
    done = world.plane.kubectl("delete", "-n", world.namespace, "vmodel", "--all")
    assert (done.returncode, done.stdout) == (
        1,
        f'virtualmodel.ai-gateway.io "gone" deleted from {world.namespace} namespace\n',
    )
    command = f"kubectl annotate -n {world.namespace} virtualmodels kept {PROTECTED}-"
    assert done.stderr == (
        'Error from server (Forbidden): admission webhook "validate.ai-gateway.io" denied the request: '
        f"VirtualModel 'kept' is protected by annotation {PROTECTED}. To delete it all the same, run first: {command}\n"
    )
    assert world.plane.kubectl(*command.split()[1:]).returncode == 0
    world.delete("VirtualModel", "kept")


def test_deleting_a_whole_collection_stops_at_a_protected_object(world: World, webhook: WebhookInThread) -> None:
    """DELETE on the collection asks for each object; the protected one stays and is named."""
    world.create(annotated(virtual_model("kept"), protected="true"))
    answer = world.plane.request("DELETE", world.path("VirtualModel"))
    assert answer.status == 403, answer.body
    assert "VirtualModel 'kept' is protected" in answer.body["message"]
    assert world.exists("VirtualModel", "kept")


def test_gateway_that_serves_models_is_deleted_only_on_purpose(world: World, webhook: WebhookInThread) -> None:
    """Its status says that it serves; the refusal counts the models and names the annotation that allows it."""
    world.create(gateway_config(), gateway_config("idle"))
    accepted_by_status(world, 2)
    accepted_by_status(world, 0, "idle")
    answer = world.plane.request("DELETE", world.path("GatewayConfig", "main"))
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert "GatewayConfig 'main' serves 2 accepted models, which would be gone for callers." in answer.body["message"]
    before = webhook.reviews()
    world.delete("GatewayConfig", "idle")
    world.patch("GatewayConfig", "main", {"metadata": {"annotations": {ALLOW_DELETE: "true"}}})
    world.delete("GatewayConfig", "main")
    assert webhook.reviews() == before + 1, "only the annotation was reviewed, no deletion"


def test_namespace_with_protected_objects_can_be_deleted(world: World, webhook: WebhookInThread) -> None:
    """Whoever empties a namespace has decided already: the namespace controller is not stopped."""
    world.create(annotated(gateway_config(), protected="true"), annotated(virtual_model(), protected="true"))
    accepted_by_status(world, 1)
    answer = world.plane.request("DELETE", f"/api/v1/namespaces/{world.namespace}")
    assert answer.status == 200, answer.body

    def check() -> None:
        left = world.plane.request("GET", f"/api/v1/namespaces/{world.namespace}")
        assert left.status == 404, left.body.get("status")

    eventually(check, within_seconds=30)


def test_while_the_webhook_is_down_edits_are_refused_and_ordinary_deletions_go_on(
    world: World, webhook: WebhookInThread
) -> None:
    """failurePolicy Fail: the message names the webhook. Who deletes what nobody protects does not need it."""
    world.create(gateway_config(), virtual_model(), annotated(virtual_model("kept"), protected="true"))
    webhook.stop()
    code, _, messages = apply(world, virtual_model(current="big"))
    assert code == 1
    assert "Error from server (InternalError)" in messages
    assert 'failed calling webhook "validate.ai-gateway.io"' in messages
    assert "connection refused" in messages
    world.delete("VirtualModel", "chat")
    answer = world.plane.request("DELETE", world.path("VirtualModel", "kept"))
    assert answer.status == 500
    webhook.start()
    eventually(lambda: world.patch_spec("GatewayConfig", "main", app={"port": 9001}), within_seconds=10)


def test_configuration_that_leads_to_a_wrong_path_refuses(world: World, webhook: WebhookInThread) -> None:
    """A typo in a hand-written configuration must not switch the rules off."""
    name = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/aigateway-{world.namespace}"
    patch = [{"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": f"{webhook.url}/validates"}]
    assert world.plane.request("PATCH", name, patch, content_type="application/json-patch+json").status == 200

    def check() -> None:
        answer = world.plane.request("POST", world.path("VirtualModel") + "?dryRun=All", virtual_model())
        assert answer.status == 500, answer.body
        assert "could not find the requested resource" in answer.body["message"]

    eventually(check, within_seconds=10)


def test_too_large_review_is_reported_as_such(world: World, webhook: WebhookInThread) -> None:
    """What is larger than one object may be is refused with its size and the limit, not stored."""
    backends = [{"name": "small", "model": "m", "parameters": {"text": "x" * 300_000}}]
    answer = world.plane.request("POST", world.path("VirtualModel"), virtual_model(backends=backends))
    assert answer.status == 422, answer.body
    assert "KiB large; at most 256 KiB are allowed" in answer.body["message"]


def test_busy_webhook_is_asked_again_by_the_api_server(world: World, webhook: WebhookInThread) -> None:
    """503 with Retry-After: an edit succeeds if there is room again within the time-out."""
    assert webhook.server is not None
    intake = webhook.server.intake
    intake.wait_seconds = 0.1
    intake.used_bytes = intake.total_bytes
    timer = threading.Timer(1.0, lambda: setattr(intake, "used_bytes", 0))
    timer.start()
    world.create(virtual_model(backends=[{"name": "small", "model": "m", "parameters": {"text": "x" * 100_000}}]))
    timer.join()
