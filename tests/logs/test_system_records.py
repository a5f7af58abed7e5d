"""What files and spool hold of system records: their order, nothing of marks that are ours, each file in its own format.

And what the threads behind them do when there is nothing to do.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from aigateway_logs import DualLog, FileSettings, LogSettings, SpoolSettings
from aigateway_logs.front import REPORT
from aigateway_logs.settings import LogFormat
from aigateway_logs.spool.frames import Found, header_length, scan
from tests.eventually import eventually

GATHER_SECONDS = 0.3
"""Long enough for a loop of a few records: they are one round of the thread that writes."""


@dataclass
class Kept:
    """Logs to files and a spool that is not shipped, in one folder."""

    logs: DualLog
    folder: Path

    def stop(self) -> tuple[list[dict[str, Any]], list[tuple[int, dict[str, Any]]]]:
        """Stop; return the lines of the file of system records, and the records of the spool with their numbers."""
        self.logs.stop_blocking(10)
        lines = [json.loads(line) for path in self.folder.glob("logs/system/*.log") for line in path.read_text().splitlines()]
        (segment,) = self.folder.glob("spool/*/*.seg")
        data = segment.read_bytes()
        found = [one for one in scan(data, header_length(data)) if isinstance(one, Found)]
        return lines, [(one.sequence, json.loads(one.payload)) for one in found]


def begun(folder: Path, gather_seconds: float, log_format: LogFormat = "json") -> Kept:
    """Return logs that have begun."""
    spool = SpoolSettings(folder / "spool", gather_seconds=gather_seconds)
    files = FileSettings(folder / "logs", log_format=log_format)
    logs = DualLog(LogSettings(files=files, spool=spool, stderr_level="CRITICAL"), io.StringIO())
    logs.start()
    return Kept(logs, folder)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Logs whose spool waits for company."""
    made = begun(tmp_path, GATHER_SECONDS)
    yield made
    made.logs.stop_blocking(10)


def test_records_that_are_written_together_are_numbered_in_the_order_of_their_calls(kept: Kept) -> None:
    """`_id` ends with the number: who sorts by it reads what happened first, first. Lists are made into records at once."""
    said = [f"said {number}" for number in range(40)]
    for number, message in enumerate(said):
        logger.bind(value=[number] if number % 2 else number).info("{}", message)
    lines, spooled = kept.stop()
    ours = [(number, record["message"]) for number, record in spooled if record["message"] in said]
    assert [message for _, message in ours] == said
    assert [number for number, _ in ours] == list(range(ours[0][0], ours[0][0] + len(said)))
    assert [line["message"] for line in lines if line["message"] in said] == said


@pytest.mark.parametrize("value", [7, [7]])
def test_the_mark_of_records_about_records_is_kept_nowhere(kept: Kept, value: object) -> None:
    """It lets a record of drops into a spool that is full; who reads it later has no use for it. Other fields stay."""
    logger.bind(component="logs", lost=value, **{REPORT: True}).warning("Records were dropped")
    lines, spooled = kept.stop()
    for records in (lines, [record for _, record in spooled]):
        (found,) = (record for record in records if record["message"] == "Records were dropped")
        assert found["metadata"] == {"lost": value}
        assert REPORT not in json.dumps(found)


def test_files_of_text_hold_text_and_the_spool_what_it_always_does(tmp_path: Path) -> None:
    """Whatever the fields are; the one is for people, the other for MongoDB."""
    kept = begun(tmp_path, 0.01, "text")
    logger.bind(value=1).info("Plain")
    logger.bind(value=[1]).info("Listed")
    kept.logs.stop_blocking(10)
    lines = [line for path in tmp_path.glob("logs/system/*.log") for line in path.read_text().splitlines()]
    ours = [line.split(" [INFO] ", 1)[1] for line in lines if "Plain" in line or "Listed" in line]
    assert [line.partition("] ")[2].partition(" | ")[0].split("] ")[-1] for line in ours] == ["Plain", "Listed"]
    assert [json.loads(line.partition(" | ")[2]) for line in ours] == [{"value": 1}, {"value": [1]}]
    (segment,) = tmp_path.glob("spool/*/*.seg")
    data = segment.read_bytes()
    spooled = [json.loads(one.payload) for one in scan(data, header_length(data)) if isinstance(one, Found)]
    assert [one["metadata"] for one in spooled if one["message"] in ("Plain", "Listed")] == [{"value": 1}, {"value": [1]}]


def test_memory_that_waits_for_the_disk_is_none_once_all_is_there(tmp_path: Path) -> None:
    """Records grow when they are made; what was counted too little or too much would fill the bound in the end."""
    kept = begun(tmp_path, 0.01)
    try:
        for number in range(50):
            logger.bind(text="ü\u2028" * number, value=number).info("Said")

        def settled() -> None:
            counters = kept.logs.counters()
            assert counters.durable >= 50
            assert counters.durable == counters.spooled
            assert counters.memory_bytes == 0

        eventually(settled, within_seconds=20)
    finally:
        kept.logs.stop_blocking(10)


def test_threads_rest_when_everything_is_kept(tmp_path: Path) -> None:
    """After a burst they wait to be called: a pod at rest is not woken sixty times a second by its logs."""
    kept = begun(tmp_path, 0.005)
    try:
        for number in range(20):
            logger.info("Said {}", number)
        threads = [thread for thread in threading.enumerate() if thread.name in ("log-spool-write", "log-files")]
        assert len(threads) == 2
        before = {thread.name: -1 for thread in threads}

        def at_rest() -> None:
            now = {thread.name: waits(thread) for thread in threads}
            woken = {name: count - before[name] for name, count in now.items()}
            before.update(now)
            assert max(woken.values()) <= 3, woken

        eventually(at_rest, within_seconds=20, every_seconds=0.3)
    finally:
        kept.logs.stop_blocking(10)


def waits(thread: threading.Thread) -> int:
    """Return how often a thread has waited for anything since it began. Source: proc(5), `voluntary_ctxt_switches`."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("voluntary")).split()[1])
