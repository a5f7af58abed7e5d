"""Records where nobody keeps any: none is made, everyone who waits is answered at once, and a sink changes that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from aigateway_logs import DualLog, FileSettings, LogSettings, OperationRecord, SpoolSettings, StreamSettings, dual

RECORD = OperationRecord("admission", "a decision")


async def test_without_files_and_spool_no_record_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redaction and JSON cost a tenth of a review; as much as the caller saves who asks before."""

    def fail(*_: Any) -> None:
        raise AssertionError("a record was made for nobody")

    monkeypatch.setattr(dual, "document", fail)
    logs = DualLog(LogSettings())
    assert not logs.keeps_operations
    assert await logs.operation_written(RECORD)
    assert await logs.operation(RECORD)
    logs.start()
    try:
        logger.info("a line for standard error alone")
    finally:
        logs.stop_blocking(2)


@pytest.mark.parametrize("kept", ["files", "spool", "spool, though not for operations"])
def test_what_keeps_records_is_known(tmp_path: Path, kept: str) -> None:
    """Files take at least errors; a spool takes what its stream sends to MongoDB."""
    files = FileSettings(tmp_path) if kept == "files" else None
    spool = SpoolSettings(tmp_path) if kept != "files" else None
    sinks = frozenset({"file"}) if kept == "spool, though not for operations" else frozenset({"mongodb", "file"})
    logs = DualLog(LogSettings(files=files, spool=spool, operation=StreamSettings(sinks=sinks)))  # type: ignore[arg-type]  # literals
    logs.start()
    try:
        assert logs.keeps_operations == (kept != "spool, though not for operations")
    finally:
        logs.stop_blocking(2)
