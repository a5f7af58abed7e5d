"""The ledgers of pods are read while pods write them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks.ledgers import Ledgers
from benchmarks.seen import Sight
from tests.delivery import Pod

LINE = '{"documents": {"config.yml": 7}, "at": 2.5}\n'


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """A busy run meets half a line now and then; it must neither end the run nor lose the line."""
    ledger = tmp_path / "1.jsonl"
    ledger.write_text('{"other": 1}\n' + LINE[:20])
    with Ledgers([cast(Pod, SimpleNamespace(ledger=tmp_path))]) as ledgers:

        async def follow() -> float:
            found = asyncio.create_task(ledgers.loaded(Sight(2.0, "config.yml", 7)))
            await asyncio.wait([found], timeout=0.05)
            assert not found.done()
            with ledger.open("a") as file:
                file.write(LINE[20:])
            return await found

        assert asyncio.run(follow()) == 2.5
