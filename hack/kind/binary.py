"""kind itself: from PATH, else from the cache, else built from its pinned Go module. Called by `hack.kind.__main__`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from hack import cache
from hack.gobuild import build
from hack.progress import Progress
from hack.tools import KIND, Tool, ask_version, parse_version

TOOL: Final = Tool("kind", ("version",), "clusters in Docker", "kind", "sigs.k8s.io/kind")
LOWEST: Final = (0, 27)
"""The oldest release whose default node runs a Kubernetes that the chart supports."""


def get_kind(progress: Progress) -> Path:
    """Return a kind that will do. Raises BuildError when there is none and it cannot be built."""
    found = shutil.which("kind")
    if found is not None and not isinstance(said := ask_version(TOOL, Path(found)), str) and said[:2] >= LOWEST:
        return Path(found)
    with cache.locked(lambda holder: progress.say(f"waiting for process {holder}, which fills the cache")):
        kept = cache.find("kind", KIND)
        if kept is not None and ask_version(TOOL, kept) == parse_version(KIND):
            return kept
        return build("kind", [TOOL], progress)["kind"]
