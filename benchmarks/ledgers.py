"""When pods began to run a document, read from the ledgers that their processes write (`tests/reading_pod.py`)."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Self

from benchmarks.seen import Sight
from tests.delivery import Pod

POLL_SECONDS = 0.01
WAIT_SECONDS = 120


class Ledgers:
    """What the workers of some pods have written, followed as it grows. Times are CLOCK_MONOTONIC, as `time.monotonic()`."""

    def __init__(self, pods: list[Pod]) -> None:
        self._files = [file.open() for pod in pods for file in sorted(pod.ledger.glob("*.jsonl"))]
        self._cut = [""] * len(self._files)
        self._seen: list[list[tuple[dict[str, int], float]]] = [[] for _ in self._files]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            file.close()

    async def loaded(self, wanted: Sight) -> float:
        """Return when the last worker began to run a document at the revision that was seen, or a later one."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                times = [self._since(number, wanted) for number in range(len(self._files))]
                found = [at for at in times if at is not None]
                if len(found) == len(times):
                    return max(found)
                await asyncio.sleep(POLL_SECONDS)

    def _since(self, number: int, wanted: Sight) -> float | None:
        *whole, self._cut[number] = (self._cut[number] + self._files[number].read()).split("\n")  # the last is still written
        for line in whole:
            record = json.loads(line)
            if "documents" in record:
                self._seen[number].append((record["documents"], record["at"]))
        states = self._seen[number]
        return next((at for documents, at in states if documents.get(wanted.file, 0) >= wanted.revision), None)
