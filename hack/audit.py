"""Reads the API server's audit log: who wrote what, and how often.

The log holds one JSON record a line at Metadata level, written in blocking mode. It only reads the file; the fence that
makes a reading complete is `ControlPlane.audit_since`'s. Called by `hack.controlplane`; tests use its types.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
"""The verbs that change something. A dry run and a write without effect count too: both are requests."""

POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
"""Every request at Metadata level: user, user agent, verb, object, code; never a body, so never a Secret's content."""


@dataclass(frozen=True, slots=True)
class AuditMark:
    """A place in the audit log: the byte offset just behind the last record known then."""

    offset: int


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One request as the API server saw it.

    `resource` carries the subresource (`virtualmodels/status`) and is "" for paths that are no resource; `namespace` and
    `name` are "" where there is none (a create by generateName has no name); `code` is the HTTP status; `time` is the
    arrival of the request, RFC 3339 with microseconds; `raw` is the whole record.
    """

    verb: str
    user: str
    user_agent: str
    resource: str
    namespace: str
    name: str
    code: int
    uri: str
    time: str
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def denied(self) -> bool:
        """Whether the user lacks the right. A 403 has other reasons too, such as a namespace that is being deleted."""
        return (self.raw.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid"


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records count; None anywhere means "any".

    `user`, `namespace`, `name` and `resource` (with subresource) are exact; `user_agent` is a part of it; `verbs` a set.
    """

    user: str | None = None
    user_agent: str | None = None
    verbs: Collection[str] | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None

    def accepts(self, record: AuditRecord) -> bool:
        """Whether `record` passes every condition that is set."""
        return (
            (self.user is None or record.user == self.user)
            and (self.user_agent is None or self.user_agent in record.user_agent)
            and (self.verbs is None or record.verb in self.verbs)
            and (self.resource is None or record.resource == self.resource)
            and (self.namespace is None or record.namespace == self.namespace)
            and (self.name is None or record.name == self.name)
        )


def read_records(log: Path, since: AuditMark) -> Iterator[AuditRecord]:
    """Yield the requests recorded behind `since`, oldest first and each once (a watch is recorded when it starts and
    when it ends; the first counts). A last line that is still being written is left out. A missing log holds nothing.
    """
    seen: set[str] = set()
    for line in _complete_lines(log, since.offset):
        raw: dict[str, Any] = json.loads(line)
        if raw["auditID"] in seen:
            continue
        seen.add(raw["auditID"])
        yield _parse(raw)


def end_of(log: Path) -> AuditMark:
    """The mark behind all that is in the log now; the start when there is no log."""
    return AuditMark(log.stat().st_size if log.exists() else 0)


def _complete_lines(log: Path, offset: int) -> Iterator[bytes]:
    if not log.exists():
        return
    with log.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            if line.endswith(b"\n"):
                yield line


def _parse(raw: dict[str, Any]) -> AuditRecord:
    reference = raw.get("objectRef") or {}
    subresource = reference.get("subresource", "")
    return AuditRecord(
        verb=raw["verb"],
        user=(raw.get("user") or {}).get("username", ""),
        user_agent=raw.get("userAgent", ""),
        resource=reference.get("resource", "") + (f"/{subresource}" if subresource else ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=int((raw.get("responseStatus") or {}).get("code", 0)),
        uri=raw.get("requestURI", ""),
        time=raw.get("requestReceivedTimestamp", ""),
        raw=raw,
    )
