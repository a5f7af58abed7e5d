"""Acts in which all goes well: manifests become documents, and every kind of edit reaches them.

Each asserts what it shows. Called by `__main__`, in order.
"""

from __future__ import annotations

import base64
import json
import secrets
import time

from hack.demo.show import (
    NAMESPACE,
    Edit,
    Show,
    check,
    condition,
    document,
    entries,
    is_ready,
    line_of,
    revision,
)

EXAMPLE = "examples/01-quickstart"
WRITTEN = "edit answered → ConfigMap written"
GATEWAYS = {
    "main": {"chat", "reasoning", "embeddings", "org/Chat_v2.1"},
    "internal": {"code", "summaries"},
}
"""What the example serves: public model names by gateway."""
MODELS = ("chat", "reasoning", "embeddings", "org-chat", "code", "summaries")


def apply_manifests(show: Show) -> None:
    """Two gateways with six models: from `kubectl apply` to documents."""
    with show.step("Two gateways and six models become documents") as row:
        show.screen.output(show.kubectl("apply", "-f", f"{EXAMPLE}/"))
        edit = Edit(time.monotonic(), time.monotonic())
        ready = [show.feed.wait("GatewayConfig", name, is_ready, within_seconds=20) for name in GATEWAYS]
        ready += [show.feed.wait("VirtualModel", name, is_ready, within_seconds=20) for name in MODELS]
        at = max(seen.at for seen in ready)
        show.timed(row, "All eight are Ready.", measured="kubectl apply returned → all Ready", edit=edit, at=at)
        show.screen.output(show.kubectl("get", "gwc,vmodel", "-n", NAMESPACE))
        for gateway, served in GATEWAYS.items():
            found = set(entries(show.current("ConfigMap", f"{gateway}-config")))
            check(found == served, f"gateway {gateway} serves {sorted(found)}, expected {sorted(served)}")
        show.screen.say("What pods of gateway `main` read: one model a line, one section a line.")
        show.screen.command("kubectl get configmap main-config -n ai -o jsonpath='{.data.config\\.yml}'")
        show.screen.output(document(show.current("ConfigMap", "main-config")))
        _check_no_secret(show)
        show.screen.seen("Documents name credentials files (`callers.chat`); no value of any Secret stands in them.")


def _check_no_secret(show: Show) -> None:
    """Look for every value of every Secret of the example in every document."""
    documents = [json.dumps(show.current("ConfigMap", f"{gateway}-config")) for gateway in GATEWAYS]
    for name in ("openai", "openai-eu", "callers", "mongodb"):
        for key, encoded in show.current("Secret", name)["data"].items():
            value = base64.b64decode(encoded).decode()
            check(not any(value in text for text in documents), f"the value of {name}/{key} stands in a document")


def switch_current(show: Show) -> None:
    """An edit of `current`: one line of the document changes."""
    with show.step("`current` switched: the other backend serves") as row:
        before = show.current("ConfigMap", "main-config")
        show.screen.say("An edit that is timed goes as one HTTPS request; kubectl alone would take 0.1 s to start.")
        edit = show.edit("VirtualModel", "chat", {"spec": {"current": "big"}})
        seen = show.feed.wait("ConfigMap", "main-config", lambda obj: entries(obj)["chat"]["current"] == "big", since=edit.sent)
        old, new = document(before), document(seen.object)
        changed = [pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]]
        check(len(old) == len(new) and len(changed) == 1, "more than one line of the document changed")
        show.screen.change(*changed[0])
        check(revision(seen.object) > revision(before), "the revision did not move")
        text = f"One line changed, revision {revision(before)} → {revision(seen.object)}."
        show.timed(row, text, measured=WRITTEN, edit=edit, at=seen.at)
        show.feed.wait("VirtualModel", "chat", is_ready, since=edit.sent)
        show.screen.seen("Status says so: Ready for this generation.")


def switch_off(show: Show) -> None:
    """`use: false`: the entry stays and says off."""
    with show.step("A model switched off") as row:
        before = line_of(show.current("ConfigMap", "main-config"), "reasoning")
        edit = show.edit("VirtualModel", "reasoning", {"spec": {"use": False}})
        seen = show.feed.wait(
            "ConfigMap", "main-config", lambda obj: entries(obj)["reasoning"]["use"] is False, since=edit.sent
        )
        show.screen.change(before, line_of(seen.object, "reasoning"))
        text = "It stays in the document as off, so that callers get 404 model_not_found and not a stale answer."
        show.timed(row, text, measured=WRITTEN, edit=edit, at=seen.at)
        show.feed.wait(
            "GatewayConfig", "main", lambda obj: obj.get("status", {}).get("models", {}).get("off") == 1, since=edit.sent
        )
        show.screen.seen("GatewayConfig main counts it: models.off is 1.")


