"""The ledger: records written by processes that are killed, to a server that is stopped, silent and restarted, are each
there exactly once in the end, without a gap, in an order that can be restored. `benchmarks/logs.py` does it with a million.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from aigateway_logs import DualLog, LogSettings, MongoSettings, SpoolSettings
from hack.stores import MongoServer
from tests.eventually import eventually
from tests.logs.faulty_disk import left_in

ROOT = Path(__file__).resolve().parents[2]
EACH = 2_000


class Writer:
    """A process of `tests.logs.writing`; `kept` are the numbers it was told are durable."""

    def __init__(self, spool: Path, server: MongoServer, database: str, first: int, count: int = EACH) -> None:
        command = [sys.executable, "-m", "tests.logs.writing", str(spool), server.url, database, str(first), str(count)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
        self.output = spool.parent / f"kept-{first}"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output)

    @property
    def kept(self) -> set[int]:
        """Numbers in whole lines only: the last one may be cut."""
        whole = self.output.read_text().rpartition("\n")[0]
        return {int(number) for line in whole.splitlines() for number in line.split() if number != "done"}

    def done(self) -> bool:
        """Whether it has written everything."""
        return self.output.read_text().endswith("done\n")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


async def documents(server: MongoServer, database: str) -> dict[str, list[dict[str, Any]]]:
    """Identifiers and numbers of both collections, by `_id`."""
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        found: dict[str, list[dict[str, Any]]] = {}
        for name in ("system_logs", "operation_logs"):
            rows = await client[database][name].find({}, {"metadata.n": 1}).to_list()
            found[name] = sorted(rows, key=lambda document: str(document["_id"]))
        return found


async def drop(server: MongoServer, database: str) -> None:
    """Remove the database: the server scans whatever is left."""
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        await client.drop_database(database)


def drain(spool: Path, server: MongoServer, database: str) -> None:
    """A process that only ships what others left."""
    logs = DualLog(LogSettings(spool=SpoolSettings(spool), mongodb=MongoSettings(server.url, database), stderr_level="ERROR"))
    logs.start()
    logs.stop_blocking(30.0)
    assert left_in(spool) == [], "everything was shipped"


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_or_doubled_over_outages_and_kills(tmp_path: Path, mongo_server: MongoServer, seed: int) -> None:
    """Ten writers, two at a time on one spool; the server is up, silent, away and back, and a writer is killed each time."""
    chance, spool, database, kept = random.Random(seed), tmp_path / "spool", f"ledger{seed}", set[int]()
    first = 0
    try:
        for server_is in ("up", "silent", "away", "back", "up"):
            pair = [Writer(spool, mongo_server, database, first + index * EACH) for index in range(2)]
            first += 2 * EACH
            eventually(partial(has_kept, pair[0], 100), within_seconds=20)
            if server_is == "silent":
                mongo_server.pause()
            elif server_is == "away":
                mongo_server.kill()
            elif server_is == "back":
                mongo_server.restart()
            time.sleep(chance.uniform(0.0, 0.4))  # the moment of the kill is what is random
            pair[0].kill()
            eventually(partial(has_done, pair[1]), within_seconds=30)
            if server_is == "silent":
                mongo_server.resume()
            pair[1].process.wait(20)
            kept |= pair[0].kept | pair[1].kept
        drain(spool, mongo_server, database)
        stored = asyncio.run(documents(mongo_server, database))
    finally:
        mongo_server.restart()
        asyncio.run(drop(mongo_server, database))
    assert_ledger(stored, kept)
    assert len(kept) > 5 * EACH


def assert_ledger(stored: dict[str, list[dict[str, Any]]], kept: set[int]) -> None:
    """Acknowledged records are there once, sequences have no gap, and `_id` order is the order of each writer."""
    operations = stored["operation_logs"]
    numbers = [document["metadata"]["n"] for document in operations]
    assert len(numbers) == len(set(numbers)), "a record is there under two identifiers"
    assert kept <= set(numbers), f"lost: {sorted(kept - set(numbers))[:10]}"
    boots: dict[str, list[int]] = defaultdict(list)
    for document in [*stored["system_logs"], *operations]:
        boot, _, sequence = document["_id"].rpartition("-")
        boots[boot].append(int(sequence))
    for boot, sequences in boots.items():
        assert sorted(sequences) == list(range(1, len(sequences) + 1)), f"gap in {boot}"
    by_boot: dict[str, list[int]] = defaultdict(list)
    for document in operations:
        by_boot[document["_id"].rpartition("-")[0]].append(document["metadata"]["n"])
    assert all(numbers == sorted(numbers) for numbers in by_boot.values()), "order cannot be restored"


def has_kept(writer: Writer, number: int) -> None:
    """For `eventually`."""
    assert len(writer.kept) > number


def has_done(writer: Writer) -> None:
    """For `eventually`."""
    assert writer.done()
