"""Reads the project's pages: which there are, and the code blocks of each with what is said about them.

What becomes of a block is decided by its language and by the comment on the line above it:

| block | is |
|---|---|
| `bash` | run, in the order of the page; a `text` block right after it holds lines of its output (`…`: anything) |
| `python` | run from top to bottom |
| `yaml`, with `kind` | judged by the rules if it is of ours, and applied as a dry run |
| `yaml` below `<!-- values -->` | rendered with the chart |
| `json` | parsed |
| any of these below `<!-- not run: reason -->` | not run; its commands are held to the command line's parser and to the chart |
| `console` | a transcript for people, so always with a reason; its commands are parsed just so |

`<!-- given: FOLDER -->` at the top of a page: its commands begin with this example applied and Ready, and with nothing at
all where there is no such comment; `<!-- given: anything -->`: they do not care.
Called by the tests of this folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob("examples/*/README.md"),
            *ROOT.glob("config/**/*.md"),
            *ROOT.glob("charts/*/README.md"),
        ]
    )
)
"""Every page a reader may open. A new one is held to everything here without being named."""

ANYTHING: Final = ROOT / "anything"
"""What `given` returns for a page whose commands do not look at what is in the cluster."""

WORDS_ONLY: Final = frozenset({"text", "mermaid"})
"""Languages of blocks that show something and do nothing."""

_BLOCK = re.compile(
    r"(?:^<!-- (?:not run: (?P<reason>.+?)|(?P<values>values)) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_GIVEN = re.compile(r"^<!-- given: (\S+) -->$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its fence; `expected` the lines of the `text` block right after it."""

    page: Path
    line: int
    language: str
    text: str
    not_run_because: str | None
    expected: tuple[str, ...]
    is_values: bool = False

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the blocks of one language (None: of all), in order."""
    text = page.read_text(encoding="utf-8")
    matches = list(_BLOCK.finditer(text))
    found = []
    for number, match in enumerate(matches):
        following = matches[number + 1] if number + 1 < len(matches) else None
        expected: tuple[str, ...] = ()
        if following is not None and following["language"] == "text" and not text[match.end() : following.start()].strip():
            expected = tuple(following["text"].splitlines())
        if language in (None, match["language"]):
            line = text.count("\n", 0, match.start("language")) + 1
            reason, is_values = match["reason"], match["values"] is not None
            found.append(Block(page, line, match["language"], match["text"], reason, expected, is_values))
    return found


def given(page: Path) -> Path | None:
    """Return the example that a page's commands begin with; None: an empty cluster; ANYTHING: no matter what."""
    match = _GIVEN.search(page.read_text(encoding="utf-8"))
    return ROOT / match[1] if match else None


def missing_lines(expected: tuple[str, ...], output: str) -> list[str]:
    """Return the expected lines that no line of `output` is; runs of spaces count as one, `…` stands for anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [line for line in expected if not any(_pattern(line).fullmatch(candidate) for candidate in lines)]


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(re.escape(" ".join(line.split())).replace("…", ".*"))
