"""Where the links of a page lead: files of the repository, and headings by the anchors that the forge gives them.

Knows Markdown only as far as this project's pages use it. Called by the tests of this folder.
"""

from __future__ import annotations

import re
from pathlib import Path

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """Return the page without its code blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Return the targets of the page's links that lead into the repository, in order."""
    targets = _LINK.findall(_CODE.sub("", prose(page)))
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings; a repeated one gets `-1`, `-2`, as on the forge."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        anchor, number = anchor_of(heading), 0
        while f"{anchor}-{number}" in found or (number == 0 and anchor in found):
            number += 1
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def anchor_of(heading: str) -> str:
    """Return a heading's anchor: lower case, no punctuation but `-` and `_`, a `-` for each space."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    """Return the links of a page whose file or heading is not there."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken
