"""Packets that a network drops, in a network namespace of the test's own: the far end of the wire takes no frame of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "10.9.9.2"
WIRE = (
    "ip link add near type veth peer name far && ip addr add 10.9.9.1/24 dev near && ip link set near up && ip link set far up"
    f" && ip neigh add {ADDRESS} lladdr 02:00:00:00:00:99 dev near"
)


def _inside(script: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "--map-root-user", "--net", "sh", "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_dropped_packets_are_a_time_out_within_the_limit() -> None:
    """No refusal, no reset, no answer: each store is Down, Timeout, and not a moment later than the check may take."""
    wire = _inside(WIRE)
    if wire.returncode != 0:
        pytest.skip(f"this machine allows no network namespaces: {wire.stderr.strip()}")
    done = _inside(f"{WIRE} && PYTHONPATH=operator:. {sys.executable} -m tests.datastores.checking_dropped {ADDRESS}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: (state, reason) for name, (state, reason, _) in found.items()} == dict.fromkeys(
        ("redis", "mongodb", "qdrant"), ("Down", "Timeout")
    )
    assert all(0.4 < seconds < 2.0 for _, _, seconds in found.values()), found
