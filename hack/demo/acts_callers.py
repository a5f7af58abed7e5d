"""Acts that end at the caller: an edit is felt by the next request to each pod, proved in status, and nothing else is felt.

Each asserts what it shows. Called by `__main__`, in order.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from hack.demo.feed import Object
from hack.demo.front import CALLER_KEY, GATEWAY, LOOPBACK, MODEL, Callers, aigateway
from hack.demo.screen import duration
from hack.demo.show import NAMESPACE, Show, check, condition, entries, is_ready, revision

KEY_TAKEN = "edit answered → accepted, both pods"
SMALL, BIG = "I am gpt-4o-mini.", "I am gpt-4o."


def start_gateways(show: Show) -> None:
    """Two pods of the gateway: from manifests to `2/2`."""
    with show.step("Two gateway pods take up their documents, and prove it") as row:
        front = show.front
        show.screen.say(
            f"A gateway of its own, whose backends are a stub on this machine ({', '.join(LOOPBACK)} is set to allow that)."
        )
        lines = show.kubectl("apply", "-f", "-", input=front.manifest(), shown="kubectl apply -f hack/demo/front.yaml")
        show.screen.output(lines)
        show.feed.wait("VirtualModel", MODEL, is_ready)
        show.screen.say(
            "Mounts and labels of its pods are what `aigateway mount` prints; each has volumes as a kubelet keeps them."
        )
        show.screen.command(f"aigateway mount {GATEWAY} -n {NAMESPACE} --patch")
        started = time.monotonic()
        front.start_pods(aigateway(show.plane, "mount", GATEWAY, "-n", NAMESPACE, "--patch"))
        seen = show.feed.wait("GatewayConfig", GATEWAY, _is_proved)
        row.measured, row.took_ms = "pods started → status says 2/2", (seen.at - started) * 1000
        show.screen.seen("Each pod has been asked, and runs the newest revision.", row.took_ms)
        show.screen.output(show.kubectl("get", "gwc", GATEWAY, "-n", NAMESPACE))


def call(show: Show) -> None:
    """The official client, unchanged, gets its answer from either pod; a wrong key gets none."""
    with show.step("A real request, by the official `openai` client"):
        front = show.front
        show.screen.command(f'OpenAI(base_url="http://{front.pods[0].ip}:8000/v1", api_key=…).chat.completions.create(')
        show.screen.command(f'  model="{MODEL}", messages=[{{"role": "user", "content": "Who are you?"}}])')
        front.call(front.pods[0])  # the client loads half of itself at its first call
        for pod in front.pods:
            answer = front.call(pod)
            check((answer.status, answer.text) == (200, SMALL), f"pod {pod.name} answered {answer.status}: {answer.text}")
            show.screen.seen(f"{pod.name}: “{answer.text}”", (answer.answered - answer.sent) * 1000)
        refused = front.call(front.pods[0], "another-key")
        check(refused.status == 401, f"a wrong key is answered {refused.status}")
        show.screen.seen(f"A wrong key: 401 {refused.text}, in OpenAI's error format.")


def flip(show: Show) -> None:
    """`current` flipped while both pods are called without a pause: soon the next request is answered by the other backend."""
    with show.step("`current` flipped: callers get the other backend") as row, show.front.calling() as callers:
        callers.first(SMALL, since=0, within_seconds=5)
        edit = show.edit("VirtualModel", MODEL, {"spec": {"current": "big"}})
        first = callers.first(BIG, since=edit.sent, within_seconds=10)
        at = max(answer.sent for answer in first.values())
        for name, answer in sorted(first.items()):
            show.screen.seen(f"{name}: “{answer.text}”", max(0.0, answer.sent - edit.answered) * 1000)
        show.timed(row, "No pod was restarted.", measured="edit answered → new answers, both pods", edit=edit, at=at)
        proved = show.feed.wait("GatewayConfig", GATEWAY, _is_proved_since(show), since=edit.sent)
        took = proved.object["status"]["rollout"].get("lastDurationMilliseconds")
        show.screen.seen(f"Status says Propagated=True; by the operator's own clock it took {duration(took or 0)}.")
        asked = time.monotonic()
        callers.first(BIG, since=asked, within_seconds=5)
        callers.stop()
        _check_unharmed(callers)
        late = [one for answers in callers.answers.values() for one in answers if one.sent > proved.at and one.text != BIG]
        check(not late, f"after Propagated=True {len(late)} requests were answered by the old backend")
        asked_in_all = sum(len(answers) for answers in callers.answers.values())
        show.screen.seen(f"{asked_in_all} requests meanwhile, none failed, none after Propagated=True by the old backend.")
        show.screen.output(show.kubectl("get", "gwc", GATEWAY, "-n", NAMESPACE))


def refused_edit(show: Show) -> None:
    """The webhook names every violation at once; nobody who is served feels an edit that is refused."""
    with show.step("A refused edit is felt by no caller"), show.front.calling() as callers:
        _install_webhook(show)
        before = revision(show.current("ConfigMap", f"{GATEWAY}-config"))
        show.screen.say("A key that does not exist, and a store on the cloud's metadata address, in one edit:")
        patch = '{"spec": {"app": {"prot": 9000}, "storage": {"redis": {"host": "169.254.169.254"}}}}'
        said = show.kubectl_refused("patch", "-n", NAMESPACE, "gwc", GATEWAY, "--type", "merge", "-p", patch)
        check("* spec.app.prot: " in said and "* spec.storage.redis.host: " in said, "not every violation is named")
        callers.first(BIG, since=time.monotonic(), within_seconds=5)
        callers.stop()
        _check_unharmed(callers)
        check(revision(show.current("ConfigMap", f"{GATEWAY}-config")) == before, "a document was written")
        show.screen.seen("All violations at once, nothing was stored, and callers are answered as before.")


def _install_webhook(show: Show) -> None:
    """Start the webhook and wait until the API server asks it."""
    show.screen.command(f"{' '.join(f'{name}={value}' for name, value in LOOPBACK.items())} aigateway webhook")
    door = show.open_door()
    printed = aigateway(
        show.plane, "webhook", "--print-configuration", "--url", door.url, "--lease-namespace", "aigateway-system"
    )
    shown = f"aigateway webhook --print-configuration --url {door.url} | kubectl apply --server-side -f -"
    show.screen.output(show.kubectl("apply", "--server-side", "-f", "-", input=printed, shown=shown))
    started = time.monotonic()
    path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{NAMESPACE}/gatewayconfigs/{GATEWAY}?dryRun=All"
    while True:
        tried = show.plane.request("PATCH", path, {"spec": {"app": {"prot": 1}}}, content_type="application/merge-patch+json")
        if tried.status == 422:  # until it is trusted, the API server answers 200 (not asked yet) or 500 (cannot be asked)
            break
        check(time.monotonic() < started + 15, f"the webhook is not asked: HTTP {tried.status} {tried.body.get('message', '')}")
        time.sleep(0.05)
    show.screen.seen(
        "The operator has made its certificate and told the API server to trust it.", (time.monotonic() - started) * 1000
    )


def rotate_caller_key(show: Show) -> None:
    """The caller's key rotated: the old one is refused, the new one accepted, by both pods."""
    with show.step("The caller's key rotated") as row:
        front, value = show.front, f"rotated-{secrets.token_hex(8)}"
        shown = {"stringData": {MODEL: "<the new key>"}}
        edit = show.edit("Secret", "front-callers", {"stringData": {MODEL: value}}, shown=shown)
        deadline = time.monotonic() + 10
        while any(front.call(pod, value).status != 200 for pod in front.pods):
            check(time.monotonic() < deadline, "the new key is not accepted by every pod within 10 s")
        at = time.monotonic()
        old = [front.call(pod, CALLER_KEY).status for pod in front.pods]
        check(old == [401, 401], f"the old key is answered {old}")
        show.timed(row, "The new key is accepted, the old one answered 401.", measured=KEY_TAKEN, edit=edit, at=at)
        show.screen.say("And back:")
        shown = {"stringData": {MODEL: "<the first key>"}}
        restored = show.edit("Secret", "front-callers", {"stringData": {MODEL: CALLER_KEY}}, shown=shown)
        while any(front.call(pod).status != 200 for pod in front.pods):
            check(time.monotonic() < restored.answered + 10, "the key is not accepted by every pod within 10 s")
        logs = "".join(pod.log for pod in front.pods) + show.operator.log.read_text(errors="replace")
        check(value not in logs and CALLER_KEY not in logs, "a key stands in a log")
        show.screen.seen("Neither key stands in a log of the pods or the operator.")


