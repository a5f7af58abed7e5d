"""Large buffers that are let go leave the process, also where small things that stay were made among them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys
from asyncio.sslproto import SSLProtocol
from aigateway_operator.footprint import TLS_BYTES, stay_small
if sys.argv[1] == "small":
    stay_small()
    assert SSLProtocol.max_size == TLS_BYTES
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
bytearray(900_000)  # the first that is let go tells the C library that such sizes come and go
before, kept = resident(), []
for _ in range(20):
    pages = [bytearray(b"x") * 500_000 for _ in range(2)]
    kept.append([bytes(2000) for _ in range(20)])
    del pages
pages = []
for _ in range(12):
    pages.append(bytearray(b"x") * 500_000)
    kept.append(bytes(2000))
pages.clear()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_buffers_go_back_to_the_system() -> None:
    """Twelve half megabytes with something small between them: holes that stay, unless they are the system's."""
    taken = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, timeout=60).stdout)
        for how in ("small", "plain")
    }
    assert taken["small"] < 3_000_000 < taken["plain"], taken


LEFT_BEHIND = """
from aigateway_operator.footprint import give_back
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
made = [bytes(2000) for _ in range(20_000)]
kept = made[::50]
made.clear()
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_lies_free_between_what_stays_goes_back_too() -> None:
    """Forty megabytes, of which every fiftieth thing stays: the C library alone gives back what lies behind the last one."""
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], check=True, capture_output=True, timeout=60)
    assert int(done.stdout) > 20_000_000
