"""Memory during a day without MongoDB: the records of a day go to a server that takes connections and never answers.

    python -m benchmarks outage [--rate 12] [--hours 24] [--mebibytes 256] [-o json]

Compressed: the records of that rate and time are made as fast as the disk takes them, so the spool's bound is reached as it
would be. Memory must be level from the first tenth on, and what was spooled and what found no room must add up to what was
made. Called by `__main__`; `tests/logs/test_outage.py` runs it small.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from aigateway_logs import DualLog, LogSettings, MongoSettings, SpoolSettings
from benchmarks.logs import record
from benchmarks.usage import pss_mb

GOAL_MB: Final = 16.0
"""What memory may grow after the first tenth: the spool's 8 MiB of what waits for the disk, and as much for what is sent."""
SAMPLES: Final = 10
MOST_ABOUT: Final = 100
_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outage:
    """What a day came to. Megabytes are the process's own (PSS)."""

    records: int
    spooled: int
    dropped: int
    about: int
    """Records that tell of the outage itself; what was spooled and dropped beyond what was made."""
    disk_bytes: int
    memory_mb: tuple[float, ...]
    """After each tenth."""
    attempts_failed: int

    @property
    def growth_mb(self) -> float:
        """By how much it grew after the first tenth."""
        return max(self.memory_mb) - self.memory_mb[0]

    @property
    def accounted(self) -> bool:
        """Whether every record was spooled or counted as dropped."""
        return 0 <= self.about < MOST_ABOUT

    def as_text(self) -> str:
        """Return the figures for people."""
        verdict = "met" if self.growth_mb <= GOAL_MB and self.accounted else "MISSED"
        tenths = ", ".join(f"{one:.0f}" for one in self.memory_mb)
        return (
            f"{self.records:,} records: {self.spooled:,} in the spool ({self.disk_bytes / _MEBIBYTE:.0f} MiB), "
            f"{self.dropped:,} found no room and were counted; {self.attempts_failed} attempts to ship failed\n"
            f"memory after each tenth: {tenths} MB, {self.growth_mb:.1f} more at most "
            f"(goal: {GOAL_MB:.0f}, and every record accounted for: {verdict})"
        )


def outage(folder: Path, records: int, max_bytes: int) -> Outage:
    """Make so many records while the server is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/"
        spool = SpoolSettings(folder / "spool", max_bytes=max_bytes)
        server = MongoSettings(url, select_within_seconds=0.5, answer_within_seconds=0.5)
        logs = DualLog(LogSettings(spool=spool, mongodb=server, stderr_level="CRITICAL"), io.StringIO())
        logs.start()
        seen: list[float] = []
        try:
            for number in range(1, records + 1):
                logs.operation_nowait(record(number))
                if number % 200 == 0:
                    _let_the_disk_follow(logs, spool.memory_bytes // 8)
                if number % (records // SAMPLES) == 0:
                    seen.append(pss_mb(os.getpid()))
            _let_the_disk_follow(logs, 0)
            counted = logs.counters()
        finally:
            logs.stop_blocking(1)
    dropped = sum(count for name, count in counted.dropped.items() if name.startswith("operation."))
    return Outage(
        records,
        counted.spooled,
        dropped,
        counted.spooled + dropped - records,
        counted.backlog_bytes,
        tuple(seen),
        counted.ship_failures,
    )


def _let_the_disk_follow(logs: DualLog, most: int) -> None:
    while logs.counters().memory_bytes > most:
        time.sleep(0.002)


def main(arguments: list[str]) -> int:
    """Run it; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks outage", description=__doc__)
    parser.add_argument("--rate", type=float, default=12.0, help="records a second (default: 12, a million a day)")
    parser.add_argument("--hours", type=float, default=24.0, help="length of the outage (default: 24)")
    parser.add_argument("--mebibytes", type=int, default=256, help="bound of the spool (default: 256)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = outage(Path(folder), int(chosen.rate * chosen.hours * 3600), chosen.mebibytes * _MEBIBYTE)
    print(json.dumps(asdict(found)) if chosen.output == "json" else found.as_text())
    return 0
