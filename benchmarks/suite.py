"""What every suite of measurements is: a name, what it shows, about how long it takes, and the function that notes figures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmarks.book import Book

T = TypeVar("T")
Depth = Literal["quick", "default", "full"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done. `repeat`: of what is cheap to repeat; `quick` checks that all works, `full` takes an hour or two."""

    depth: Depth = "default"
    repeat: int = 5

    @property
    def quick(self) -> bool:
        """Whether small sizes will do."""
        return self.depth == "quick"

    @property
    def full(self) -> bool:
        """Whether time does not matter."""
        return self.depth == "full"

    def choose(self, quick: T, default: T, full: T) -> T:
        """Return what belongs to the depth."""
        return {"quick": quick, "default": default, "full": full}[self.depth]


Measure = Callable[[Book, Plan, Path], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Suite:
    """`minutes`: about, by depth, on 2 quiet cores."""

    name: str
    shows: str
    minutes: tuple[float, float, float]
    measure: Measure

    def about(self, depth: Depth) -> float:
        """Return the minutes it takes."""
        return dict(zip(("quick", "default", "full"), self.minutes, strict=True))[depth]
