"""values.yaml as a list of documented values. A comment that begins with `# --` documents the key below it; what lies deeper
than a documented key is its default, not a value of its own. Called by `schema` and `page`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "aigateway"
VALUES: Final = CHART / "values.yaml"
_KEY: Final = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)")
_MARK: Final = "# -- "


class Undocumented(Exception):
    """A value of values.yaml has no comment, or a comment has no value; the text names all."""


@dataclass(frozen=True, slots=True)
class Value:
    """One documented value: its path, its default, and what it is for."""

    path: tuple[str, ...]
    default: Any
    text: str

    @property
    def dotted(self) -> str:
        """How people write it after `--set`."""
        return ".".join(self.path)


def read_values(path: Path = VALUES) -> list[Value]:
    """Return all values in the order of the file. Raises Undocumented."""
    text = path.read_text(encoding="utf-8")
    comments = dict(_comments(text))
    found = list(_leaves(yaml.safe_load(text), (), comments))
    missing = [value.dotted for value in found if not value.text]
    idle = [".".join(one) for one in comments if one not in {value.path for value in found}]
    if missing or idle:
        raise Undocumented(f"{path.name}: no '{_MARK}' comment above {missing}; comments without a value of their own: {idle}")
    return found


def _leaves(tree: dict[str, Any], above: tuple[str, ...], comments: dict[tuple[str, ...], str]) -> Iterator[Value]:
    for key, default in tree.items():
        path = (*above, key)
        if path in comments or not isinstance(default, dict) or not default:
            yield Value(path, default, comments.get(path, ""))
        else:
            yield from _leaves(default, path, comments)


def _comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path, comment) of every key with a comment above it."""
    path: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(_MARK):
            comment = stripped.removeprefix(_MARK)
        elif match := _KEY.fullmatch(line):
            indent = len(match["indent"])
            path = [step for step in path if step[0] < indent] + [(indent, match["key"])]
            if comment:
                yield tuple(key for _, key in path), comment
            comment = ""
