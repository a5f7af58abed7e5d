"""A worker as a program of its own, for tests of the status port: `status_worker.py PORT FOLDER [--fork N]`.

It says on stdin's demand what it runs: `run N` makes it answer revision N of config.yml, `fork` starts a child that outlives
it and sleeps; each is acknowledged by a line on stdout. With `--fork N` it forks N such workers, as a prefork server does,
each with a pipe of its own named on stdout, and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aigateway_config.documents import DocumentState, StatusAnswer
from aigateway_config.slowest import NOTHING_YET
from aigateway_config.status import StatusReporter


def running(revision: int, lineage: str = "uid", files: tuple[str, ...] = ("config.yml",)) -> StatusAnswer:
    """Return the answer of a worker that runs this revision of these files."""
    state = DocumentState(revision=revision, digest=f"{revision:064x}")
    return NOTHING_YET.model_copy(
        update={"lineage": lineage, "documents": dict.fromkeys(files, state), "loaded_at": f"2026-01-01T00:00:{revision:02d}Z"}
    )


class Stage:
    """A reader that runs what it is told."""

    def __init__(self, answer: StatusAnswer = NOTHING_YET) -> None:
        self._answer = answer
        self._watchers: list[Callable[[], None]] = []

    def answer(self) -> StatusAnswer:
        return self._answer

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def run(self, answer: StatusAnswer) -> None:
        """Run this from now on."""
        self._answer = answer
        for watcher in self._watchers:
            watcher()


async def work(port: int, folder: Path, commands: int, replies: int) -> None:
    """Report, and obey the lines that come from the file descriptor `commands`, until its end."""
    stage = Stage()
    reporter = asyncio.create_task(StatusReporter(port, host="127.0.0.1", workers_dir=folder).run(stage))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(commands, "rb"))
    while line := (await reader.readline()).split():
        if line[0] == b"run":
            stage.run(running(int(line[1])))
        elif line[0] == b"fork" and os.fork() == 0:
            sleep_and_exit()
        os.write(replies, b"done\n")
    reporter.cancel()
    await asyncio.gather(reporter, return_exceptions=True)


def sleep_and_exit() -> None:
    """What a forked child does that outlives its worker."""
    time.sleep(60)
    os._exit(0)


def prefork(port: int, folder: Path, count: int) -> None:
    """Fork workers and name each one's process and pipe, then wait for the end of stdin."""
    for _ in range(count):
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            asyncio.run(work(port, folder, theirs, os.open(os.devnull, os.O_WRONLY)))
            os._exit(0)
        os.close(theirs)
        print(pid, f"/proc/{os.getpid()}/fd/{ours}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if "--fork" in sys.argv:
        prefork(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[4]))
    else:
        asyncio.run(work(int(sys.argv[1]), Path(sys.argv[2]), 0, 1))
