"""Acts in which somebody makes a mistake: what is refused, what is said, and that everything else goes on.

Each asserts what it shows. Called by `__main__`, in order.
"""

from __future__ import annotations

import json
from typing import Any

from hack.demo.acts_edits import WRITTEN
from hack.demo.show import NAMESPACE, Show, check, condition, entries, is_ready, line_of


def _model(name: str, base_url: str, current: str = "only") -> dict[str, Any]:
    """Return a VirtualModel of gateway `main` with one backend, `only`."""
    return {
        "apiVersion": "ai-gateway.io/v1alpha1",
        "kind": "VirtualModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "gatewayRef": {"name": "main"},
            "use": True,
            "current": current,
            "baseUrl": base_url,
            "proxyKeySecretRef": {"name": "callers", "key": "chat"},
            "backends": [{"name": "only", "model": "gpt-4o-mini", "apiKeySecretRef": {"name": "openai", "key": "api-key"}}],
        },
    }


def refused_at_the_door(show: Show) -> None:
    """What schema and CEL can judge, the API server refuses with nothing of ours running."""
    with show.step("A mistake refused at the door"):
        show.screen.say("A new model whose `current` names no backend:")
        manifest = _model("typo", "https://api.openai.com/v1", current="onyl")
        said = show.kubectl_refused("apply", "-f", "-", input=json.dumps(manifest), shown="kubectl apply -f typo.yaml")
        check("current" in said and "onyl" in said, "the message does not name the field and its value")
        check(not show.exists("VirtualModel", "typo"), "it was created nevertheless")
        show.screen.seen("Refused by the CRD itself, with field and reason; nothing was created.")


def broken_beside_good(show: Show) -> None:
    """A model that breaks a rule does not hold up the good one that comes with it."""
    with show.step("A model that breaks a rule, beside good ones"):
        show.screen.say("Two new models in one file; `leaky` would send its key over plain http to a public host:")
        good = _model("drafts", "https://api.openai.com/v1")
        bad = _model("leaky", "http://llm.example.com/v1")
        both = {"apiVersion": "v1", "kind": "List", "items": [bad, good]}
        lines = show.kubectl("apply", "-f", "-", input=json.dumps(both), shown="kubectl apply -f two-models.yaml")
        show.screen.output(lines)
        show.feed.wait("VirtualModel", "drafts", is_ready)
        refused = show.feed.wait("VirtualModel", "leaky", lambda obj: condition(obj, "Accepted").get("status") == "False")
        accepted = condition(refused.object, "Accepted")
        show.screen.quote(f"vmodel/leaky  Accepted=False  {accepted['reason']}: {accepted['message']}")
        check(accepted["reason"] == "Invalid", f"the reason is {accepted['reason']}")
        check("spec.baseUrl" in accepted["message"], "the message does not name the field")
        served = entries(show.current("ConfigMap", "main-config"))
        check({"drafts", "chat", "reasoning"} <= set(served), f"only {sorted(served)} are served")
        check("leaky" not in served, "the bad model is served")
        show.screen.seen(f"`leaky` says what is wrong and where; {', '.join(sorted(served))} are served.")


def invalid_edit_keeps_last_good(show: Show) -> None:
    """A served model stays served as it was last valid."""
    with show.step("An invalid edit of a served model keeps the last good version") as row:
        before = line_of(show.current("ConfigMap", "main-config"), "chat")
        edit = show.edit("VirtualModel", "chat", {"spec": {"baseUrl": "http://api.openai.com/v1"}})
        seen = show.feed.wait(
            "VirtualModel", "chat", lambda obj: condition(obj, "Accepted").get("status") == "False", since=edit.sent
        )
        programmed = condition(seen.object, "Programmed")
        show.screen.quote(f"vmodel/chat  Programmed=False  {programmed.get('reason')}: {programmed.get('message')}")
        check(programmed.get("reason") == "KeptLastGood", f"Programmed says {programmed}")
        check(line_of(show.current("ConfigMap", "main-config"), "chat") == before, "its entry changed")
        text = "Its entry in the document is the one from before, byte for byte."
        show.timed(row, text, measured="edit answered → status says so", edit=edit, at=seen.at)
        repair = show.edit("VirtualModel", "chat", {"spec": {"baseUrl": "https://api.openai.com/v1", "current": "small"}})
        after = show.feed.wait(
            "ConfigMap", "main-config", lambda obj: entries(obj)["chat"]["current"] == "small", since=repair.sent
        )
        show.feed.wait("VirtualModel", "chat", is_ready, since=repair.sent)
        show.screen.seen(f"Put right, it is taken up at once ({WRITTEN}).", max(0.0, after.at - repair.answered) * 1000)


def fixed_structure(show: Show) -> None:
    """A GatewayConfig's keys are neither removed nor added."""
    with show.step("The structure of a GatewayConfig is fixed") as row:
        show.screen.say("A key that pods have been told of is removed:")
        removal = '[{"op": "remove", "path": "/spec/app/debug"}]'
        said = show.kubectl_refused("patch", "-n", NAMESPACE, "gwc", "main", "--type", "json", "-p", removal)
        check("Cannot delete key 'debug' from spec.app. Structure is fixed." in said, "the message is another")
        check(show.current("GatewayConfig", "main")["spec"]["app"].get("debug") is False, "the key is gone")
        show.screen.seen("Refused by the CRD itself, with the remedy.")
        show.screen.say("A key that does not exist is added (the webhook, which comes later, would refuse this at the door):")
        before = show.current("ConfigMap", "main-config")["data"]
        edit = show.edit("GatewayConfig", "main", {"spec": {"app": {"prot": 9000}}})
        seen = show.feed.wait(
            "GatewayConfig", "main", lambda obj: condition(obj, "Accepted").get("status") == "False", since=edit.sent
        )
        accepted, programmed = condition(seen.object, "Accepted"), condition(seen.object, "Programmed")
        show.screen.quote(f"gwc/main  Accepted=False  {accepted['reason']}: {accepted['message']}")
        check("Cannot add new key 'prot' to fixed structure at spec.app" in accepted["message"], "the message is another")
        check(programmed["reason"] == "KeptLastGood", f"Programmed says {programmed}")
        check(show.current("ConfigMap", "main-config")["data"] == before, "documents changed")
        text = "Named, with the allowed keys and the closest one; pods keep the last valid settings."
        show.timed(row, text, measured="edit answered → status says so", edit=edit, at=seen.at)
        repair = show.edit("GatewayConfig", "main", {"spec": {"app": {"prot": None}}})
        show.feed.wait("GatewayConfig", "main", is_ready, since=repair.sent)
        show.screen.seen("Taken out again, the gateway is Ready.")
