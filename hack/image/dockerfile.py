"""Read our own Dockerfile: its stages and their instructions, as far as we write them.

No parser for everybody's: no heredocs, no escape directive, no quotes in ARG beyond what is there. Pure. Called by
`hack.image.sandbox`, which runs the steps, and by tests/image, which hold the file to its rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FLAG: Final = re.compile(r"--(?P<name>[a-z]+)=(?P<value>\S+)\s+")
_FROM: Final = re.compile(r"(?P<base>\S+)(\s+AS\s+(?P<name>\S+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `flags` in order, as ("mount", "type=bind,…"); `text` is what follows them, on one line."""

    keyword: str
    text: str
    flags: tuple[tuple[str, str], ...] = ()

    def flag(self, name: str) -> str | None:
        """The first flag of that name, or None."""
        return next((value for given, value in self.flags if given == name), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows. `base` is an image, with its variables as written, or an earlier stage's name."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """`arguments` are the ARGs before the first FROM with their defaults; `stages` are in order."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    def line_of(self, name: str) -> list[Stage]:
        """The stage and the stages it is made from, the first one first."""
        line = [self.stages[name]]
        while line[0].base in self.stages:
            line.insert(0, self.stages[line[0].base])
        return line


def parse_dockerfile(text: str) -> Dockerfile:
    """Return the stages of a Dockerfile. ValueError names a line that this reader does not know."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    name, base, instructions = "", "", list[Instruction]()

    def close() -> None:
        if name:
            stages[name] = Stage(name, base, tuple(instructions))

    for instruction in _instructions(text):
        if instruction.keyword == "FROM":
            close()
            if not (found := _FROM.fullmatch(instruction.text)) or not found["name"]:
                raise ValueError(f"FROM {instruction.text}: a stage needs a name (FROM image AS name)")
            name, base, instructions = found["name"], found["base"], []
        elif not name and instruction.keyword == "ARG":
            arguments |= parse_arguments(instruction.text)
        elif not name:
            raise ValueError(f"{instruction.keyword} {instruction.text}: stands before the first FROM")
        else:
            instructions.append(instruction)
    close()
    return Dockerfile(arguments, stages)


def parse_arguments(text: str) -> dict[str, str]:
    """Names and values of an ARG or ENV line, `NAME=value NAME=value`; a name without a value has ""."""
    return {name: value.strip('"') for name, _, value in (word.partition("=") for word in text.split())}


def _instructions(text: str) -> list[Instruction]:
    kept = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in "\n".join(kept).replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        flags = []
        rest = " ".join(rest.split()) + " "
        while match := _FLAG.match(rest):
            flags.append((match["name"], match["value"]))
            rest = rest[match.end() :]
        found.append(Instruction(keyword.upper(), rest.strip(), tuple(flags)))
    return found
