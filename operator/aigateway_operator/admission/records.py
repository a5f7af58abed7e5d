"""A verdict as an operation record: who asked for what, what was answered, and what differs field by field.

Pure. A record of an edit that was let in is `pending`: anyone in the cluster can post a review, and the API server may still
refuse the edit after us, so only the controller's record of the same trace says that it was stored. Called by `server`.
Source: docs/audit.md#what-is-recorded, #outcomes.
"""

from __future__ import annotations

from typing import Any, Final

from aigateway_logs import OperationRecord, trace_of_generation
from aigateway_operator.admission.request import CREATE, DELETE, ReviewRequest
from aigateway_operator.admission.verdict import Verdict
from aigateway_operator.audit import ChangeType, change_summary, field_changes

SOURCE: Final = "webhook"
_MAX_GROUPS: Final = 32
_MAX_CAUSES: Final = 32
_TYPES: Final[dict[str, ChangeType]] = {CREATE: "create", DELETE: "delete"}


def admission_record(request: ReviewRequest, verdict: Verdict, duration_ms: float) -> OperationRecord:
    """Return the record of one decision. Raises what hostile objects may bring about; the caller goes on without."""
    change_type = _TYPES.get(request.operation, "update")
    changes = [] if change_type == "delete" else field_changes(request.old.get("spec"), request.new.get("spec"))
    summary = change_summary(change_type, changes)
    refused = verdict.status is not None
    before, after = _generation(request.old), _generation(request.new)
    stays = request.dry_run or (change_type == "update" and before == after)
    word = "refused" if refused else "allowed"
    return OperationRecord(
        "admission",
        f"{request.operation} of {request.kind} {request.namespace}/{request.name} by {request.username} was {word}",
        status="failure" if refused else "success" if stays else "pending",
        level="WARNING" if refused else "INFO",
        source=SOURCE,
        user_id=request.username,
        resource_type=request.kind,
        resource_id=f"{request.namespace}/{request.name}",
        duration_ms=round(duration_ms, 3),
        request_data={
            "verb": request.operation,
            "groups": list(request.groups[:_MAX_GROUPS]),
            "dry_run": request.dry_run,
            "review": request.uid,
        },
        response_data=_answer(verdict),
        metadata={
            "change_type": change_type,
            "change_summary": summary,
            "previous_version": before,
            "new_version": after,
            "changed_by": request.username,
            "changes": changes,
        },
        trace_id=_trace(request),
    )


def _answer(verdict: Verdict) -> dict[str, Any]:
    status = verdict.status or {}
    causes = status.get("details", {}).get("causes", [])
    return {
        "allowed": verdict.status is None,
        "verdict": verdict.outcome,
        "code": status.get("code"),
        "violations": [{"path": cause["field"], "message": cause["message"]} for cause in causes[:_MAX_CAUSES]],
        "warnings": list(verdict.warnings),
    }


def _trace(request: ReviewRequest) -> str | None:
    """Return the id that the controller computes as well; None where the object lacks what it is made of."""
    metadata = (request.new or request.old)["metadata"]
    uid, generation = metadata.get("uid"), metadata.get("generation")
    return trace_of_generation(uid, generation) if isinstance(uid, str) and isinstance(generation, int) else None


def _generation(obj: dict[str, Any]) -> int | None:
    generation = obj["metadata"].get("generation") if obj else None
    return generation if isinstance(generation, int) else None
