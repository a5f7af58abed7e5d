"""A program that logs until it is told to stop or killed: `python -m tests.logs.writing SPOOL URI DATABASE FIRST COUNT`.

Prints the numbers of records that it was told are durable, a group a line, and `done` before it stops in good order.
Called by `test_ledger` and the benchmark.
"""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

from loguru import logger

from aigateway_logs import DualLog, LogSettings, MongoSettings, OperationRecord, SpoolSettings, StreamSettings

GROUP = 40


async def main() -> None:
    """Write groups: operations that are awaited, and system records beside them."""
    spool, uri, database, first, count = sys.argv[1:6]
    stream = StreamSettings(sinks=frozenset({"mongodb"}))
    mongodb = MongoSettings(uri, database, select_within_seconds=0.5, answer_within_seconds=3.0)
    room = SpoolSettings(Path(spool), max_bytes=2**31, segment_bytes=64 * 1024)  # what is refused at the bound is not the point
    settings = LogSettings(stream, stream, None, room, mongodb)
    logs = DualLog(settings, stream=io.StringIO())
    logs.start()
    for start in range(int(first), int(first) + int(count), GROUP):
        numbers = range(start, start + GROUP)
        logger.bind(group=start).info("A group was begun")
        kept = await asyncio.gather(*(logs.operation(record(number)) for number in numbers))
        sys.stdout.write(" ".join(str(number) for number, durable in zip(numbers, kept, strict=True) if durable) + "\n")
        sys.stdout.flush()
    sys.stdout.write("done\n")
    sys.stdout.flush()
    await logs.stop(1.0)


def record(number: int) -> OperationRecord:
    """An operation that carries a number."""
    return OperationRecord("model_call", "A model was called", metadata={"n": number}, duration_ms=1.5, user_id="team-a")


if __name__ == "__main__":
    asyncio.run(main())
