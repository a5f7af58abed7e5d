"""What is to be said of a place in a file: an error or a note, as a line for people or a mapping for programs. Pure.

Made by `manifests`, `check` and `import_config`; never holds a value of a field that may be secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

ERROR: Final = "error"
WARNING: Final = "warning"
NOTE: Final = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing at one place. `line` counts from 1; 0: the file as a whole. `path` is relative to the object.

    `reason` is one CamelCase word, `rule` the number in docs/rules.md or "" where no numbered rule speaks.
    """

    severity: str
    file: str
    line: int = 0
    kind: str = ""
    name: str = ""
    path: str = ""
    reason: str = ""
    message: str = ""
    rule: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.kind}/{self.name}" if self.kind else ""
        rule = f" [{self.rule}]" if self.rule else ""
        before = "" if self.severity == ERROR else f"{self.severity}: "
        return ": ".join(part for part in (place, what, f"{before}{self.path}".removesuffix(": "), self.message) if part) + rule

    def as_data(self) -> dict[str, Any]:
        """Return it for `-o json|yaml`: every key always there."""
        return asdict(self)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by file and line, errors first on a line."""
    return sorted(findings, key=lambda one: (one.file, one.line, one.severity != ERROR, one.name, one.path))


def counted(number: int, noun: str) -> str:
    """Return `1 model`, `2 models`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
