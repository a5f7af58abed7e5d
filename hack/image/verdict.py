"""What is wrong with an image, from what `inside` found in it. Pure. Called by `python -m hack image` and tests/image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hack.image.sandbox import USER

INSIDE: Final = (Path(__file__).parent / "inside.py").read_text()
PREFIX: Final = "/opt/aigateway"
FEWEST_MODULES: Final = 30
"""An image with fewer modules of ours holds no whole package."""


def parse_found(text: str) -> Mapping[str, Any]:
    """Return what `inside` printed as its last line. ValueError if it printed something else."""
    lines = text.strip().splitlines()
    found = json.loads(lines[-1]) if lines else None
    if not isinstance(found, dict):
        raise ValueError(f"the check inside printed no result but: {text[-300:]}")
    return found


def faults(found: Mapping[str, Any]) -> list[str]:
    """Return each thing that is not as docs/image.md says, as a sentence; [] if all is well."""
    told = []
    if (found["uid"], found["gid"]) != (USER, USER):
        told.append(f"runs as {found['uid']}:{found['gid']}, not as {USER}:{USER}")
    if found["prefix"] != PREFIX:
        told.append(f"Python's environment is {found['prefix']}, not {PREFIX}")
    if found["modules"] < FEWEST_MODULES:
        told.append(f"holds {found['modules']} modules of ours only")
    if not found["tmp"]:
        told.append("the folder for temporary files cannot be written")
    if found["network"]:
        told.append("the check had a network, so it showed nothing about doing without")
    for key, text in (
        ("failed_imports", "cannot be imported"),
        ("writable", "can be written"),
        ("odd_bytecode", "bytecode"),
        ("uncompiled", "is not compiled"),
        ("tests", "is there, tests do not belong into an image"),
        ("installers", "can be imported, installers do not belong into an image"),
        ("compilers", "is in PATH"),
        ("setuid", "is setuid or setgid"),
    ):
        told += [f"{thing}: {text}" for thing in found[key][:10]]
    return told
