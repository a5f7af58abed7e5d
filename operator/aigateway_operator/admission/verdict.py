"""What is answered: a verdict as a value, and as the AdmissionReview that the API server reads.

Pure. HTTP codes of refusals stand here and nowhere else. A broken rule is 422 Invalid with causes, of which kubectl prints
each on a line of its own and nothing else; a deletion that is refused is 403 Forbidden, of which it prints the message:
`The VirtualModel "chat" is invalid` would be untrue.

Source: docs/admission.md#what-users-see; docs/measured.md#what-kubectl-prints-of-a-refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from aigateway_operator.admission.request import REVIEW_KIND, REVIEW_VERSION, ReviewRequest
from aigateway_operator.api.meta import GROUP
from aigateway_operator.rules import Violation
from aigateway_operator.rules.violation import shown

ALLOWED: Final = "allowed"
WARNED: Final = "warned"
REFUSED: Final = "refused"
MALFORMED: Final = "malformed"
_UNPROCESSABLE: Final = 422
_FORBIDDEN: Final = 403
_BAD_REQUEST: Final = 400
MAX_WARNINGS: Final = 16
_MAX_WARNING: Final = 119
"""Characters of one warning: some clients cut at 120 (Kubernetes asks for less than that)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one request: allowed if `status` is None. `warnings` are shown to the user in either case."""

    status: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """One word for metrics: `allowed`, `warned` (allowed with warnings) or `refused`."""
        if self.status is not None:
            return REFUSED
        return WARNED if self.warnings else ALLOWED


_PLAIN: Final = Verdict()


def refuse_edit(request: ReviewRequest, violations: Sequence[Violation], warnings: Sequence[str]) -> Verdict:
    """Refuse with all `violations`, as causes and, for clients that show the message only, as one text."""
    rules = "a rule" if len(violations) == 1 else f"{len(violations)} rules"
    listed = "; ".join(str(violation).removesuffix(".") for violation in violations)
    message = f"{request.kind} '{shown(request.name)}' breaks {rules}: {listed}."
    return Verdict(_status(request, _UNPROCESSABLE, "Invalid", message, violations), _fitting(warnings))


def refuse_deletion(request: ReviewRequest, violations: Sequence[Violation]) -> Verdict:
    """Refuse a deletion; each violation's message is a whole sentence."""
    message = " ".join(violation.message for violation in violations)
    return Verdict(_status(request, _FORBIDDEN, "Forbidden", message, violations))


def allow(warnings: Sequence[str] = ()) -> Verdict:
    """Allow, with warnings to show."""
    return Verdict(None, _fitting(warnings)) if warnings else _PLAIN


def answer(uid: str, verdict: Verdict) -> bytes:
    """Return the AdmissionReview that carries `verdict` for the request `uid`."""
    response: dict[str, Any] = {"uid": uid, "allowed": verdict.status is None}
    if verdict.status is not None:
        response["status"] = verdict.status
    if verdict.warnings:
        response["warnings"] = verdict.warnings
    return orjson.dumps({"apiVersion": REVIEW_VERSION, "kind": REVIEW_KIND, "response": response})


def answer_malformed(uid: str, reason: str) -> bytes:
    """Return the refusal of a review that has a uid but is not one of ours."""
    status = {"code": _BAD_REQUEST, "reason": "BadRequest", "message": f"This review cannot be answered: {reason}"}
    return answer(uid, Verdict(status))


def _status(request: ReviewRequest, code: int, reason: str, message: str, violations: Sequence[Violation]) -> dict[str, Any]:
    causes = [{"reason": found.reason.value, "field": found.path, "message": found.message} for found in violations]
    details = {"group": GROUP, "kind": request.kind, "name": request.name, "causes": causes}
    return {"code": code, "reason": reason, "message": message, "details": details}


def _fitting(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return the first warnings, each cut to what clients show; the API server drops them all beyond 4 KiB."""
    return tuple(text if len(text) <= _MAX_WARNING else f"{text[: _MAX_WARNING - 1]}…" for text in warnings[:MAX_WARNINGS])
