"""What the release workflow asks before and after: is this tag a release, and what does its changelog say.

Standard library only. It publishes nothing. Called by .github/workflows/release.yml: `python -m hack.release check|notes`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_TAG: Final = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_REGISTRY: Final = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*")


def stated_versions(root: Path) -> dict[str, str]:
    """Every place that states the project's version, with what it states ("" if it states none)."""
    stated = {"pyproject.toml": str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])}
    chart = (root / "charts/aigateway/Chart.yaml").read_text()
    for key in ("version", "appVersion"):
        found = re.search(rf"^{key}: *\"?([^\"\s]+)", chart, re.MULTILINE)
        stated[f"charts/aigateway/Chart.yaml ({key})"] = found[1] if found else ""
    for package in ("aigateway_operator", "aigateway_gateway"):
        found = re.search(r'^__version__ = "([^"]+)"', (root / "operator" / package / "__init__.py").read_text(), re.MULTILINE)
        stated[f"operator/{package}/__init__.py"] = found[1] if found else ""
    return stated


def problems(tag: str, registry: str, root: Path = ROOT) -> list[str]:
    """Everything that keeps this tag from being a release, each with its remedy; [] if nothing does."""
    told = []
    if not _TAG.fullmatch(tag):
        told.append(f"Tag '{tag}' is no version; name it v1.2.3 or v1.2.3-rc.1.")
    version = tag.removeprefix("v")
    for place, stated in stated_versions(root).items():
        if stated != version:
            told.append(f"{place} says '{stated}', the tag says '{version}'; make them equal and tag again.")
    if not release_notes(version, root):
        told.append(f"CHANGELOG.md has no entries under '## [{version}]'; move them there from '## [Unreleased]'.")
    if not _REGISTRY.fullmatch(registry):
        told.append(
            f"Registry is '{registry}'; set the repository's variable IMAGE_REGISTRY to host/path, lower case, no scheme."
        )
    return told


def release_notes(version: str, root: Path = ROOT) -> str:
    """Return the entries of one version in CHANGELOG.md, "" if there are none."""
    text = (root / "CHANGELOG.md").read_text()
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or print the notes; 1 with every problem."""
    parser = argparse.ArgumentParser(prog="python -m hack.release", description="Checks of a release.")
    parser.add_argument("what", choices=["check", "notes"])
    parser.add_argument("--tag", required=True)
    parser.add_argument("--registry", default="")
    given = parser.parse_args(arguments)
    if given.what == "notes":
        print(release_notes(given.tag.removeprefix("v")))
        return 0
    told = problems(given.tag, given.registry)
    for problem in told:
        print(problem, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
