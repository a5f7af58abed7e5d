"""What a process uses, as the kernel says it: memory, processor time, descriptors, threads. Linux only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """Return the megabytes that are its own, shared pages counted by their share (smaps_rollup: Pss)."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1024


def rss_mb(pid: int) -> float:
    """Return the megabytes that it has in memory (VmRSS)."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS") / 1024


def peak_mb(pid: int) -> float:
    """Return the most megabytes it ever had in memory (VmHWM)."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time it has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descriptors(pid: int) -> int:
    """Return how many files and sockets it has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Return how many threads it has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _kilobytes(file: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", file.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{file} has no line {name}")
    return int(found[1])
