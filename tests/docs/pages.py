"""Reads the project's pages: which there are, and the code blocks of each with what is said about them.

A `bash` block is run by tests, in the order of the page, unless the line above it is `<!-- not run: reason -->`. A `text`
block right after it holds lines that must appear in its output, with `…` for anything. `console` blocks are transcripts
for people. Called by the tests of this folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = (
    "quickstart",
    "concepts",
    "status",
    "troubleshooting",
    "operations",
    "admission",
    "architecture",
    "gateway",
    "metrics",
    "runbooks",
)
PAGES: Final = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in NAMES),
    *sorted(ROOT.glob("examples/*/README.md")),
)

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its fence; `expected` the lines of the `text` block right after it."""

    page: Path
    line: int
    language: str
    text: str
    not_run_because: str | None
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    matches = list(_BLOCK.finditer(text))
    found = []
    for number, match in enumerate(matches):
        following = matches[number + 1] if number + 1 < len(matches) else None
        expected: tuple[str, ...] = ()
        if following is not None and following["language"] == "text" and not text[match.end() : following.start()].strip():
            expected = tuple(following["text"].splitlines())
        if match["language"] == language:
            line = text.count("\n", 0, match.start("language")) + 1
            found.append(Block(page, line, language, match["text"], match["reason"], expected))
    return found


def missing_lines(expected: tuple[str, ...], output: str) -> list[str]:
    """Return the expected lines that no line of `output` is; runs of spaces count as one, `…` stands for anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [line for line in expected if not any(_pattern(line).fullmatch(candidate) for candidate in lines)]


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(re.escape(" ".join(line.split())).replace("…", ".*"))
