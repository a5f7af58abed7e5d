"""Fifty gateways in one namespace: filled together, each edited once at the same time, and what they cost at rest."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aigateway_operator.kube.resources import GATEWAY_CONFIGS
from benchmarks.book import Book
from benchmarks.checker import NotCounted
from benchmarks.scene import SPACE, config_map_writes, scene
from benchmarks.suite import Plan
from benchmarks.usage import rss_mb
from tests.apiserver.world import gateway_config

MODELS_EACH = 20


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Run it once."""
    gateways = plan.choose(10, 50, 50)
    async with scene("operator", folder / "many") as stage:
        await stage.furnish(1)
        for number in range(gateways - 1):
            await stage.client.create(GATEWAY_CONFIGS, SPACE, gateway_config(name_of(number)))
        await stage.rest()
        told, count = stage.seen.expect_models((gateways - 1) * MODELS_EACH), (gateways - 1) * MODELS_EACH
        mark = stage.mark()
        for number in range(gateways - 1):
            await stage.create(MODELS_EACH, first=number * MODELS_EACH, gateway=name_of(number))
        created = time.monotonic()
        served = await asyncio.wait_for(told, 120)
        await stage.rest()
        requests = stage.requests(mark)
        book.note(f"gateways.{gateways}.lag", max(0.0, served - created), "s")
        book.note(f"gateways.{gateways}.requests", sum(requests.values()) / count, "per object")
        book.note(f"gateways.{gateways}.configmaps", config_map_writes(requests) / count, "per object")
        book.note(f"gateways.{gateways}.rss", rss_mb(stage.subject.pid), "MB")
        waiting = [stage.seen.expect(f'"together-{number:03d}"') for number in range(gateways - 1)]
        answers = await asyncio.gather(
            *(stage.edit(number * MODELS_EACH, f"together-{number:03d}") for number in range(gateways - 1))
        )
        sights = await asyncio.wait_for(asyncio.gather(*waiting), 60)
        lags = [max(0.0, sight.at - answered) for sight, answered in zip(sights, answers, strict=True)]
        book.times(f"gateways.{gateways}.edit", lags)
        await stage.rest()
        try:
            await stage.settled()
        except NotCounted as error:
            book.fault("gateways", str(error))


def name_of(number: int) -> str:
    """Return the name of a gateway beside `main`."""
    return f"gw-{number:02d}"
