"""Plots as SVG text, made without a library: bars with ranges, and lines over time. Pure; called by `page`.

Readable on a forge in light and dark: the picture has its own background, text is large enough, and values stand at the bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.book import Figure, short

WIDTH: Final = 760
LABEL: Final = 250
BAR: Final = 22
GAP: Final = 10
HEAD: Final = 46
FOOT: Final = 16
TEXT: Final = 110
"""What a value with its unit takes at most."""
COLOURS: Final = ("#2b6cb0", "#2f855a", "#b7791f", "#805ad5", "#718096")
MISSED: Final = "#c53030"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `kind` picks its colour, the range of repeats is drawn as a whisker."""

    label: str
    figure: Figure
    kind: int = 0


def bars(title: str, shown: Sequence[Bar], *, limit: float | None = None) -> str:
    """Return horizontal bars with one scale; `limit` draws the goal as a line, which no value is written across."""
    most = max([bar.figure.most for bar in shown] + ([limit] if limit else []) + [1e-9])
    room = WIDTH - LABEL - 130
    head = HEAD if limit is None else HEAD + BAR  # room for the goal's own text below the title
    height = head + len(shown) * (BAR + GAP) + FOOT
    goal = None if limit is None else limit / most * room
    parts = [_frame(height, title)]
    for number, bar in enumerate(shown):
        top = head + number * (BAR + GAP)
        middle, least, far = (value / most * room for value in (bar.figure.middle, bar.figure.least, bar.figure.most))
        colour, line = COLOURS[bar.kind % len(COLOURS)], top + BAR / 2
        parts += [
            _text(LABEL - 8, line + 5, bar.label, "end"),
            f'<rect x="{LABEL}" y="{top}" width="{max(1.0, middle):.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{LABEL + least:.1f} {line}H{LABEL + far:.1f}" stroke="#1a202c" stroke-width="2"/>',
            _text(LABEL + _free(far, goal) + 8, line + 5, f"{short(bar.figure.middle)} {bar.figure.unit}"),
        ]
    if limit is not None and goal is not None:
        x = LABEL + goal
        parts.append(
            f'<path d="M{x:.1f} {head - 6}V{height - FOOT}" stroke="{MISSED}" stroke-width="2" stroke-dasharray="6 4"/>'
        )
        parts.append(_text(x, head - 10, f"goal {short(limit)}", "middle", MISSED))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _free(end: float, goal: float | None) -> float:
    """Return where a value's text may begin: at the end of its bar, or at the goal where that would cross the text."""
    return goal if goal is not None and end < goal < end + TEXT else end


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """Return lines over seconds; the scale begins at zero, so that growth is seen as what it is."""
    height, left, right, bottom = 260, 70, WIDTH - 170, 260 - 34
    far = max([at for points in series.values() for at, _ in points] + [1e-9])
    most = max([value for points in series.values() for _, value in points] + [1e-9]) * 1.1
    parts = [_frame(height, title)]
    for step in range(5):
        value = most * step / 4
        y = bottom - (bottom - HEAD) * step / 4
        parts += [f'<path d="M{left} {y:.1f}H{right}" stroke="#cbd5e0"/>', _text(left - 8, y + 5, short(value), "end")]
    parts += [_text(left, height - 10, "0 s"), _text(right, height - 10, f"{short(far)} s", "end")]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{left + at / far * (right - left):.1f},{bottom - value / most * (bottom - HEAD):.1f}" for at, value in points
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(right + 10, HEAD + 20 * number + 10, f"{name} ({unit})", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="14" role="img" aria-label="{escape(title)}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="12" y="24" font-size="16" font-weight="bold" fill="#1a202c">{escape(title)}</text>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1a202c") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
