"""System records that the writing thread makes: the same bytes as their callers would make, of the moment of the call."""

from __future__ import annotations

import contextvars
import gc
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from aigateway_logs import DualLog, FileSettings, LogSettings, OperationRecord, SpoolSettings, dual, tracing
from aigateway_logs.draft import Draft, draft_of
from aigateway_logs.front import system_record
from aigateway_logs.records import document, document_bytes

PLAIN: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=50)
KNOWN = ("source", "component", "event_type", "trace_id", "api_key", "traceback", "message")


def made(message: str, fields: dict[str, Any]) -> Any:
    """What loguru makes of a call."""
    found: list[Any] = []
    number = logger.add(lambda said: found.append(said.record), format="")
    try:
        logger.bind(**fields).error("{}", message)
    finally:
        logger.remove(number)
    return found[0]


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[DualLog]:
    """To a spool and files."""
    started = DualLog(
        LogSettings(files=FileSettings(tmp_path / "logs"), spool=SpoolSettings(tmp_path / "spool"), stderr_level="CRITICAL"),
        io.StringIO(),
    )
    started.start()
    yield started
    started.stop_blocking(5)


def lines(folder: Path) -> list[dict[str, Any]]:
    """What is in the file of system records."""
    return [json.loads(line) for path in (folder / "logs" / "system").glob("*.log") for line in path.read_text().splitlines()]


@given(message=st.text(), fields=st.dictionaries(st.sampled_from(KNOWN) | st.text(), PLAIN, max_size=6))
def test_a_draft_becomes_what_its_caller_would_have_made(message: str, fields: dict[str, Any]) -> None:
    """Also with the trace of the caller, whoever asks: it lives in a context that the thread does not have."""
    with tracing("t" * 32):
        record = made(message, fields)
        drafted, at_once = draft_of(record), document_bytes(document(system_record(record)))
    assert drafted is not None
    length = len(drafted)
    assert contextvars.Context().run(bytes, drafted) == at_once
    assert len(drafted) == length, "bounds on memory count it twice: when it comes and when it goes"


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, Path("/a"), ValueError("x"), bytearray(b"x"), "x" * 10_000])
def test_what_may_change_or_is_long_has_no_draft(value: Any) -> None:
    """The thread would see another value, or hold up others with it."""
    assert draft_of(made("Said", {"value": value})) is None


def test_an_exception_has_no_draft() -> None:
    """Its frames live as long as somebody holds it."""
    try:
        raise ValueError("no")
    except ValueError:
        record = made("Failed", {})
        record["exception"] = (ValueError, ValueError("no"), None)
    assert draft_of(record) is None


def test_a_record_says_what_was_true_when_it_was_made(logs: DualLog, tmp_path: Path) -> None:
    """Whatever its caller does with its objects afterwards."""
    names = ["chat"]
    logger.bind(names=names).info("Served {}", "one")
    names.append("other")
    logs.stop_blocking(5)
    assert [line["metadata"] for line in lines(tmp_path)] == [{"names": ["chat"]}]


def test_a_number_that_is_no_json_stops_nobody(logs: DualLog, tmp_path: Path) -> None:
    """The thread that writes goes on; a record stands for the one that cannot be kept."""
    logger.bind(number=10**5000).info("Counted")
    logger.info("Went on")
    logs.stop_blocking(5)
    assert [line["message"] for line in lines(tmp_path)] == [f"A record of {__name__} could not be kept", "Went on"]


def test_who_logs_faster_than_a_thread_writes_makes_its_own(
    logs: DualLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is to be made stays a moment's work; all are kept, in order, operations among them."""
    drafts = 0

    def count(*given: Any) -> Draft | None:
        nonlocal drafts
        drafts += 1
        return draft_of(*given)

    monkeypatch.setattr(dual, "_MOST_DRAFTS", 10)
    monkeypatch.setattr(dual, "draft_of", count)
    for number in range(200):
        logger.bind(n=number).info("Said")
        logs.operation_nowait(OperationRecord("render", "Rendered", metadata={"n": number}))
    assert drafts < 200
    logs.stop_blocking(5)
    assert [line["metadata"]["n"] for line in lines(tmp_path)] == list(range(200))
    segments = b"".join(path.read_bytes() for path in sorted((tmp_path / "spool").rglob("*.seg")))
    assert [segments.count(b'"log_type":"%s"' % kind) for kind in (b"system", b"operation")] == [200, 200]
    at = [segments.index(b'"n":%d}' % number) for number in range(200)]
    assert at == sorted(at), "they are written in the order of calls"


def test_what_a_finalizer_logs_while_a_record_is_put_hangs_nobody(logs: DualLog, tmp_path: Path) -> None:
    """A collection may begin anywhere, also in the thread that writes, and end a task whose exception nobody has asked for."""
    threshold, logged = gc.get_threshold(), 0

    def log(phase: str, _: dict[str, int]) -> None:
        nonlocal logged
        if phase == "stop" and logged < 2000:
            logged += 1
            logger.warning("A task was not awaited")

    def put() -> None:
        for number in range(300):
            logs.operation_nowait(OperationRecord("render", "Rendered", metadata={"n": number}))

    thread = threading.Thread(target=put, daemon=True)
    gc.callbacks.append(log)
    gc.set_threshold(1)
    try:
        thread.start()
        thread.join(20)
    finally:
        gc.callbacks.remove(log)
        gc.set_threshold(*threshold)
    assert not thread.is_alive()
    logs.stop_blocking(5)
    assert len(lines(tmp_path)) == logged > 100
