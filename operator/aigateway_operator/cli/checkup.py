"""What `doctor` says of one thing: fine, doubtful or wrong, with the remedy; as a table or as data for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, TextIO

from aigateway_operator.cli.output import paint


class State(StrEnum):
    """How a check ended."""

    FINE = "fine"
    DOUBT = "warning"  # it may be meant so, or could not be looked at
    WRONG = "wrong"


SIGNS: Final = {State.FINE: ("✓", "green"), State.DOUBT: ("⚠", "yellow"), State.WRONG: ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Check:
    """One row. subject: what was looked at; message: what is so; remedy: what to do, "" where nothing is to be done."""

    area: str
    subject: str
    state: State
    message: str
    remedy: str = ""


def fine(area: str, subject: str, message: str) -> Check:
    """Return a row on something that is as it should be."""
    return Check(area, subject, State.FINE, message)


def doubt(area: str, subject: str, message: str, remedy: str = "") -> Check:
    """Return a row on something that may be meant so, or that could not be looked at."""
    return Check(area, subject, State.DOUBT, message, remedy)


def wrong(area: str, subject: str, message: str, remedy: str) -> Check:
    """Return a row on a fault."""
    return Check(area, subject, State.WRONG, message, remedy)


def as_data(checks: Sequence[Check]) -> dict[str, Any]:
    """Return all rows for `-o json|yaml`."""
    return {
        "checks": [asdict(check) for check in checks],
        "wrong": count(checks, State.WRONG),
        "warnings": count(checks, State.DOUBT),
    }


def count(checks: Iterable[Check], state: State) -> int:
    """Return how many ended so."""
    return sum(check.state is state for check in checks)


def table(checks: Sequence[Check], stream: TextIO) -> Iterator[str]:
    """Yield the lines for people: a row each, the remedy below it, and a sum."""
    area_width = max(len(check.area) for check in checks)
    subject_width = min(44, max(len(check.subject) for check in checks))
    for check in checks:
        sign, colour = SIGNS[check.state]
        yield f"{paint(sign, colour, stream)} {check.area:<{area_width}}  {check.subject:<{subject_width}}  {check.message}"
        if check.remedy:
            yield f"  {'':<{area_width}}  {'':<{subject_width}}  {paint(f'→ {check.remedy}', colour, stream)}"
    states = ((State.FINE, "fine"), (State.DOUBT, "to look at"), (State.WRONG, "wrong"))
    yield ""
    yield ", ".join(f"{count(checks, state)} {text}" for state, text in states) + "."
