"""What comes back from one pod, and what it means for a target. Pure: no I/O, no clock.

A pod is believed only word for word: its maps must equal the target's, neither less nor more. What it says beyond numbers is
never repeated, since statuses are read by people and logged; only numbers and names that we know appear in the texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from aigateway_config.documents import DocumentState, StatusAnswer
from aigateway_operator.plan.proof import Target

MAX_REVISION_AHEAD: Final = 1_000_000
"""A pod that claims a number further ahead of ours than this is not counted from: counters must not be driven by a lie."""
MAX_RESTART_REQUIRED: Final = 16
_DOTTED_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_REASON: Final = re.compile(r"([A-Z][A-Za-z]{2,39})(?::|\s|$)")


@dataclass(frozen=True, slots=True)
class Answered:
    """The pod answered in the agreed form."""

    answer: StatusAnswer


@dataclass(frozen=True, slots=True)
class Misanswered:
    """Something answered on the port, but not in the agreed form. `text`: what is wrong, in words of ours."""

    text: str


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer came: it is unknown what the pod runs. `text`: why, in words of ours."""

    text: str


Outcome = Answered | Misanswered | Silent


def parse_answer(body: bytes) -> Answered | Misanswered:
    """Parse the body of a pod's answer."""
    try:
        return Answered(StatusAnswer.model_validate_json(body))
    except (ValidationError, ValueError, RecursionError):
        return Misanswered("answers with something that is not a status answer")


def difference(target: Target, answer: StatusAnswer) -> str | None:
    """Return in what an answer differs from the target, None if it is the same."""
    if answer.lineage is None:
        return _with_error("has not loaded a configuration yet", answer)
    if answer.lineage != target.lineage:
        return _with_error("runs documents of another GatewayConfig", answer)
    text = _documents(target.documents, answer.documents) or _credentials(target.credentials, answer.credentials)
    return None if text is None else _with_error(text, answer)


def highest_revisions(target: Target, answer: StatusAnswer) -> tuple[int, int]:
    """Return the highest revision of documents and of credentials that an answer of the target's lineage speaks of."""
    if answer.lineage != target.lineage:
        return 0, 0
    revision = max((state.revision for state in answer.documents.values()), default=0)
    credentials = max(answer.credentials.values(), default=0)
    return (
        revision if revision <= target.revision + MAX_REVISION_AHEAD else 0,
        credentials if credentials <= target.credentials_revision + MAX_REVISION_AHEAD else 0,
    )


def ahead(target: Target, answer: StatusAnswer) -> tuple[str, ...]:
    """Return the documents and credentials manifests of which a pod has a number that keeps it from taking up the target's.

    A reader never goes back within a lineage, and never takes another content of the number that it has. Claims beyond
    MAX_REVISION_AHEAD are left out.
    """
    if answer.lineage != target.lineage:
        return ()
    found = []
    for file, (revision, digest) in target.documents.items():
        state = answer.documents.get(file)
        if state is not None and _is_ahead(state.revision, revision, same=state.digest == digest):
            found.append(file)
    for file, revision in target.credentials.items():
        if _is_ahead(answer.credentials.get(file, 0), revision, same=True):
            found.append(file)
    return tuple(sorted(found))


def _is_ahead(said: int, wanted: int, *, same: bool) -> bool:
    return wanted < said <= wanted + MAX_REVISION_AHEAD or (said == wanted and not same)


def restart_required(answer: StatusAnswer) -> list[str]:
    """Return the dotted paths that the pod cannot take up, bounded; what is no path is left out."""
    return [path for path in answer.restart_required[:MAX_RESTART_REQUIRED] if _DOTTED_PATH.fullmatch(path)]


def _documents(wanted: Mapping[str, tuple[int, str]], said: Mapping[str, DocumentState]) -> str | None:
    for file, (revision, digest) in sorted(wanted.items()):
        state = said.get(file)
        if state is None:
            return f"has not loaded {file}"
        if state.revision != revision:
            return _number(file, "revision", state.revision, revision)
        if state.digest != digest:
            return f"runs {file} of revision {revision} with another content"
    if said.keys() - wanted.keys():
        return "runs documents that this gateway does not have"
    return None


def _credentials(wanted: Mapping[str, int], said: Mapping[str, int]) -> str | None:
    for file, revision in sorted(wanted.items()):
        if file not in said:
            return f"has not loaded the credentials of {file}"
        if said[file] != revision:
            return _number(file, "credentials revision", said[file], revision)
    if said.keys() - wanted.keys():
        return "runs credentials that this gateway does not have"
    return None


def _number(file: str, kind: str, said: int, wanted: int) -> str:
    if said > wanted:
        return (
            f"claims {kind} {said} of {file}, which is newer than {wanted}" if said < 2**53 else f"claims a {kind} beyond all"
        )
    return f"runs {kind} {said} of {file}, not {wanted}"


def _with_error(text: str, answer: StatusAnswer) -> str:
    """Add the reason that the pod gives, if it is one CamelCase word: anything longer could hold anything."""
    match = _REASON.match(answer.error or "")
    return text if match is None else f"{text} ({match[1]})"
