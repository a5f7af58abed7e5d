"""A program that is killed at each system call of the spool in turn: `python -m tests.logs.crashing FOLDER before|amid`.

For every call number it forks a child with a spool of its own, in which a dead process has left records. The child adopts
them, keeps records of its own and ships some, until it is killed; it tells through a pipe which records it was told are
durable, and which were shipped. Prints one JSON line a child. Called by `test_spool_crash`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from tests.logs.faulty_disk import KillingDisk
from tests.logs.spooling import keep, number_of, spooling

RECORDS = 40
LEFT = range(1000, 1020)
NEVER = 1_000_000


def child(folder: Path, call: int, pipe: int, *, amid: bool) -> None:
    """Keep records 0 …; ends by SIGKILL, or with 3 when there was no such call."""
    with spooling(folder, KillingDisk(call, amid=amid)) as (spool, _):
        spool.adopt()
        for number in range(RECORDS):
            if keep(spool, number, size=300).result(10):
                os.write(pipe, f"kept {number}\n".encode())
            if number % 8 == 7:
                for reader in spool.readers():
                    batch = reader.read(9)
                    if batch is not None:
                        for _, data in batch.records:  # the server has acknowledged them before anything is trimmed
                            os.write(pipe, f"shipped {number_of(data)}\n".encode())
                        reader.acknowledge(batch)
                spool.leave_shipped()
    os._exit(3)


def leave(folder: Path) -> None:
    """Be a process that dies with records in its spool."""
    pid = os.fork()
    if pid == 0:
        with spooling(folder) as (spool, _):
            for number in LEFT:
                keep(spool, number, size=300).result(10)
            os._exit(0)
    os.waitpid(pid, 0)


def one(folder: Path, call: int, *, amid: bool) -> bool:
    """Fork one child and print what it told; whether it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(folder, call, writing, amid=amid)
    os.close(writing)
    with os.fdopen(reading) as lines:
        told = [line.split() for line in lines]
    _, status = os.waitpid(pid, 0)
    kept = [int(number) for what, number in told if what == "kept"]
    shipped = [int(number) for what, number in told if what == "shipped"]
    print(json.dumps({"folder": str(folder), "killed": os.WIFSIGNALED(status), "kept": kept, "shipped": shipped}), flush=True)
    return os.WIFSIGNALED(status)


def main() -> None:
    """Fork children until one outlives its calls."""
    folder, amid = Path(sys.argv[1]), sys.argv[2] == "amid"
    leave(folder / "template")
    for call in range(1, NEVER):
        shutil.copytree(folder / "template", folder / str(call))
        if not one(folder / str(call), call, amid=amid):
            return


if __name__ == "__main__":
    main()
