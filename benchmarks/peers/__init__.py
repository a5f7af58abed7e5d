"""The same job by other means, for comparison: a twin on controller-runtime, and one as tutorials of kopf write it.

`build_twin` builds the first from pinned Go modules into the user's cache of binaries, once. Called by `benchmarks.subjects`.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Final

from hack import cache
from hack.gobuild import BuildError, find_go

FOLDER: Final = Path(__file__).resolve().parent
TWIN: Final = FOLDER / "controller_runtime"
PLAIN_KOPF: Final = FOLDER / "plain_kopf" / "main.py"
_NAME: Final = "controller-runtime-twin"
_VERSION: Final = "1"
_BUILD_SECONDS: Final = 1200


def build_twin() -> Path:
    """Return the twin's binary; builds it when its sources have changed, about two minutes on 2 cores. BuildError otherwise."""
    sources = sorted([*TWIN.glob("*.go"), TWIN / "go.mod", TWIN / "go.sum"])
    inputs = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    if (found := cache.find(_NAME, _VERSION, inputs=inputs)) is not None:
        return found
    go, environment = find_go()
    with cache.workspace() as folder:
        made = folder / _NAME
        command = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "."]
        done = subprocess.run(
            command, cwd=TWIN, env=environment, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
        )
        if done.returncode != 0:
            raise BuildError(f"go build in {TWIN} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        return cache.install(_NAME, _VERSION, made, origin="built from benchmarks/peers/controller_runtime", inputs=inputs)
