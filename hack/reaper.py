"""Kills process groups and removes folders when the process that asked for it has gone, however it went.

A program of its own, started by `hack.process`: it reads orders from its standard input and acts when that ends, which
the kernel sees to even after SIGKILL. It imports nothing of this project and never talks.
"""

import contextlib
import os
import shutil
import signal
import sys
import time


def main() -> None:
    """Read orders (`+group 123`, `-group 123`, `+folder /x`, `-folder /x`) until the end, then clear up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever owns us decides by going away
    wanted: dict[str, None] = {}
    for line in sys.stdin:
        order, subject = line.rstrip("\n").split(" ", 1)
        key = f"{order[1:]} {subject}"
        if order.startswith("+"):
            wanted[key] = None
        else:
            wanted.pop(key, None)
    groups = [int(key.split(" ", 1)[1]) for key in wanted if key.startswith("group ")]
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    if groups:
        time.sleep(0.2)  # a dying server may still write into the folder that goes next
    for key in wanted:
        if key.startswith("folder "):
            shutil.rmtree(key.split(" ", 1)[1], ignore_errors=True)


if __name__ == "__main__":
    main()
