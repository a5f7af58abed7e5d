"""Records → a timeline: each edit with who asked for it, what changed, and what became of it. Pure. Called by `cli.audit`.

Refused attempts share the trace of the edit that got through at last, since the generation did not move: so every admission
record is an entry of its own, and what follows belongs to the last one that was let in before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from aigateway_operator.api.meta import GATEWAY_CONFIG

Record = dict[str, Any]
REFUSED: Final = "refused"
PENDING: Final = "pending"
STORED: Final = "stored"
DRY_RUN: Final = "dry run"
UNCHANGED: Final = "unchanged"
NOT_ACCEPTED: Final = "not accepted"
ROLLED_OUT: Final = "rolled out"
NEWS: Final = "news"
_STATE_OF: Final = {"success": STORED, "failure": NOT_ACCEPTED}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that became of an edit."""

    time: datetime
    operation: str
    status: str
    message: str
    duration_ms: float | None = None


@dataclass(slots=True)
class Entry:
    """One edit, or one event of its own (`verb` is then the operation). `outcome`: see the constants.

    pending: let in by admission and not seen stored; it may have been refused elsewhere, or the review was not the API
    server's. user: None where admission was not asked, or its record is not there.
    """

    time: datetime
    verb: str
    kind: str | None
    name: str | None
    user: str | None
    outcome: str
    summary: str
    trace: str | None
    level: str
    changes: list[dict[str, Any]] = field(default_factory=list)
    violations: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def namespace(self) -> str | None:
        """Namespace of what it is about; None: of none."""
        return None if self.name is None or "/" not in self.name else self.name.partition("/")[0]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "time": self.time.isoformat(),
            "verb": self.verb,
            "kind": self.kind,
            "name": self.name,
            "user": self.user,
            "outcome": self.outcome,
            "summary": self.summary,
            "trace": self.trace,
            "changes": self.changes,
            "violations": self.violations,
            "steps": [
                {
                    "time": step.time.isoformat(),
                    "operation": step.operation,
                    "status": step.status,
                    "message": step.message,
                    "durationMilliseconds": step.duration_ms,
                }
                for step in self.steps
            ],
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; None: all of it."""

    namespace: str | None = None
    kind: str | None = None
    name: str | None = None
    user: str | None = None
    trace: str | None = None

    def takes(self, entry: Entry) -> bool:
        """Tell whether an entry is asked for."""
        if self.trace is not None:
            return entry.trace == self.trace
        if self.user is not None and entry.user != self.user:
            return False
        if self.name is not None:
            plain = (entry.name or "").partition("/")[2]
            about = entry.kind == self.kind and plain == self.name
            of_gateway = self.kind == GATEWAY_CONFIG and plain.startswith(f"{self.name}/")
            if not (about or of_gateway):
                return False
        return self.namespace is None or entry.namespace == self.namespace or (entry.namespace is None and self.name is None)


def timeline(records: Iterable[Record], wanted: Wanted) -> list[Entry]:
    """Return the entries that are asked for, oldest first. `records`: oldest first."""
    story = _Story()
    for record in records:
        story.add(record)
    return sorted(filter(wanted.takes, story.finish()), key=lambda entry: entry.time)


@dataclass(slots=True)
class _Story:
    """What has been read so far. waiting: let in and not seen stored, by trace and whether it is a deletion."""

    entries: list[Entry] = field(default_factory=list)
    waiting: dict[tuple[str, bool], Entry] = field(default_factory=dict)
    by_trace: dict[str, Entry] = field(default_factory=dict)
    by_revision: dict[tuple[object, int], list[Entry]] = field(default_factory=dict)
    reloads: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take the next record."""
        data = record.get("metadata") or {}
        if record["operation"] == "admission":
            self._asked(record, data)
        elif record["operation"] != "config_update":
            self._became(record, data)
        elif data.get("change_type") == "reload":
            self.reloads.append(record)  # a quick pod may tell it before the controller tells the write
        else:
            self._stored(record, data)

    def finish(self) -> list[Entry]:
        """Return all entries, each with its steps in order."""
        for record in self.reloads:
            _reloaded(self.by_revision, record, record["metadata"])
        for entry in self.entries:
            entry.steps.sort(key=lambda step: step.time)
        return self.entries

    def _asked(self, record: Record, data: Record) -> None:
        entry = _admission(record, data)
        self.entries.append(entry)
        if entry.outcome == PENDING and entry.trace is not None:
            self.waiting[entry.trace, entry.verb == "delete"] = entry

    def _stored(self, record: Record, data: Record) -> None:
        trace = record.get("trace_id") or ""
        entry = self.waiting.pop((trace, data.get("change_type") == "delete"), None)
        if entry is None:  # admission has no record of it
            entry = _entry(record, data, STORED)
            self.entries.append(entry)
        _stored(entry, record, data)
        self.by_trace[trace] = entry

    def _became(self, record: Record, data: Record) -> None:
        known = [self.by_trace[trace] for trace in data.get("traces") or [] if trace in self.by_trace]
        if record["operation"] == "render" and isinstance(data.get("revision"), int):
            self.by_revision.setdefault((data.get("lineage"), data["revision"]), []).extend(known)
        for entry in known:
            _follows(entry, record)
        if not known:
            self.entries.append(_news(record))


