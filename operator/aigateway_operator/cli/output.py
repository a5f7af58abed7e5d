"""How commands print: text for people, with colour only on a terminal, or JSON and YAML for programs.

Knows no command and no kind. Answers go to stdout, what is said about them to stderr. Called by every command module.
Source: https://no-color.org (NO_COLOR); kubectl's own columns where there is no terminal.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TextIO

import yaml

_CODES: Final = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_GAP: Final = "   "
_LEAST_ROOM: Final = 24
"""Columns that a text needs to be read when it goes on below itself; with fewer it stands below the line, indented."""
_INDENT: Final = 4


def on_terminal(stream: TextIO) -> bool:
    """Tell whether people look at `stream` and its lines may be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def in_colour(stream: TextIO) -> bool:
    """Tell whether colour is welcome."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return `text` in a colour (a key of `_CODES`, "" for none) where colour is welcome."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and in_colour(stream) else text


def say(text: str, colour: str = "") -> None:
    """Print a line about the answer to stderr."""
    print(paint(text, colour, sys.stderr), file=sys.stderr, flush=True)


def print_data(value: Any, output: str, stream: TextIO | None = None) -> None:
    """Print one JSON value as `json` or `yaml`."""
    target = sys.stdout if stream is None else stream
    target.write(as_json(value) if output == "json" else as_yaml(value))


def as_json(value: Any) -> str:
    """Return a JSON value as indented text with a line end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_yaml(*values: Any) -> str:
    """Return JSON values as YAML documents. Text of several lines stands as a block; every text reads back the same."""
    text: str = yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):
    """YAML as people write Kubernetes manifests."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        """Write everything out; anchors confuse people and programs."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # What cannot be seen is escaped: PyYAML would fold U+0085 and its like into a space.
    visible = all(line.isprintable() for line in text.split("\n"))
    if visible and "\n" in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    # PyYAML writes y, 1e3 and 0o7 without quotes; kubectl reads them as something else.
    quoted = not visible or text[:1].isdigit() or text[:1] in "+-." or text in {"y", "Y", "n", "N"}
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(StrEnum, lambda dumper, word: _represent_text(dumper, word.value))  # states and reasons


@dataclass(slots=True)
class Table:
    """Rows under headings. A cell is text, or (text, colour)."""

    headings: Sequence[str]
    rows: list[Sequence[str | tuple[str, str]]] = field(default_factory=list)

    def add(self, *cells: str | tuple[str, str]) -> None:
        """Add a row."""
        self.rows.append(cells)

    def lines(self, stream: TextIO, width: int | None = None) -> Iterable[str]:
        """Yield lines with aligned columns, as long as they are where `width`, that of a screen, is None.

        The last cell goes on below, for remedies stand at the end of messages. What has no room even so is cut.
        """
        texts = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.headings, *texts, strict=True)]
        start = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        yield paint(_line(self.headings, widths, width), "bold", stream)
        for row, (*cells, last) in zip(self.rows, texts, strict=True):
            first, more = _folded(last, start, width)
            yield _coloured(_line([*cells, first], widths, width), row, widths, stream)
            yield from more


def _line(cells: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    line = _GAP.join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def _folded(text: str, start: int, width: int | None) -> tuple[str, list[str]]:
    """Return what of a last cell stands in its line, from column `start` on, and the lines below."""
    if width is None or len(text) <= width - start or width - _INDENT < _LEAST_ROOM:
        return text, []
    indent = start if width - start >= _LEAST_ROOM else _INDENT
    below = [f"{'':{indent}}{part}" for part in textwrap.wrap(text, width - indent, break_on_hyphens=False)]
    return (below[0].lstrip(), below[1:]) if indent == start else ("", below)


def _coloured(line: str, row: Sequence[str | tuple[str, str]], widths: Sequence[int], stream: TextIO) -> str:
    """Paint the cells of a padded line, from right to left so that places stay true."""
    starts = [sum(widths[:index]) + len(_GAP) * index for index in range(len(widths))]
    for start, cell in reversed(list(zip(starts, row, strict=True))):
        if isinstance(cell, tuple) and start < len(line):
            end = min(start + len(cell[0]), len(line))
            line = line[:start] + paint(line[start:end], cell[1], stream) + line[end:]
    return line
