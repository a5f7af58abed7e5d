"""Reading the status of an object: its conditions, how old they are, and whether they speak of its present generation.

Pure; tolerant of any shape, since a status may be empty or somebody else's. Called by `status` and `wait`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aigateway_operator.api.conditions import ConditionType, Reason

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `current` tells whether it speaks of the object as it is now; `since` is None where it never moved."""

    type: str
    status: str
    reason: str
    message: str
    current: bool
    since: datetime | None

    @property
    def true(self) -> bool:
        """Whether it is True of the object as it is now."""
        return self.current and self.status == "True"


def condition_of(obj: Mapping[str, Any], condition: str) -> Condition:
    """Return one condition of an object; Unknown and Pending where it is not there."""
    for found in conditions_of(obj):
        if found.type == condition:
            return found
    return Condition(condition, "Unknown", Reason.PENDING, "The operator has not looked at this object yet.", False, None)


def conditions_of(obj: Mapping[str, Any]) -> list[Condition]:
    """Return all conditions of an object."""
    generation = obj["metadata"].get("generation", 0)
    listed = status_of(obj).get("conditions")
    found = []
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict):
            kind, status, reason, message = (str(item.get(key) or "") for key in ("type", "status", "reason", "message"))
            current = item.get("observedGeneration") == generation == status_of(obj).get("observedGeneration")
            found.append(Condition(kind, status, reason, message, current, parse_time(item.get("lastTransitionTime"))))
    return found


def status_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `status`, {} where there is none."""
    status = obj.get("status")
    return status if isinstance(status, dict) else {}


def whole(value: object) -> int | None:
    """Return a whole number of a status, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_time(value: object) -> datetime | None:
    """Return a time of the API server; None where it is absent, broken, or the placeholder of a fresh object (1970)."""
    try:
        time = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if time.tzinfo is None or time <= _NEVER else time


def state_of(obj: Mapping[str, Any]) -> str:
    """Return one word for an object: Deleting, Pending (this generation was not looked at), Ready, Off or NotReady."""
    if "deletionTimestamp" in obj["metadata"]:
        return "Deleting"
    ready = condition_of(obj, ConditionType.READY)
    if not ready.current:
        return "Pending"
    if not ready.true:
        return "NotReady"
    spec = obj.get("spec")
    return "Off" if isinstance(spec, dict) and spec.get("use") is False else "Ready"


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago something was, as kubectl writes it: 12s, 3m, 5h, 2d; - for never."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