def rotate_secret(show: Show) -> None:
    """A Secret's value changes: credentials follow, documents do not change."""
    with show.step("A Secret rotated") as row:
        documents_before = show.current("ConfigMap", "main-config")["metadata"]["resourceVersion"]
        before = _credentials_revision(show.current("Secret", "main-credentials"))
        value = f"rotated-{secrets.token_hex(8)}"
        shown = {"stringData": {"chat": "<the new key>"}}
        edit = show.edit("Secret", "callers", {"stringData": {"chat": value}}, shown=shown)
        wanted = base64.b64encode(value.encode()).decode()
        seen = show.feed.wait("Secret", "main-credentials", lambda obj: obj["data"].get("callers.chat") == wanted)
        after = _credentials_revision(seen.object)
        show.screen.say("The Secret that is mounted beside the documents holds, by name:")
        show.screen.quote(", ".join(sorted(seen.object["data"])))
        check(after > before, "the credentials revision did not move")
        text = f"callers.chat has the new value, credentials revision {before} → {after}; no value is shown or logged."
        show.timed(row, text, measured="edit answered → credentials written", edit=edit, at=seen.at)
        unchanged = show.current("ConfigMap", "main-config")["metadata"]["resourceVersion"] == documents_before
        check(unchanged, "the document was written although nothing in it changed")
        check(value not in show.operator.log.read_text(errors="replace"), "the new key stands in the operator's log")
        show.screen.seen("The document was not written again.")


def _credentials_revision(secret: dict[str, dict[str, str]]) -> int:
    return int(json.loads(base64.b64decode(secret["data"]["_manifest.json"]))["credentialsRevision"])


def restore_by_hand_edited(show: Show) -> None:
    """Somebody edits a generated ConfigMap: it is put right."""
    with show.step("A generated ConfigMap edited by hand is put right") as row:
        good = document(show.current("ConfigMap", "main-config"))
        edit = show.edit("ConfigMap", "main-config", {"data": {"config.yml": "{}", "extra": "by hand"}})
        seen = show.feed.wait(
            "ConfigMap", "main-config", lambda obj: document(obj) == good and "extra" not in obj["data"], since=edit.sent
        )
        text = "The document is as it was, and the added key is gone."
        show.timed(row, text, measured="edit answered → ConfigMap restored", edit=edit, at=seen.at)


def delete_model(show: Show) -> None:
    """A VirtualModel deleted: its entry goes, the others stay as they are."""
    with show.step("A model deleted") as row:
        before = entries(show.current("ConfigMap", "main-config"))
        edit = show.delete("VirtualModel", "embeddings")
        seen = show.feed.wait("ConfigMap", "main-config", lambda obj: "embeddings" not in entries(obj), since=edit.sent)
        del before["embeddings"]
        check(entries(seen.object) == before, "another model changed with it")
        text = f"Its entry is gone; {', '.join(before)} are as they were."
        show.timed(row, text, measured="deletion answered → ConfigMap written", edit=edit, at=seen.at)


def delete_gateway(show: Show) -> None:
    """A GatewayConfig deleted: what it owned is collected, its models say what they lack."""
    with show.step("A gateway deleted") as row:
        edit = show.delete("GatewayConfig", "internal")
        gone = [show.feed.wait_gone("ConfigMap", "internal-config", since=edit.sent, within_seconds=40)]
        gone.append(show.feed.wait_gone("Secret", "internal-credentials", since=edit.sent, within_seconds=40))
        at = max(seen.at for seen in gone)
        text = "Kubernetes' garbage collector removed its ConfigMap and credentials: they carry its owner reference."
        show.timed(row, text, measured="deletion answered → all it owned is gone", edit=edit, at=at)
        waiting = show.feed.wait("VirtualModel", "code", lambda obj: condition(obj, "Accepted").get("status") == "False")
        accepted = condition(waiting.object, "Accepted")
        check(accepted["reason"] == "GatewayNotFound", f"its models say {accepted}")
        show.screen.quote(f"vmodel/code  {accepted['reason']}: {accepted['message']}")
        show.screen.seen("Its models wait for a gateway of that name, and say so.")
