"""What a process says about its logs: plain values, handed in by the composition root. Reads no environment and no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Sink = Literal["mongodb", "file"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LogFormat = Literal["json", "text"]

LEVEL_NUMBERS: Final[dict[str, int]] = {
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "SUCCESS": 25,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
}
"""Numbers of the levels, as in loguru and `logging`; a name that is not here counts as INFO."""


def level_number(level: str) -> int:
    """Number of a level's name; `Level 25` and other unknown names count as INFO."""
    return LEVEL_NUMBERS.get(level, 20)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One stream: `system` or `operation`. The same for files and MongoDB."""

    level: Level = "INFO"
    """Lowest level that is kept. ERROR and above always reach the error file."""
    sinks: frozenset[Sink] = frozenset({"mongodb", "file"})
    """Where records go."""
    retention_days: int = 30
    """Days to keep files and documents; at least 1."""

    def __post_init__(self) -> None:
        """Refuse a retention that would delete what is written today."""
        if self.retention_days < 1:
            raise ValueError(f"retention_days is {self.retention_days}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class MongoSettings:
    """Where MongoDB is. The URI may hold a password, so it is never shown."""

    uri: str = field(repr=False)
    """`mongodb://…` or `mongodb+srv://…`; its options win over ours."""
    database: str = "ai_gateway"
    """Database of `system_logs` and `operation_logs`."""
    select_within_seconds: float = 3.0
    """How long the driver looks for a server before an attempt counts as failed."""
    answer_within_seconds: float = 15.0
    """Longest wait for one batch; a server that is silent for longer is asked again with the same `_id`s."""
    batch_records: int = 500
    """Records a batch: beyond that servers gain nothing, and one lost answer costs more."""
    indexes: bool = True
    """False leaves out all but the one on `timestamp`: FerretDB 1 scans all the same, and they cost it 40 % of its inserts."""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """The durable spool: what waits for MongoDB on disk."""

    folder: Path
    """Shared by the processes of a pod; each keeps a folder of its own inside, and adopts those of dead ones."""
    max_bytes: int = 256 * 1024 * 1024
    """Bound on disk, this process's own and what it adopted: about a day of a busy gateway's warnings and operations."""
    segment_bytes: int = 1024 * 1024
    """Size at which a new file begins: at most that much and a batch are sent twice after a crash (and found to be there)."""
    memory_bytes: int = 8 * 1024 * 1024
    """Bound of what waits in memory while the disk is slow, full or read-only."""
    gather_seconds: float = 0.015
    """How long system records wait for company before they are written, and admission's before they are synced; all are
    durable within 50 ms."""

    def __post_init__(self) -> None:
        """Refuse bounds that no record would fit in."""
        if self.max_bytes < 4 * self.segment_bytes:
            raise ValueError(f"max_bytes is {self.max_bytes}; it must be at least four segments of {self.segment_bytes} bytes")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Log files."""

    folder: Path
    """Gets the folders `system`, `operation` and `error`."""
    log_format: LogFormat = "json"
    """JSON lines, or `TIME [LEVEL] [source] [trace] message | {json}`."""
    max_bytes: int = 10 * 1000 * 1000
    """Size at which a day's file is set aside."""
    files_a_day: int = 5
    """Files kept of one day and stream; the oldest goes when a sixth begins."""
    compress: bool = True
    """Whether files of earlier days and those set aside are compressed (gzip)."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """All of it. MongoDB needs a spool; without `mongodb`, or a stream's sink `mongodb`, nothing is spooled."""

    system: StreamSettings = StreamSettings()
    """The process's own workings."""
    operation: StreamSettings = StreamSettings()
    """What was done, by whom."""
    files: FileSettings | None = None
    """None: no place for files, so that even errors reach only standard error and MongoDB."""
    spool: SpoolSettings | None = None
    """None: nothing goes to MongoDB."""
    mongodb: MongoSettings | None = None
    """None: not known (yet). Records are spooled all the same if there is a spool."""
    stderr_level: str = "INFO"
    """Lowest level on standard error."""
    stderr_format: LogFormat = "text"
    """For people or for machines."""

    def __post_init__(self) -> None:
        """Refuse what could not work."""
        if self.mongodb is not None and self.spool is None:
            raise ValueError(
                "mongodb is set without spool: records would be lost while it is away; name a folder for the spool"
            )
