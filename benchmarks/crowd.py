"""What the proof of many pods costs the operator: 200 pods asked, edited for, and left alone.

API server and operator are real; the pods are objects on the API server and one listener that answers for all of them
(`tests/crowd.py`), synchronised as a kubelet was measured to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.book import Book
from benchmarks.scene import SPACE, scene
from benchmarks.spread import Spread
from benchmarks.suite import Plan
from benchmarks.usage import cpu_seconds
from hack.kubelet import REAL
from hack.kubelet.timing import quantile
from tests.apiserver.world import World
from tests.crowd import crowd
from tests.delivery import furnish, wait_all_run

EDITS: Final = 12
QUIET_SECONDS: Final = 1.3
"""Between edits: sooner, the kubelet's next relist is waited for, and the burst is what is measured."""


@dataclass(frozen=True, slots=True)
class CrowdFigures:
    """What so many pods cost. CPU is the operator's, in milliseconds and in percent of a core."""

    pods: int
    synced: Spread
    proved: Spread
    cpu_per_edit_ms: float
    questions_a_minute: float
    idle_cpu_percent: float
    cpu_per_question_ms: float

    def as_text(self) -> str:
        """Return the figures for people."""
        return "\n".join(
            [
                f"{self.pods} pods, one model",
                f"  edit → last pod runs it       {self.synced}",
                f"  edit → Propagated in status   {self.proved}",
                f"  operator's CPU an edit        {self.cpu_per_edit_ms:.0f} ms: watch, pokes and questions",
                f"  asked at rest                 {self.questions_a_minute:.0f} times a minute",
                f"  CPU at rest                   {self.idle_cpu_percent:.2f} % of a core",
                f"  CPU a question, at most       {self.cpu_per_question_ms:.1f} ms",
            ]
        )


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Note what 200 pods cost."""
    count, idle = plan.choose((20, 5.0), (200, 20.0), (200, 120.0))
    figures = await measure_crowd(count, plan.choose(3, 8, 2 * EDITS), idle, folder)
    name = f"crowd.{count}"
    book.note(f"{name}.synced.p50", figures.synced.p50, "ms")
    book.note(f"{name}.proved.p50", figures.proved.p50, "ms")
    book.note(f"{name}.proved.max", figures.proved.most, "ms")
    book.note(f"{name}.edit.cpu", figures.cpu_per_edit_ms, "ms")
    book.note(f"{name}.idle.cpu", figures.idle_cpu_percent, "% of a core")


async def measure_crowd(count: int, edits: int, idle_seconds: float, folder: Path) -> CrowdFigures:
    """Measure what so many pods cost."""
    async with scene("operator", folder) as stage:
        return await asyncio.to_thread(_measure, World(stage.plane, SPACE), stage.subject.pid, count, edits, idle_seconds)


def draw_sync_seconds(dice: Random) -> float:
    """Return a delay from a poke to the sync that it leads to, as often as a kubelet was measured to take it."""
    return quantile(REAL.poked_seconds, dice.random())


def _measure(world: World, pid: int, count: int, edits: int, idle_seconds: float) -> CrowdFigures:
    dice = Random(1)
    with crowd(world, count, lambda: draw_sync_seconds(dice)) as pods:
        furnish(world, pods.port)
        wait_all_run(world, count, within_seconds=60)
        time.sleep(3)
        first = wait_all_run(world, count, within_seconds=60)["revision"]
        synced, proved, used = [], [], cpu_seconds(pid)
        for number in range(edits):
            world.patch_spec("VirtualModel", "chat", current=("big", "small")[number % 2])
            answered = time.monotonic()
            wait_all_run(world, count, within_seconds=60, revision=first + number + 1)
            proved.append(time.monotonic() - answered)
            synced.append(max(pods.synced.values()) - answered)
            time.sleep(QUIET_SECONDS)
        each = (cpu_seconds(pid) - used) / edits
        time.sleep(2)
        used, asked = cpu_seconds(pid), pods.asked
        time.sleep(idle_seconds)
        idle, questions = cpu_seconds(pid) - used, pods.asked - asked
    return CrowdFigures(
        pods=count,
        synced=Spread.of(synced),
        proved=Spread.of(proved),
        cpu_per_edit_ms=round(each * 1000),
        questions_a_minute=round(questions * 60 / idle_seconds),
        idle_cpu_percent=round(idle / idle_seconds * 100, 2),
        cpu_per_question_ms=round(idle * 1000 / max(1, questions), 1),
    )


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks crowd", description=__doc__)
    parser.add_argument("--pods", type=int, default=200, help="size of the crowd (default: 200)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which the crowd is left alone (default: 60)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure_crowd(chosen.pods, EDITS, chosen.idle, Path(folder)))
    print(json.dumps(asdict(figures), indent=2) if chosen.output == "json" else figures.as_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
