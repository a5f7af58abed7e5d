"""The timeline: what belongs to which edit, what is pending, and files of every form."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aigateway_logs import OperationRecord
from aigateway_logs.records import document, document_bytes
from aigateway_logs.text import text_line
from aigateway_operator.cli.audit_trail import Wanted, lines, timeline
from tests.cli_suite import run_cli

NOW = datetime.now(UTC).replace(microsecond=0)
TRACE = "a" * 32


def at(seconds: float) -> datetime:
    """Return a time of the story."""
    return NOW - timedelta(minutes=5) + timedelta(seconds=seconds)


def admission(seconds: float, status: str = "pending", user: str = "jane", **more: Any) -> OperationRecord:
    """Return a decision about VirtualModel ai/chat."""
    given: dict[str, Any] = {
        "status": status,
        "user_id": user,
        "resource_type": "VirtualModel",
        "resource_id": "ai/chat",
        "request_data": {"verb": "UPDATE", "groups": [], "dry_run": False},
        "response_data": {"violations": [{"path": "spec.current", "message": "no"}] if status == "failure" else []},
        "metadata": {"change_type": "update", "change_summary": "spec.current: small → big", "changes": []},
        "trace_id": TRACE,
        "timestamp": at(seconds),
    }
    return OperationRecord("admission", "asked", **given | more)


def stored(seconds: float, **more: Any) -> OperationRecord:
    """Return what the controller saw."""
    given: dict[str, Any] = {
        "resource_type": "VirtualModel",
        "resource_id": "ai/chat",
        "metadata": {"change_type": "update", "change_summary": "spec.current: small → big", "new_version": 2, "changes": []},
        "trace_id": TRACE,
        "timestamp": at(seconds),
    }
    return OperationRecord("config_update", "stored", **given | more)


def revision(seconds: float, operation: Any, *traces: str, **more: Any) -> OperationRecord:
    """Return a record of a revision."""
    metadata = {"revision": 3, "traces": list(traces)}
    given: dict[str, Any] = {"resource_type": "GatewayConfig", "resource_id": "ai/main", "metadata": metadata}
    return OperationRecord(operation, f"{operation} of revision 3", timestamp=at(seconds), **(given | more))


def read(*records: OperationRecord) -> list[dict[str, Any]]:
    """Return records as they are read."""
    return [{**document(one), "timestamp": one.timestamp} for one in records]


STORY = (
    admission(0, "failure", "mallory"),
    admission(1),
    stored(1.01),
    revision(1.03, "render", TRACE),
    revision(1.2, "rollout", TRACE),
    OperationRecord("leadership", "a leads", timestamp=at(2)),
)


def test_each_attempt_is_an_entry_and_what_follows_belongs_to_the_one_that_got_through() -> None:
    """All share one trace, since a refused edit moves no generation."""
    refused, done, news = timeline(read(*STORY), Wanted())
    assert [entry.outcome for entry in (refused, done, news)] == ["refused", "rolled out", "news"]
    assert (refused.user, refused.steps) == ("mallory", [])
    assert [step.operation for step in done.steps] == ["config_update", "render", "rollout"]


def test_an_edit_that_was_never_seen_stored_stays_pending() -> None:
    """Anyone can post a review; that alone proves nothing."""
    (entry,) = timeline(read(admission(0)), Wanted())
    assert entry.outcome == "pending"


def test_an_edit_that_admission_knows_nothing_of_is_there_without_a_name() -> None:
    """The webhook was away."""
    (entry,) = timeline(read(stored(0), revision(1, "rollout", TRACE)), Wanted())
    assert (entry.user, entry.outcome) == (None, "rolled out")


def test_a_dry_run_is_neither_pending_nor_stored() -> None:
    """Even if the same edit is made right after it."""
    asked = {"verb": "UPDATE", "groups": [], "dry_run": True}
    entries = timeline(read(admission(0, "success", request_data=asked), admission(1), stored(2)), Wanted())
    assert [entry.outcome for entry in entries] == ["dry run", "stored"]


@pytest.mark.parametrize(
    ("wanted", "outcomes"),
    [
        (Wanted(namespace="ai"), ["refused", "rolled out", "news"]),
        (Wanted(namespace="other"), ["news"]),
        (Wanted("ai", "VirtualModel", "chat"), ["refused", "rolled out"]),
        (Wanted("ai", "VirtualModel", "chats"), []),
        (Wanted("ai", "VirtualModel", "chat", user="jane"), ["rolled out"]),
        (Wanted(trace=TRACE), ["refused", "rolled out"]),
    ],
)
def test_what_is_asked_for(wanted: Wanted, outcomes: list[str]) -> None:
    """By namespace, object, user, trace."""
    assert [entry.outcome for entry in timeline(read(*STORY), wanted)] == outcomes


def test_names_and_values_cannot_steer_a_terminal() -> None:
    """They are anyone's."""
    hostile = admission(0, metadata={"change_type": "update", "change_summary": "x\x1b[2J\r\nforged", "changes": []})
    shown = "\n".join(text for text, _ in lines(timeline(read(hostile), Wanted())))
    assert "\x1b" not in shown
    assert shown.count("\n") == 0


