"""The status of a pod as a kubelet writes it, from what its containers do. Pure.

`lastTransitionTime` moves only when a condition's status does. Called by `hack.node.pod`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

JsonObject = dict[str, Any]


@dataclass(slots=True)
class ContainerState:
    """What one container does. `exit_code` is its last one, None before it has ended once; `reason` says why it waits."""

    name: str
    image: str
    phase: Literal["waiting", "running", "terminated"] = "waiting"
    started_at: str | None = None
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None
    reason: str = "ContainerCreating"
    message: str = ""

    def as_status(self) -> JsonObject:
        """Return an entry of `containerStatuses`."""
        return {
            "name": self.name, "image": self.image, "imageID": f"stand-in:{self.image}", "ready": self.ready,
            "started": self.phase == "running", "restartCount": self.restarts, "state": {self.phase: self._state()},
        }  # fmt: skip

    def _state(self) -> JsonObject:
        if self.phase == "running":
            return {"startedAt": self.started_at}
        if self.phase == "terminated":
            reason = "Completed" if self.exit_code == 0 else "Error"
            times = {"startedAt": self.started_at, "finishedAt": rfc3339()} if self.started_at else {}
            return {"exitCode": self.exit_code, "reason": reason, **times}
        return {"reason": self.reason, **({"message": self.message} if self.message else {})}


def pod_status(
    before: Mapping[str, Any], ip: str, phase: str, containers: Sequence[ContainerState], initial: Sequence[ContainerState],
) -> JsonObject:  # fmt: skip
    """Return the whole status; `before` is the last one, {} at first."""
    initialized = all(one.phase == "terminated" and one.exit_code == 0 for one in initial)
    ready = phase == "Running" and initialized and all(one.ready for one in containers)
    finished = phase == "Succeeded"
    truths = {
        "PodScheduled": True,
        "Initialized": initialized or finished,
        "ContainersReady": ready,
        "Ready": ready,
    }
    old = {one["type"]: one for one in before.get("conditions") or []}
    status: JsonObject = {
        "phase": phase,
        "startTime": before.get("startTime") or rfc3339(),
        "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [_condition(kind, truth, old.get(kind)) for kind, truth in truths.items()],
        "containerStatuses": [one.as_status() for one in containers],
    }  # fmt: skip
    if initial:
        status["initContainerStatuses"] = [one.as_status() for one in initial]
    return status


def _condition(kind: str, truth: bool, old: Mapping[str, Any] | None) -> JsonObject:
    text = "True" if truth else "False"
    since = old["lastTransitionTime"] if old is not None and old["status"] == text else rfc3339()
    return {"type": kind, "status": text, "lastTransitionTime": since}


def rfc3339() -> str:
    """Return the time now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
