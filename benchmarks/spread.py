"""Median, p99 and maximum of measured times: what suites with a report of their own print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.book import percentile


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Return the spread of some measured times."""
        values = [value * 1000 for value in seconds]
        return cls(round(percentile(values, 0.5), 1), round(percentile(values, 0.99), 1), round(max(values), 1))

    def __str__(self) -> str:
        return f"p50 {self.p50} ms, p99 {self.p99} ms, max {self.most} ms"
