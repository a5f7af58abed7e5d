"""LiteLLM's proxy as something to compare with: an environment of its own in the user's cache, and how it is started.

Version pinned, so that figures can be repeated; settings are those that its documentation gives for production, without a
database. Installed once (about 750 MB). Called by `benchmarks.gateway`; the project depends on none of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from shutil import rmtree
from typing import Final

from hack.cache import cache_root, locked

VERSION: Final = "1.106.2"
SECONDS: Final = 900
"""Longest time the installation may take."""
ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it is downloaded at every start
    "NO_DOCS": "True",
}
HEALTH: Final = "/health/liveliness"


class NotThere(Exception):
    """It cannot be installed here; the text says why."""


def ensure() -> Path:
    """Return the interpreter of an environment that has it; makes the environment the first time. Raises NotThere."""
    folder = cache_root() / "benchmarks" / f"litellm-{VERSION}"
    python, whole = folder / "bin" / "python", folder / "installed"
    with locked(lambda holder: print(f"waiting for process {holder}, which holds the cache …", file=sys.stderr)):
        if whole.exists():
            return python
        print(f"installing litellm[proxy] {VERSION} into {folder} (once, about a minute) …", file=sys.stderr, flush=True)
        rmtree(folder, ignore_errors=True)
        venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install"]
        try:
            done = subprocess.run(
                [*command, f"litellm[proxy]=={VERSION}"], capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotThere(f"pip was not done after {SECONDS} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["pip said nothing"]
            raise NotThere(lines[-1])
        whole.touch()
    return python


def command_of(python: Path, port: int, upstream: str, folder: Path) -> list[str]:
    """Write its configuration into `folder` and return the command that serves it with one worker."""
    parameters = {"model": "openai/up-small", "api_base": upstream, "api_key": "sk-backend"}
    config = {
        "model_list": [{"model_name": "chat", "litellm_params": parameters}],
        "general_settings": {"master_key": "key-chat"},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))
    script = str(python.with_name("litellm"))
    return [script, "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
