"""What a run measured: figures with their repeats, series for plots, and how several values become one.

Pure but for reading and writing the JSON file of a result. Workloads note, `goals` judges, `page` and `__main__` show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

SCHEMA: Final = 1
BLOCKS: Final = 5
"""Into how many repeats a long list of times is cut for its median."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity: a value for each repeat, in the order they were taken; never empty."""

    unit: str
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median of the repeats: what counts."""
        return median(self.values)

    @property
    def least(self) -> float:
        """The smallest repeat."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest repeat."""
        return max(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{short(self.middle)} {self.unit}".strip()
        return f"{short(self.middle)} ({short(self.least)}–{short(self.most)}) {self.unit}".strip()


def short(value: float) -> str:
    """Return a number as people read it: three digits that count."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed, between neighbours where it falls between."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def blocks(values: Sequence[float], count: int = BLOCKS) -> list[Sequence[float]]:
    """Cut values into `count` runs of neighbours, of equal length but for one; fewer where there are fewer values."""
    count = max(1, min(count, len(values)))
    cuts = [round(number * len(values) / count) for number in range(count + 1)]
    return [values[begin:end] for begin, end in pairwise(cuts)]


@dataclass(slots=True)
class Book:
    """The growing notes of a run. Names are dotted: subject or size first, the quantity last."""

    figures: dict[str, Figure] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Suite → what made it, or a run of it, not count."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Suite → how long it took."""

    def note(self, name: str, value: float, unit: str) -> None:
        """Add one repeat of a figure."""
        known = self.figures.get(name)
        assert known is None or known.unit == unit, f"{name} was noted in another unit than {unit}"
        self.figures[name] = Figure(unit, (*(known.values if known else ()), round(float(value), 6)))

    def times(self, name: str, seconds: Sequence[float]) -> None:
        """Add measured times as `<name>.p50`, a repeat for each block, and `<name>.p99` over all of them; in milliseconds."""
        for block in blocks(seconds):
            self.note(f"{name}.p50", percentile(block, 0.5) * 1000, "ms")
        self.note(f"{name}.p99", percentile(seconds, 0.99) * 1000, "ms")

    def fault(self, suite: str, text: str) -> None:
        """Say that something does not count, and why."""
        self.faults.setdefault(suite, []).append(text)


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run. `about`: when, which command, which machine, versions, load before and after."""

    about: Mapping[str, Any]
    book: Book

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        book = self.book
        return {
            "schema": SCHEMA,
            "about": dict(self.about),
            "seconds": {name: round(value, 1) for name, value in book.seconds.items()},
            "faults": book.faults,
            "figures": {name: {"unit": one.unit, "values": list(one.values)} for name, one in sorted(book.figures.items())},
            "series": {name: [list(point) for point in points] for name, points in sorted(book.series.items())},
        }

    @classmethod
    def merged(cls, results: Sequence[Result]) -> Result:
        """Return several runs as one: of a suite that ran in more than one, the later one's notes stand.

        `about` is that of the first, with all commands. ValueError for none.
        """
        if not results:
            raise ValueError("no result to publish")
        book = Book()
        for result in results:
            book.figures.update(result.book.figures)
            book.series.update(result.book.series)
            book.seconds.update(result.book.seconds)
            for suite in result.book.seconds:
                book.faults.pop(suite, None)
            book.faults.update(result.book.faults)
        commands = dict.fromkeys(str(result.about.get("command", "")) for result in results)
        return cls({**results[0].about, "command": "; ".join(commands)}, book)

    @classmethod
    def load(cls, file: Path) -> Result:
        """Read what `save` wrote. ValueError for a schema that is not ours."""
        raw = json.loads(file.read_text())
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"{file} has schema {raw.get('schema')!r}, not {SCHEMA}: measure again")
        book = Book(
            figures={name: Figure(one["unit"], tuple(one["values"])) for name, one in raw["figures"].items()},
            series={name: [(x, y) for x, y in points] for name, points in raw["series"].items()},
            faults=raw["faults"],
            seconds=raw["seconds"],
        )
        return cls(raw["about"], book)
