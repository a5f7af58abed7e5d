"""What a stored status says of one condition, as the verdict that it was. Pure.

A status is anybody's: an older or newer version of the operator may have written it. Called by `health_status`, `propagation`
and `refusal`, which keep what was said until they know better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aigateway_operator.api.conditions import REASONS, ConditionType, Reason, Verdict


def verdict_told(status: Mapping[str, Any], kind: ConditionType, generation: int | None = None) -> Verdict | None:
    """Return the condition of this kind; None where there is none, or one that is not of our form or of another version.

    generation: the only one of which it may speak; None: it may speak of any.
    """
    for condition in status.get("conditions") or []:
        if condition.get("type") == kind and generation in (None, condition.get("observedGeneration")):
            reason, said = condition.get("reason"), condition.get("status")
            return Verdict(kind, said, Reason(reason), condition.get("message", "")) if said and reason in REASONS else None
    return None
