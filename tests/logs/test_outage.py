"""A long outage of MongoDB costs disk up to the bound, not memory; `benchmarks/outage.py` runs a day of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outage import outage

RECORDS = 64_000
BOUND = 16 * 1024 * 1024
GROWTH_MB = 8.0
UNCOUNTED = 4096
"""The only bytes the bound does not hold for: first lines of segments, and what is told of the outage itself."""


def test_memory_stays_level_while_a_silent_server_fills_the_spool_to_its_bound(tmp_path: Path) -> None:
    """The server takes connections and answers nothing: what finds no room is counted, and memory holds none of it."""
    found = outage(tmp_path, RECORDS, BOUND)
    assert found.dropped > RECORDS // 3, "the bound was reached"
    assert found.disk_bytes <= BOUND + UNCOUNTED
    assert found.accounted, found
    assert found.growth_mb <= GROWTH_MB, found
