"""How often MongoDB is asked: records that come one by one are sent together, and a backlog without pauses."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from aigateway_logs import DualLog, LogSettings, MongoSettings, OperationRecord, SpoolSettings, shipper
from aigateway_logs.mongodb import Document, LogStore, Refused
from aigateway_logs.records import LogType
from benchmarks.quick_mongodb import quick_mongodb
from tests.eventually import eventually

COMPANY_SECONDS = 0.4
"""Far longer than in earnest, so that a busy machine does not send them together by itself."""
ANSWER_SECONDS = 0.02
"""How long the server takes: there is always something new when it has answered."""


def test_a_trickle_is_sent_together_and_a_backlog_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch costs as much as fifty records, so records that came while the last one was under way wait for more."""
    batches: list[int] = []
    insert = LogStore.insert

    async def counted(store: LogStore, stream: LogType, documents: Sequence[Document]) -> list[Refused]:
        batches.append(len(documents))
        await asyncio.sleep(ANSWER_SECONDS)
        return await insert(store, stream, documents)

    monkeypatch.setattr(LogStore, "insert", counted)
    monkeypatch.setattr(shipper, "_COMPANY_SECONDS", COMPANY_SECONDS)
    with quick_mongodb() as url:
        logs = DualLog(
            LogSettings(spool=SpoolSettings(tmp_path), mongodb=MongoSettings(url), stderr_level="ERROR"), io.StringIO()
        )
        logs.start()
        try:
            logs.operation_nowait(OperationRecord("admission", "first"))
            eventually(lambda: assert_shipped(logs, 1), within_seconds=20)
            batches.clear()
            began = time.monotonic()
            for number in range(100):
                logs.operation_nowait(OperationRecord("admission", f"decision {number}"))
                time.sleep(0.005)
            eventually(lambda: assert_shipped(logs, 101), within_seconds=20)
            took = time.monotonic() - began
            assert len(batches) <= took / COMPANY_SECONDS + 2, f"{len(batches)} batches in {took:.1f} s: {batches}"
            batches.clear()
            for number in range(3000):
                logs.operation_nowait(OperationRecord("admission", f"decision {number}"))
            eventually(lambda: assert_shipped(logs, 3101), within_seconds=20)
            assert max(batches) == MongoSettings(url).batch_records, batches
        finally:
            logs.stop_blocking(5)


def assert_shipped(logs: DualLog, count: int) -> None:
    """For `eventually`: so many were acknowledged."""
    assert logs.counters().shipped == count, logs.counters()
