"""What the audit trail costs an edit: with MongoDB taking records, with MongoDB silent, and without any trail.

    python -m benchmarks audit [--models 100] [--edits 8] [--rounds 24] [-o json]

Operator processes of their own on one real control plane, one after the other; MongoDB is silent when its process is stopped
(SIGSTOP): it takes connections and answers nothing. Short rounds with and without an answering MongoDB take turns in one
operator, in the order a b b a, so that both meet the same machine. The ratio of the medians is given with the interval that
holds nine of ten when pairs of rounds are drawn again: only where all of it lies on one side of the goal is anything settled.
Beside it, processor time an edit, which other processes disturb less. Times are from an edit's answer to the watch event of
the written ConfigMap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.book import percentile
from benchmarks.edits import PAUSE_SECONDS, Size, fill
from benchmarks.edits import edits as timed_edits
from benchmarks.scene import Scene, scene
from benchmarks.spread import Spread
from benchmarks.usage import cpu_seconds
from hack.stores import MongoServer

GOAL = 1.05
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Round:
    """Some edits: the seconds of each, and the processor seconds that the operator used for one."""

    times: list[float]
    cpu: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. ratio: of the medians, MongoDB silent to MongoDB answering; cpu: processor milliseconds an edit."""

    without: Spread
    answering: Spread
    silent: Spread
    ratio: float
    least: float
    most: float
    cpu: dict[str, float]

    @property
    def verdict(self) -> str:
        """Whether the goal is met, if that can be said."""
        if self.least <= GOAL < self.most:
            return "not settled"
        return "settled: met" if self.most <= GOAL else "settled: MISSED"

    def as_text(self) -> str:
        """Return the figures for people."""
        rows = {"no trail": self.without, "MongoDB answering": self.answering, "MongoDB silent": self.silent}
        lines = [f"edit → ConfigMap seen, {name:<18} {row}; CPU {self.cpu[name]:.2f} ms" for name, row in rows.items()]
        interval = f"{self.least:.3f} to {self.most:.3f}"
        return "\n".join([*lines, f"silent / answering {self.ratio:.3f}, {interval} (goal {GOAL}: {self.verdict})"])


async def measure(models: int, edits: int, rounds: int, folder: Path) -> Figures:
    """Measure on a control plane of its own."""
    size = Size(models, 1, {})
    with MongoServer.start() as mongo:
        uri = folder / "uri"
        uri.write_text(mongo.url)
        trail = {
            "log_dir": str(folder / "logs"),
            "log_spool_dir": str(folder / "spool"),
            "log_mongodb_uri_file": str(uri),
            "log_mongodb_indexes": "false",
        }
        async with scene("operator", folder) as stage:
            await stage.furnish(1)
            await fill(stage, size)
            await stage.rest()
            without = [await one_round(stage, size, "without", edits * rounds)]
            await asyncio.to_thread(stage.subject.stop)
            stage.start("operator", **trail)
            await timed_edits(stage, None, size, "warm", 10, PAUSE_SECONDS)
            answering: list[Round] = []
            silent: list[Round] = []
            try:
                for number in range(2 * rounds):
                    paused = number % 4 in (1, 2)  # answering, silent, silent, answering: what drifts meets both alike
                    (mongo.pause if paused else mongo.resume)()
                    (silent if paused else answering).append(await one_round(stage, size, f"round-{number}", edits))
            finally:
                mongo.resume()
    least, most = interval(answering, silent)
    rows = {"no trail": without, "MongoDB answering": answering, "MongoDB silent": silent}
    return Figures(
        Spread.of(times(without)),
        Spread.of(times(answering)),
        Spread.of(times(silent)),
        median(times(silent)) / median(times(answering)),
        least,
        most,
        {name: median(one.cpu for one in taken) * 1000 for name, taken in rows.items()},
    )


async def one_round(stage: Scene, size: Size, name: str, edits: int) -> Round:
    """Time some edits."""
    before = cpu_seconds(stage.subject.pid)
    taken, _ = await timed_edits(stage, None, size, name, edits, PAUSE_SECONDS)
    return Round(taken, (cpu_seconds(stage.subject.pid) - before) / edits)


def times(rounds: Sequence[Round]) -> list[float]:
    """Seconds of all edits."""
    return [value for one in rounds for value in one.times]


def interval(answering: Sequence[Round], silent: Sequence[Round]) -> tuple[float, float]:
    """Return the bounds that nine of ten ratios of medians lie within when pairs of rounds are drawn with replacement."""
    chance, pairs = Random(1), list(zip(answering, silent, strict=True))
    ratios: list[float] = []
    for _ in range(DRAWS):
        drawn = chance.choices(pairs, k=len(pairs))
        ratios.append(median(times([pair[1] for pair in drawn])) / median(times([pair[0] for pair in drawn])))
    return percentile(ratios, 0.05), percentile(ratios, 0.95)


def main(argv: list[str]) -> int:
    """Run it; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks audit", description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--edits", type=int, default=8, help="edits a round (default: 8)")
    parser.add_argument("--rounds", type=int, default=24, help="pairs of rounds (default: 24)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(args.models, args.edits, args.rounds, Path(folder)))
    print(json.dumps(asdict(figures), indent=2) if args.output == "json" else figures.as_text())
    return 0