@pytest.mark.parametrize("form", ["json", "text", "gz"])
def test_files_of_every_form_are_read(tmp_path: Path, form: str) -> None:
    """JSON lines, text, and compressed ones; lines that are no records do no harm."""
    write = text_line if form == "text" else document_bytes
    body = b"\n".join([b"garbage", *(write(document(one)) for one in STORY), b'{"cut": '])
    folder = tmp_path / "operation"
    folder.mkdir()
    name = f"operation_{NOW.date().isoformat()}.log"
    (folder / f"{name}.gz").write_bytes(gzip.compress(body)) if form == "gz" else (folder / name).write_bytes(body)
    done = run_cli("audit", "-A", "--log-dir", str(tmp_path), "-o", "json")
    assert [entry["outcome"] for entry in json.loads(done.out)] == ["refused", "rolled out", "news"], done.err
    shown = run_cli("audit", "vmodel/chat", "-n", "ai", "--user", "jane", "--log-dir", str(tmp_path)).out
    assert "jane  update VirtualModel ai/chat: spec.current: small → big  [rolled out]  trace aaaa" in shown
    assert "+200 ms  rollout: rollout of revision 3" in shown


@pytest.mark.parametrize("damage", [slice(0, 40), slice(30, None)])
def test_a_damaged_file_is_named(tmp_path: Path, damage: slice) -> None:
    """Cut off, or with bytes missing in the middle: a sentence, no traceback, whatever gzip calls it."""
    (tmp_path / "operation").mkdir()
    packed = gzip.compress(b"".join(document_bytes(document(one)) for one in STORY))
    file = tmp_path / "operation" / f"operation_{NOW.date().isoformat()}.log.gz"
    file.write_bytes(packed[:20] + packed[damage])
    done = run_cli("audit", "-A", "--log-dir", str(tmp_path))
    assert done.code == 2
    assert f"{file} cannot be read" in done.err


def test_mongodb_that_is_away_is_said_and_files_are_read_instead(tmp_path: Path) -> None:
    """And without files the exit code says that something was out of reach; the password is not shown."""
    (tmp_path / "operation").mkdir()
    uri = tmp_path / "uri"
    uri.write_text("mongodb://u:pass-canary-1@127.0.0.1:9/?serverSelectionTimeoutMS=100")
    done = run_cli("audit", "-A", "--mongodb-uri-file", str(uri), "--log-dir", str(tmp_path))
    assert done.code == 0
    assert "MongoDB does not answer" in done.err
    alone = run_cli("audit", "-A", "--mongodb-uri-file", str(uri))
    assert alone.code == 3
    assert "--log-dir" in alone.err
    assert "--context" not in alone.err, "the remedy of an API server that is away"
    assert "Topology" not in alone.err
    assert "canary" not in done.err + alone.err


def test_without_a_place_to_read_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage, not a traceback."""
    for name in ("AIGATEWAY_LOG_DIR", "AIGATEWAY_LOG_MONGODB_URI", "AIGATEWAY_LOG_MONGODB_URI_FILE"):
        monkeypatch.delenv(name, raising=False)
    done = run_cli("audit")
    assert done.code == 2
    assert "--log-dir" in done.err
    assert run_cli("audit", "pod/x").code == 2


def test_an_object_is_named_as_kubectl_prints_it(tmp_path: Path) -> None:
    """`kubectl get -o name` can be pasted."""
    (tmp_path / "operation").mkdir()
    for name in ("virtualmodel.ai-gateway.io/chat", "vmodels/chat", "GatewayConfig/main"):
        assert run_cli("audit", name, "--log-dir", str(tmp_path)).code == 0, name


def test_a_reload_belongs_to_every_edit_of_the_revisions_it_brought() -> None:
    """A pod that skipped a revision has both edits; one told before the write, and each further worker, change nothing."""

    def reload(seconds: float, old: int | None, new: int, lineage: str = "l1") -> OperationRecord:
        metadata = {"change_type": "reload", "previous_version": old, "new_version": new, "lineage": lineage}
        given: dict[str, Any] = {"resource_type": "GatewayConfig", "resource_id": "ai/main", "timestamp": at(seconds)}
        return OperationRecord("config_update", f"Pod p runs revision {new}", metadata=metadata, **given)

    def render(seconds: float, number: int, trace: str) -> OperationRecord:
        return revision(seconds, "render", metadata={"revision": number, "lineage": "l1", "traces": [trace]})

    records = read(
        *(stored(0), stored(0.1, trace_id="b" * 32), reload(0.2, 2, 4), reload(0.2, 2, 4), reload(0.2, 2, 4, "other")),
        *(render(0.3, 3, TRACE), render(0.4, 4, "b" * 32)),
    )
    found = timeline(records, Wanted())
    assert [[step.message for step in entry.steps].count("Pod p runs revision 4") for entry in found] == [1, 1]
