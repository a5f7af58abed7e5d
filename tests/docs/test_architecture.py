"""The drawing of docs/architecture.md is the code: boxes are the rooms, arrows are imports, and no import is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import grimp
import pytest

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "architecture.md"
OPERATOR = ROOT / "operator" / "aigateway_operator"
PACKAGES = ("aigateway_operator", "aigateway_config", "aigateway_gateway", "aigateway_logs")
ENTRIES = {"serving", "main", "webhook", "handlers"}
"""Modules that are rooms of their own; all others are folders."""

Arrow = tuple[str, str]


def drawn() -> tuple[set[str], set[Arrow]]:
    """Return boxes and arrows of the page's drawing."""
    (block,) = blocks(PAGE, "mermaid")
    arrows = set(re.findall(r"^  (\w+) --> (\w+)$", block.text, re.MULTILINE))
    return set(re.findall(r"^    (\w+)$", block.text, re.MULTILINE)), arrows


def rooms() -> set[str]:
    """Return what the code has: folders of the operator, its entries, and the other packages."""
    folders = {path.parent.name for path in OPERATOR.glob("*/__init__.py")}
    return folders | ENTRIES | set(PACKAGES[1:])


def imports() -> set[Arrow]:
    """Return which room imports which directly, single modules left out."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            found.add((_room_of(module), _room_of(imported)))
    known = rooms()
    return {(upper, lower) for upper, lower in found if upper != lower and {upper, lower} <= known}


def _room_of(module: str) -> str:
    package, *rest = module.split(".")
    return package if package != PACKAGES[0] or not rest else rest[0]


def reachable(arrows: Iterable[Arrow]) -> set[Arrow]:
    """Return every pair that a way along the arrows joins."""
    pairs = set(arrows)
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= more
    return pairs


@pytest.fixture(scope="module")
def real() -> set[Arrow]:
    """What imports what."""
    return imports()


def test_boxes_of_the_drawing_are_the_rooms() -> None:
    """A new folder is drawn, and a box that is gone from the code is gone from the page."""
    assert drawn()[0] == rooms()


def test_arrows_of_the_drawing_are_imports(real: set[Arrow]) -> None:
    """No arrow is made up."""
    assert drawn()[1] - real == set()


def test_every_import_is_drawn_or_follows_from_what_is_drawn(real: set[Arrow]) -> None:
    """A new way between two rooms has to be drawn."""
    assert real - reachable(drawn()[1]) == set()


def test_every_room_is_a_layer_of_the_import_contract() -> None:
    """.importlinter holds each room of the drawing to its line."""
    contract = (ROOT / ".importlinter").read_text()
    inside = {path.name for path in OPERATOR.iterdir() if (path / "__init__.py").exists()} | ENTRIES
    assert {room for room in inside if f"(aigateway_operator.{room})" not in contract} == set()


def test_modules_that_the_page_sends_readers_to_are_there() -> None:
    """The table of where to look names files and folders of the source."""
    _, table = PAGE.read_text().split("## Where to look")
    named = re.findall(r"`([\w/*]+(?:\.py|/))`", table)
    sources = (OPERATOR, OPERATOR.parent)
    missing = [name for name in named if not any(_there(source, name) for source in sources)]
    assert named
    assert missing == []


def _there(source: Path, name: str) -> bool:
    return any(source.glob(name.rstrip("/")))