def store_away(show: Show) -> None:
    """A datastore stopped and back: status and health say so, and requests go on."""
    with show.step("A datastore stopped, and back") as row, show.front.calling() as callers:
        front = show.front
        show.feed.wait("GatewayConfig", GATEWAY, lambda obj: condition(obj, "DatastoresReady").get("status") == "True")
        show.screen.command(f"kill -9 {front.redis.pid}    # Redis")
        stopped = time.monotonic()
        front.redis.kill()
        seen = show.feed.wait("GatewayConfig", GATEWAY, _datastores("False"), since=stopped, within_seconds=15)
        said = condition(seen.object, "DatastoresReady")
        show.screen.quote(f"gwc/{GATEWAY}  DatastoresReady=False  {said['reason']}: {said['message']}")
        check(condition(seen.object, "Ready").get("status") == "True", "Ready is not True any more")
        row.measured, row.took_ms = "store killed → status says so", (seen.at - stopped) * 1000
        show.screen.seen("Ready stays True: a store decides nothing for callers.", row.took_ms)
        _wait_health(show, "degraded")
        front.redis.restart()
        back = time.monotonic()
        seen = show.feed.wait("GatewayConfig", GATEWAY, _datastores("True"), since=back, within_seconds=15)
        show.screen.seen("It is back, and status says so.", (seen.at - back) * 1000)
        _wait_health(show, "healthy")
        callers.stop()
        _check_unharmed(callers)
        show.screen.seen(f"{sum(map(len, callers.answers.values()))} requests meanwhile, none failed.")


