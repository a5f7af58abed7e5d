"""What is said while the API server refuses a gateway's documents: a quota, an admission policy, a missing right. Pure.

Only what would have been new is told: who is served as before stays as it is. Called by `reconcile.controller`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from aigateway_operator.api.conditions import ConditionType, Reason, Verdict
from aigateway_operator.api.meta import GATEWAY_CONFIG
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.plan.snapshot import Snapshot, Stored
from aigateway_operator.plan.told import verdict_told

_NOT_FIELDS = frozenset({"conditions", "observedGeneration"})


def refused(snapshot: Snapshot, statuses: Iterable[StatusWrite], text: str) -> Iterator[StatusWrite]:
    """Yield `statuses`, made as if the documents had been written, as they are after they were refused. `text`: by what.

    Fields keep what they said: revisions and names that pods do run.
    """
    message = f"The documents were refused: {text}. Pods keep what they have; the operator tries again."
    programmed = Verdict(ConditionType.PROGRAMMED, "False", Reason.WRITE_REFUSED, message)
    for status in statuses:
        stored = snapshot.gateway if status.kind == GATEWAY_CONFIG else snapshot.models.get(status.name)
        said = {verdict.type: verdict for verdict in status.verdicts}
        if stored is None or said[ConditionType.PROGRAMMED].status != "True":
            yield status
        elif status.kind == GATEWAY_CONFIG or not _is_programmed(stored):
            yield replace(status, verdicts=tuple(_with(said, programmed, stored)), fields=_fields(stored))


def _with(said: Mapping[ConditionType, Verdict], programmed: Verdict, stored: Stored) -> Iterator[Verdict]:
    for kind, verdict in said.items():
        if kind is ConditionType.PROGRAMMED:
            yield programmed
        elif kind is ConditionType.PROPAGATED:
            # Pods have not been asked about anything else.
            yield verdict_told(stored.parse_status(), kind) or verdict
        elif kind is ConditionType.READY and verdict.status == "True":
            yield replace(programmed, type=kind)
        else:
            yield verdict


def _fields(stored: Stored) -> dict[str, object]:
    return {name: value for name, value in stored.parse_status().items() if name not in _NOT_FIELDS}


def _is_programmed(stored: Stored) -> bool:
    """Tell whether status says so of this very generation."""
    return any(
        condition.get("type") == ConditionType.PROGRAMMED
        and condition.get("status") == "True"
        and condition.get("observedGeneration") == stored.generation
        for condition in stored.parse_status().get("conditions") or []
    )