def _admission(record: Record, data: Record) -> Entry:
    asked, answer = record.get("request_data") or {}, record.get("response_data") or {}
    if record["status"] == "failure":
        outcome = REFUSED
    elif asked.get("dry_run"):
        outcome = DRY_RUN
    else:
        outcome = PENDING if record["status"] == "pending" else UNCHANGED
    entry = _entry(record, data, outcome)
    entry.violations = list(answer.get("violations") or [])
    return entry


def _entry(record: Record, data: Record, outcome: str) -> Entry:
    return Entry(
        record["timestamp"],
        str(data.get("change_type") or record["operation"]),
        record.get("resource_type"),
        record.get("resource_id"),
        record.get("user_id"),
        outcome,
        str(data.get("change_summary") or record["message"]),
        record.get("trace_id"),
        record.get("level") or "INFO",
        list(data.get("changes") or []),
    )


def _stored(entry: Entry, record: Record, data: Record) -> None:
    entry.outcome = _STATE_OF.get(record["status"], STORED)
    message = "gone" if data.get("change_type") == "delete" else f"stored as generation {data.get('new_version')}"
    why = (record.get("response_data") or {}).get("message")
    entry.steps.append(_step(record, f"{message}, not accepted: {why}" if why else message))


def _follows(entry: Entry, record: Record) -> None:
    entry.steps.append(_step(record, str(record["message"])))
    if record["operation"] == "rollout" and record["status"] == "success" and entry.outcome == STORED:
        entry.outcome = ROLLED_OUT


def _reloaded(by_revision: dict[tuple[object, int], list[Entry]], record: Record, data: Record) -> None:
    """Add that a pod took up a revision to every edit that came with it: those of revisions that it skipped too."""
    new, old = data.get("new_version"), data.get("previous_version")
    if not isinstance(new, int):
        return
    first = old + 1 if isinstance(old, int) and new - 1000 < old < new else new
    for revision in range(first, new + 1):
        for entry in by_revision.get((data.get("lineage"), revision), ()):
            step = _step(record, str(record["message"]))
            if step.message not in {one.message for one in entry.steps}:  # of several workers one is enough
                entry.steps.append(step)


def _news(record: Record) -> Entry:
    return Entry(
        record["timestamp"],
        record["operation"],
        record.get("resource_type"),
        record.get("resource_id"),
        record.get("user_id"),
        NEWS,
        str(record["message"]),
        record.get("trace_id"),
        record.get("level") or "INFO",
    )


def _step(record: Record, message: str) -> Step:
    return Step(record["timestamp"], record["operation"], record["status"], message, record.get("duration_ms"))


def lines(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return a timeline for people as (text, colour)."""
    shown: list[tuple[str, str]] = []
    for entry in entries:
        moment = entry.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        if entry.outcome == NEWS:
            shown.append((f"{moment}  {entry.verb}: {entry.summary}", "yellow" if entry.level != "INFO" else ""))
            continue
        who = entry.user or "(admission has no record of who)"
        head = f"{moment}  {who}  {entry.verb} {entry.kind} {entry.name}: {entry.summary}"
        shown.append((f"{head}  [{entry.outcome}]  trace {entry.trace or '-'}", _COLOURS.get(entry.outcome, "")))
        for change in _listed(entry):
            shown.append((f"    {change['path']}: {_value(change['old'])} → {_value(change['new'])}", "dim"))
        shown += [(f"    refused: {cause.get('path')}: {cause.get('message')}", "red") for cause in entry.violations]
        for step in entry.steps:
            after = (step.time - entry.time).total_seconds() * 1000
            shown.append((f"    {after:+.0f} ms  {step.operation}: {step.message}", "red" if step.status == "failure" else ""))
    return [(_printable(text), colour) for text, colour in shown]


_COLOURS: Final = {REFUSED: "red", NOT_ACCEPTED: "red", PENDING: "yellow", ROLLED_OUT: "green", STORED: "green"}


def _listed(entry: Entry) -> list[dict[str, Any]]:
    """Return the fields to show: one alone is in the summary, and of a new object all are new."""
    return entry.changes if entry.verb == "update" and len(entry.changes) > 1 else []


def _value(value: Any) -> str:
    return "(not set)" if value is None else str(value)


def _printable(text: str) -> str:
    """Return text that cannot steer a terminal: names and values are anyone's."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
