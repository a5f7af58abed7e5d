"""What a run ran on: processor, memory, kernel, versions, load. Called by `__main__`; reads /proc and asks programs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hack.binaries import locate
from hack.tools import TOOLS, ask_version, version_text

LIBRARIES = ("kopf", "aiohttp", "pydantic", "orjson", "redis", "pymongo")


def describe() -> dict[str, Any]:
    """Return what is known of the machine and the versions of what is measured."""
    return {"machine": machine(), "versions": versions(), "load before": load()}


def machine() -> dict[str, Any]:
    """Return processor, cores that this process may use, memory, kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kilobytes = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory GiB": round(int(kilobytes.split()[1]) / 2**20, 1),
        "kernel": platform.release(),
    }


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes: above the number of cores, times are worth little."""
    return [round(value, 2) for value in os.getloadavg()]


def versions() -> dict[str, str]:
    """Return versions of Python, libraries, servers, and the commit that is measured."""
    found = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    for name, path in locate(["kube-apiserver", "etcd", "redis-server", "mongowire"]).items():
        said = ask_version(TOOLS[name], path)
        found[name] = said if isinstance(said, str) else version_text(said)
    found["commit"] = _commit()
    return found


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    return said or "unknown"


if __name__ == "__main__":
    print(describe(), file=sys.stdout)
