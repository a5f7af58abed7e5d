"""The end of the controller: whatever one part does, the others end and the Lease is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aigateway_operator import main
from aigateway_operator.main import Operator, _stop


async def _raises() -> None:
    raise RuntimeError("a fault")


async def _hangs() -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("close", [_raises, _hangs])
async def test_a_part_that_fails_or_hangs_keeps_no_other_from_ending(
    close: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Lease that is not given back costs whoever takes over as long as it runs."""
    monkeypatch.setattr(main, "PART_SECONDS", 0.05)
    ended: list[str] = []

    def part(name: str) -> Any:
        async def stop() -> None:
            ended.append(name)

        return SimpleNamespace(stop=stop)

    ports = SimpleNamespace(**{name: part(name) for name in ("secrets", "owned", "announcer")})
    operator = SimpleNamespace(
        source=part("source"), tasks=[], closing=(close, part("mirrors").stop), election=part("election"), ports=ports
    )
    async with asyncio.timeout(5):
        await _stop(cast("Operator", operator))
    assert ended == ["source", "mirrors", "election", "secrets", "owned", "announcer"]
