"""Argo CD's sync loop in small: what it applies, compares, waits for, retries and heals, as a shipped Application file says.

It applies with kubectl, as Argo CD does (server-side with `--force-conflicts` as manager `argocd-controller`, or
client-side), wave by wave, waiting for health by our Lua; finds differences by a dry run and by the three-way merge; retries
by the policy of the file, whose waits may be shortened by `pace`. It reads no repository: "Git" is a list of manifests that
a test edits. Source: Argo CD's gitops-engine (sync_context.go, diff.go) and docs/user-guide/auto_sync.md. Called by tests of
this folder.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import yaml

from hack.controlplane import ControlPlane
from tests.gitops.argolua import ArgoLua, Manifest
from tests.gitops.differences import last_applied, normalized, three_way

MANAGER = "argocd-controller"
TRACKING = "argocd.argoproj.io/tracking-id"
WAVE = "argocd.argoproj.io/sync-wave"
OURS = {"VirtualModel": "virtualmodels", "GatewayConfig": "gatewayconfigs"}
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Policy:
    """The parts of an Application that decide how it is synced; times in seconds."""

    name: str
    options: frozenset[str]
    prune: bool
    self_heal: bool
    limit: int
    duration: float
    factor: int
    longest: float

    @classmethod
    def of(cls, application: Manifest) -> Policy:
        """Read an Application."""
        sync = application["spec"]["syncPolicy"]
        backoff, automated = sync["retry"]["backoff"], sync["automated"]
        return cls(
            application["metadata"]["name"],
            frozenset(sync["syncOptions"]),
            automated.get("prune", False),
            automated.get("selfHeal", False),
            sync["retry"]["limit"],
            _seconds(backoff["duration"]),
            backoff["factor"],
            _seconds(backoff["maxDuration"]),
        )

    def wait_seconds(self, retry: int) -> float:
        """Return the wait before a retry, counted from 0 (types.go, NextRetryAt)."""
        return min(self.longest, self.duration * float(self.factor**retry))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh])", text)
    assert match, text
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Difference:
    """Something that is not as Git says: `how` it was found, and what would change, or why that cannot be told."""

    how: Literal["missing", "dry run", "three-way", "extra", "refused"]
    obj: str
    text: str = ""


@dataclass
class Attempt:
    """One sync: whether it succeeded, and what failed."""

    succeeded: bool
    message: str


@dataclass
class ArgoCD:
    """One Application; `git` is what its repository holds and may be edited, `destination` the namespace it works in."""

    plane: ControlPlane
    lua: ArgoLua
    policy: Policy
    destination: str
    git: list[Manifest]
    pace: float = 0.02
    patience_seconds: float = 20.0
    attempts: list[Attempt] = field(default_factory=list)

    # -- what there should be, and what there is

    def targets(self) -> list[Manifest]:
        """Return what Git holds, marked as this Application's, in the order of sync: wave, kind, name."""
        marked = [copy.deepcopy(obj) for obj in self.git]
        for obj in marked:
            meta = obj["metadata"]
            group = obj["apiVersion"].rpartition("/")[0]
            place = f"{group}/{obj['kind']}:{meta.get('namespace', '')}/{meta['name']}"
            meta["annotations"] = {**(meta.get("annotations") or {}), TRACKING: f"{self.policy.name}:{place}"}
        return sorted(marked, key=lambda obj: (_wave(obj), _rank(obj["kind"]), obj["metadata"]["name"]))

    def live(self, obj: Manifest) -> Manifest | None:
        """Return the live object, None if there is none or its kind is not known."""
        answer = self.plane.request("GET", self._path(obj))
        return dict(answer.body) if answer.status == 200 else None

    def extra(self) -> list[Manifest]:
        """Return live objects of our kinds that carry this Application's mark and are not in Git, the last wave first."""
        wanted = {_key(obj) for obj in self.targets()}
        found = []
        for kind, plural in OURS.items():
            answer = self.plane.request("GET", f"/apis/ai-gateway.io/v1alpha1/namespaces/{self.destination}/{plural}")
            for item in answer.body["items"] if answer.status == 200 else []:
                obj = {"apiVersion": "ai-gateway.io/v1alpha1", "kind": kind, **item}
                mark = (item["metadata"].get("annotations") or {}).get(TRACKING, "")
                if mark.startswith(f"{self.policy.name}:") and _key(obj) not in wanted:
                    found.append(obj)
        return sorted(found, key=lambda obj: -_wave(obj))

    def differences(self) -> list[Difference]:
        """Compare as Argo CD does: by a dry run where that is chosen, and by the three-way merge for our kinds, always."""
        found = [Difference("extra", "/".join(_key(obj))) for obj in self.extra()]
        for target in self.targets():
            live = self.live(target)
            name = "/".join(_key(target))
            if live is None:
                found.append(Difference("missing", name))
                continue
            if target["kind"] in OURS:
                changes = three_way(last_applied(live) or target, target, live)
                found += [Difference("three-way", name, changes)] if changes else []
            if self.server_side:
                found += self._by_dry_run(name, target, live)
        return found

    def _by_dry_run(self, name: str, target: Manifest, live: Manifest) -> list[Difference]:
        path = f"{self._path(target)}?dryRun=All&fieldManager={MANAGER}&force=true&fieldValidation=Strict"
        answer = self.plane.request("PATCH", path, target, content_type="application/apply-patch+yaml")
        if answer.status not in (200, 201):
            return [Difference("refused", name, answer.body["message"])]
        predicted = normalized(answer.body)
        if (now := normalized(live)) == predicted:
            return []
        again = self.live(target)  # what changed between the two requests is no difference
        if again is not None and normalized(again) == predicted:
            return []
        return [Difference("dry run", name, f"{json.dumps(now)} -> {json.dumps(predicted)}")]

    @property
    def server_side(self) -> bool:
        """Whether the Application asks for server-side apply."""
        return "ServerSideApply=true" in self.policy.options

    # -- making it so

    def reconcile(self) -> list[Difference]:
        """One round of the controller: compare, and sync if something differs and healing is on. Returns what differed."""
        found = self.differences()
        if found and self.policy.self_heal and all(one.how != "refused" for one in found):
            self.sync()
        return found

    def sync(self, before_attempt: Callable[[int], None] = lambda _: None) -> bool:
        """Sync, and retry by the policy. `before_attempt` is told the number of the attempt, from 0. True if one succeeded."""
        for number in range(self.policy.limit + 1):
            before_attempt(number)
            attempt = self.attempt()
            self.attempts.append(attempt)
            if attempt.succeeded:
                return True
            if number < self.policy.limit:
                time.sleep(self.policy.wait_seconds(number) * self.pace)
        return False

    def attempt(self) -> Attempt:
        """Sync once."""
        targets = self.targets()
        if "SkipDryRunOnMissingResource=true" not in self.policy.options and (missing := self._unknown_kinds(targets)):
            return Attempt(False, f"one or more objects failed to apply (dry run): {missing}")
        for wave in sorted({_wave(obj) for obj in targets}):
            members = [obj for obj in targets if _wave(obj) == wave]
            if refused := self._apply(members):
                return Attempt(False, refused)
            if unhealthy := self._await_health(members):
                return Attempt(False, unhealthy)
        return self._prune() if self.policy.prune else Attempt(True, "")

    def _unknown_kinds(self, targets: Iterable[Manifest]) -> str:
        brought = {obj["spec"]["names"]["kind"] for obj in targets if obj["kind"] == "CustomResourceDefinition"}
        kinds = {obj["kind"] for obj in targets if obj["apiVersion"].startswith("ai-gateway.io/")} - brought
        known = self.plane.request("GET", "/apis/ai-gateway.io/v1alpha1").status == 200
        return "" if known else ", ".join(f"no matches for kind {kind}" for kind in sorted(kinds))

    def _apply(self, objects: list[Manifest]) -> str:
        how = ["--server-side", "--force-conflicts"] if self.server_side else []
        text = yaml.safe_dump_all(objects)
        done = self.plane.kubectl("apply", *how, f"--field-manager={MANAGER}", "--validate=strict", "-f", "-", input=text)
        return "" if done.returncode == 0 else done.stderr.strip()

    def _await_health(self, objects: list[Manifest]) -> str:
        """Wait as between waves: Healthy goes on, Degraded fails, Progressing waits; other kinds than ours count as healthy."""
        waiting = [obj for obj in objects if obj["kind"] in OURS]
        deadline = time.monotonic() + self.patience_seconds
        said: Manifest = {}
        while waiting and time.monotonic() < deadline:
            live = self.live(waiting[0])
            said = {"status": "Missing", "message": ""} if live is None else self.lua.health(live)
            if said["status"] == "Degraded":
                return f"{'/'.join(_key(waiting[0]))}: {said['message']}"
            if said["status"] == "Healthy":
                waiting.pop(0)
            else:
                time.sleep(0.05)
        return f"waiting for healthy state of {'/'.join(_key(waiting[0]))}: {said['message']}" if waiting else ""

    def _prune(self) -> Attempt:
        """Delete what is no longer in Git, the last wave first, each wave gone before the next."""
        extra = self.extra()
        for wave in sorted({_wave(obj) for obj in extra}, reverse=True):
            for obj in (one for one in extra if _wave(one) == wave):
                answer = self.plane.request("DELETE", self._path(obj))
                if answer.status not in (200, 202, 404):
                    return Attempt(False, answer.body["message"])
            time.sleep(2 * self.pace)
        return Attempt(True, "")

    def _path(self, obj: Manifest) -> str:
        plural = {**OURS, **_PLURALS}[obj["kind"]]
        root = "/api/v1" if obj["apiVersion"] == "v1" else f"/apis/{obj['apiVersion']}"
        namespace = obj["metadata"].get("namespace")
        return f"{root}/{f'namespaces/{namespace}/' if namespace else ''}{plural}/{obj['metadata']['name']}"


_PLURALS = {
    kind: f"{kind.lower()}s"
    for kind in (
        "Namespace", "ServiceAccount", "Secret", "ConfigMap", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding",
        "Role", "RoleBinding", "Service", "Deployment", "PodDisruptionBudget", "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicyBinding",
    )
} | {"NetworkPolicy": "networkpolicies", "ValidatingAdmissionPolicy": "validatingadmissionpolicies"}  # fmt: skip
_ORDER = (
    "Namespace", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "Secret", "ConfigMap", "CustomResourceDefinition",
    "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service", "Deployment",
)  # fmt: skip


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _wave(obj: Manifest) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(WAVE, "0"))


def _key(obj: Manifest) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
