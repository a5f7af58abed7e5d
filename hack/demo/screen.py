"""What a person sees of the demo: narration, the commands they would type, excerpts, and the table at the end.

Prints only; decides nothing. Colour on a terminal alone, and not when NO_COLOR is set. Called by the acts.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final, TextIO

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
_NARROWEST: Final = 60
_WIDEST: Final = 120
_CONTEXT: Final = 40
"""Characters shown before the place where two lines differ."""


class Screen:
    """Prints to one stream. Long lines are cut (…) rather than wrapped, but for narration."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream` None is standard output."""
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self.width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 40)).columns))

    def title(self, text: str) -> None:
        """Head a step."""
        self._line("")
        self._line(self._paint(f"── {text} {'─' * max(3, self.width - len(text) - 4)}", _BOLD, _CYAN))

    def say(self, text: str) -> None:
        """Narrate: what is done, or what was just seen."""
        for line in textwrap.wrap(text, self.width):
            self._line(line)

    def command(self, text: str) -> None:
        """Show what a user would type."""
        for number, line in enumerate(text.splitlines()):
            self._line(self._paint(f"  {'$' if number == 0 else '>'} {line}", _BOLD))

    def output(self, lines: Iterable[str]) -> None:
        """Show what a program said, dimmed and indented."""
        for line in lines:
            self._line(self._paint(f"    {self._cut(line.rstrip(), 4)}", _DIM))

    def quote(self, text: str) -> None:
        """Show a message whole, its long lines wrapped."""
        for line in text.strip().splitlines():
            for part in textwrap.wrap(line, self.width - 4, break_on_hyphens=False):
                self._line(self._paint(f"    {part}", _DIM))

    def change(self, before: str, after: str) -> None:
        """Show a line that went (-) and the one that came (+), each from a little before they differ."""
        same = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
        start = sum(1 for _ in same) - _CONTEXT
        for mark, line, colour in (("-", before, _RED), ("+", after, _GREEN)):
            shown = line if start <= 0 else f"…{line[start:]}"
            self._line(self._paint(f"  {mark} {self._cut(shown, 4)}", colour))

    def seen(self, text: str, took_ms: float | None = None) -> None:
        """State what was checked and found true; `took_ms` since the edit was answered."""
        timing = "" if took_ms is None else self._paint(f"  [{duration(took_ms)}]", _YELLOW)
        lines = textwrap.wrap(text, self.width - 4)
        for number, line in enumerate(lines):
            mark = self._paint("  ✓", _GREEN) if number == 0 else "   "
            self._line(f"{mark} {line}{timing if number == len(lines) - 1 else ''}")

    def failed(self, text: str) -> None:
        """State what was not true."""
        for number, line in enumerate(text.splitlines() or [""]):
            self._line(f"{self._paint('  ✗', _RED) if number == 0 else '   '} {line}")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows in columns, the first one as head; only the last column may be cut."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            line = self._cut(line, 2)
            self._line(f"  {self._paint(line, _BOLD) if number == 0 else line}")

    def _cut(self, line: str, indent: int) -> str:
        room = self.width - indent
        return line if len(line) <= room else f"{line[: room - 1]}…"

    def _paint(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour else text

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def duration(milliseconds: float) -> str:
    """Milliseconds in words: "<1 ms", "12 ms", "3.4 s"."""
    if milliseconds < 0.5:
        return "<1 ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.1f} s"
