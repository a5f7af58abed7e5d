"""The answer of a pod whose processes may differ: that of its slowest worker. Pure; called by `status`.

The operator believes a pod only if the answer equals its target, so whatever workers disagree about must come out as
something that equals no target: a document or manifest that only some of them run stands with revision 0, and a document
with an empty digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aigateway_config.documents import DocumentState, StatusAnswer

NOTHING_YET: Final = StatusAnswer(
    lineage=None,
    documents={},
    credentials={},
    credentials_revision=None,
    loaded_at=None,
    restart_required=[],
    error=None,
)
"""What a process answers before its first configuration."""

DISPUTED: Final = DocumentState(revision=0, digest="")
"""A document that not all workers run; no operator ever wrote a revision 0."""

MAX_ERROR_CHARACTERS: Final = 2_000


def slowest(answers: Mapping[str, StatusAnswer]) -> StatusAnswer:
    """Return what holds of all workers at once; `answers` by worker, at least one, each with `loadedAt` in UTC.

    Documents and credentials: the lowest revision. A worker of another lineage runs none of the documents of the lineage
    that is named, which is that of the worker that loaded first; null while any worker has loaded nothing. Errors name
    their workers. Raises ValueError for no answer at all.
    """
    if len(answers) == 1:
        return next(iter(answers.values()))
    workers = list(answers.values())
    first = min(workers, key=lambda answer: (answer.loaded_at or "", answer.lineage or ""))
    peers = [answer if answer.lineage == first.lineage else NOTHING_YET for answer in workers]
    revisions = [answer.credentials_revision for answer in peers]
    return StatusAnswer(
        lineage=first.lineage,
        documents={name: _lowest([peer.documents.get(name) for peer in peers]) for name in _names(workers, "documents")},
        credentials={name: min(peer.credentials.get(name, 0) for peer in peers) for name in _names(workers, "credentials")},
        credentials_revision=None if None in revisions else min(value for value in revisions if value is not None),
        loaded_at=first.loaded_at,
        restart_required=sorted({path for answer in workers for path in answer.restart_required}),
        error=_errors(answers),
    )


def _names(workers: Sequence[StatusAnswer], kind: str) -> list[str]:
    return sorted({name for answer in workers for name in getattr(answer, kind)})


def _lowest(states: Sequence[DocumentState | None]) -> DocumentState:
    found = [state for state in states if state is not None]
    if len(found) < len(states):
        return DISPUTED
    lowest = min(found, key=lambda state: state.revision)
    same = {state.digest for state in found if state.revision == lowest.revision}
    return lowest if len(same) == 1 else DocumentState(revision=lowest.revision, digest="")


def _errors(answers: Mapping[str, StatusAnswer]) -> str | None:
    texts = [f"worker {name}: {answer.error}" for name, answer in sorted(answers.items()) if answer.error is not None]
    return "; ".join(texts)[:MAX_ERROR_CHARACTERS] if texts else None