def _wait_health(show: Show, wanted: str) -> None:
    """Wait until both pods say that they are `wanted`."""
    deadline = time.monotonic() + 20
    while (found := [show.front.health(pod) for pod in show.front.pods]) and any(one["status"] != wanted for one in found):
        check(time.monotonic() < deadline, f"pods say {found}, expected {wanted}")
        time.sleep(0.1)
    show.screen.seen(f"/api/v1/health of both pods says {wanted}: {found[0]['services']}.")


def _check_unharmed(callers: Callers) -> None:
    failed = [one for answers in callers.answers.values() for one in answers if one.status != 200]
    check(not failed, f"{len(failed)} requests failed, the first one: {failed[:1]}")


def _is_proved(gateway: Object) -> bool:
    """Whether both pods have proved to run the gateway's revision."""
    return gateway["status"]["pods"] == "2/2" and condition(gateway, "Propagated").get("status") == "True"


def _is_proved_since(show: Show) -> Callable[[Object], bool]:
    def holds(gateway: Object) -> bool:
        config_map = show.current("ConfigMap", f"{GATEWAY}-config")
        flipped = entries(config_map)[MODEL]["current"] == "big"
        return flipped and gateway["status"]["revision"] == revision(config_map) and _is_proved(gateway)

    return holds


def _datastores(status: str) -> Callable[[Object], bool]:
    return lambda gateway: condition(gateway, "DatastoresReady").get("status") == status
