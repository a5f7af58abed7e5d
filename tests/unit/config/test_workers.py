"""Several workers of one pod, as real processes: killed, frozen, forked, and each other's heirs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aigateway_config import status
from aigateway_config.documents import STATUS_PATH, StatusAnswer
from aigateway_config.slowest import NOTHING_YET
from aigateway_config.status import StatusReporter
from aigateway_config.workers import WorkersFolder, default_folder
from tests.eventually import eventually, eventually_async
from tests.unit.config.status_worker import Stage, running

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("status_worker.py")
UNPROXIED = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Worker:
    """One process."""

    def __init__(self, port: int, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(port), str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        )
        self.pid = self.process.pid

    def tell(self, command: str) -> None:
        """Give a command and wait until it is obeyed."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.line() == "done"

    def line(self) -> str:
        """Return the next line it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, sent: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(sent)

    def end(self) -> None:
        """Let it end by itself if it can, and leave nothing behind."""
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate(timeout=5)


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@pytest.fixture
def start(port: int, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers of one pod."""
    started: list[Worker] = []

    def begin(*options: str) -> Worker:
        started.append(Worker(port, tmp_path / "workers", *options))
        return started[-1]

    yield begin
    for worker in started:
        worker.end()


def ask(port: int) -> StatusAnswer:
    """Return the pod's answer; an AssertionError if there is none."""
    try:
        with UNPROXIED.open(f"http://127.0.0.1:{port}{STATUS_PATH}", timeout=1) as response:
            return StatusAnswer.model_validate_json(response.read())
    except OSError as error:
        raise AssertionError(f"no answer: {error}") from None


def wait_answer(port: int, revision: int, within_seconds: float = 5) -> StatusAnswer:
    """Wait until the pod says that it runs this revision; 0: that not all workers run anything."""

    def check() -> StatusAnswer:
        answer = ask(port)
        state = answer.documents.get("config.yml")
        assert (state.revision if state else 0) == revision, answer
        return answer

    return eventually(check, within_seconds=within_seconds, every_seconds=0.02)


def wait_written(folder: Path, answer: StatusAnswer, count: int) -> None:
    """Wait until so many workers have written this answer, and no other one is there."""

    def check() -> None:
        found = [path.read_text() for path in (folder / "workers").glob("[!.]*.json")]
        assert [StatusAnswer.model_validate_json(text) for text in found] == [answer] * count

    eventually(check, within_seconds=5, every_seconds=0.02)


def files(folder: Path) -> list[str]:
    """Return the names of all files of the workers' folder."""
    return sorted(path.name for path in (folder / "workers").iterdir())


def test_the_answer_is_that_of_the_slowest_of_four_workers(start: Callable[..., Worker], port: int, tmp_path: Path) -> None:
    """A worker that has loaded nothing, and one that is a revision behind, keep the pod from being done."""
    workers = [start() for _ in range(4)]
    for worker in workers[:3]:
        worker.tell("run 2")
    eventually(lambda: _assert_equal(len(files(tmp_path)), 8), within_seconds=5)
    assert wait_answer(port, 0).lineage is None
    workers[3].tell("run 1")
    wait_answer(port, 1)
    workers[3].tell("run 2")
    assert wait_answer(port, 2) == running(2)


def test_a_frozen_worker_counts_with_what_it_last_had(start: Callable[..., Worker], port: int, tmp_path: Path) -> None:
    """It may wake and serve what is out of date, so the pod is not done; once it wakes and loads, it is."""
    holder = start()
    holder.tell("run 1")
    wait_answer(port, 1)
    frozen = start()
    frozen.tell("run 1")
    wait_written(tmp_path, running(1), 2)
    frozen.send(signal.SIGSTOP)
    holder.tell("run 2")
    for _ in range(3):
        assert ask(port).documents["config.yml"].revision == 1
    frozen.send(signal.SIGCONT)
    frozen.tell("run 2")
    wait_answer(port, 2)


def test_a_killed_worker_is_forgotten_with_its_files(start: Callable[..., Worker], port: int, tmp_path: Path) -> None:
    """SIGKILL leaves files behind, which the next answer ignores and removes."""
    holder = start()
    holder.tell("run 2")
    wait_answer(port, 2)
    victim = start()
    victim.tell("run 1")
    wait_answer(port, 1)
    victim.send(signal.SIGKILL)
    victim.process.wait(5)
    assert len(files(tmp_path)) == 4
    assert ask(port) == running(2)
    assert [name.partition("-")[0] for name in files(tmp_path)] == [str(holder.pid)] * 2


def test_another_worker_takes_over_within_a_second_when_the_holder_is_killed(start: Callable[..., Worker], port: int) -> None:
    """It then answers for the living only."""
    holder = start()
    holder.tell("run 1")
    wait_answer(port, 1)
    heirs = [start() for _ in range(2)]
    for heir in heirs:
        heir.tell("run 2")
    holder.send(signal.SIGKILL)
    holder.process.wait(5)
    died = time.monotonic()
    wait_answer(port, 2)
    assert time.monotonic() - died < 1.0


def test_a_frozen_holder_of_the_port_answers_nothing(start: Callable[..., Worker], port: int) -> None:
    """The pod is unreachable, which is true: nobody can say what all of it runs. It answers again when it wakes."""
    holder = start()
    holder.tell("run 1")
    wait_answer(port, 1)
    start().tell("run 2")
    holder.send(signal.SIGSTOP)
    with pytest.raises(AssertionError, match="no answer"):
        ask(port)
    holder.send(signal.SIGCONT)
    wait_answer(port, 1)


def test_a_child_that_outlives_its_worker_holds_neither_port_nor_lock(
    start: Callable[..., Worker], port: int, tmp_path: Path
) -> None:
    """What a worker forked (a subprocess pool) inherits its files; it must not be taken for the worker."""
    holder = start()
    holder.tell("run 1")
    wait_answer(port, 1)
    holder.tell("fork")
    (child,) = _children(holder.pid)
    try:
        holder.send(signal.SIGKILL)
        holder.process.wait(5)
        start().tell("run 2")
        assert wait_answer(port, 2) == running(2)
        os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, signal.SIGKILL)


def test_workers_that_a_server_forks_answer_together(start: Callable[..., Worker], port: int) -> None:
    """As gunicorn does it: one parent, workers forked from it, one of them killed."""
    parent = start("--fork", "3")
    workers = [parent.line().split() for _ in range(3)]
    for revision, (_, pipe) in enumerate(workers, start=4):
        Path(pipe).write_text(f"run {revision}\n")
    wait_answer(port, 4)
    os.kill(int(workers[0][0]), signal.SIGKILL)
    wait_answer(port, 5)


def test_leaving_removes_every_trace(start: Callable[..., Worker], tmp_path: Path, port: int) -> None:
    """A worker that ends by itself leaves no file and frees the port."""
    worker = start()
    worker.tell("run 1")
    wait_answer(port, 1)
    worker.end()
    assert files(tmp_path) == []
    with pytest.raises(AssertionError, match="refused"):
        ask(port)


def test_a_worker_whose_answer_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A living worker whose file is garbage counts as one that runs nothing."""
    one, two = WorkersFolder(tmp_path), WorkersFolder(tmp_path)
    one.join(running(1))
    two.join(running(1))
    (tmp_path / f"{two.worker}.json").write_text("{")
    found = one.others()[two.worker]
    assert found.lineage is None
    assert found.error is not None
    two.leave()
    assert one.others() == {}
    one.leave()
    assert list(tmp_path.iterdir()) == []


def test_joining_a_folder_that_cannot_be_written_to_leaves_nothing(tmp_path: Path) -> None:
    """The error is the caller's to report."""
    (tmp_path / "file").touch()
    folder = WorkersFolder(tmp_path / "file")
    with pytest.raises(OSError, match="exists"):
        folder.join(NOTHING_YET)
    assert not folder.joined


async def test_a_folder_that_becomes_usable_later_is_joined_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until then the log says what to do, once."""
    (tmp_path / "workers").touch()
    stage = Stage(running(3))
    reporter = asyncio.create_task(StatusReporter(None, workers_dir=tmp_path / "workers").run(stage))
    try:

        async def complained() -> None:
            assert "emptyDir" in caplog.text

        await eventually_async(complained, within_seconds=2)
        (tmp_path / "workers").unlink()

        async def joined() -> None:
            assert [answer.documents for answer in WorkersFolder(tmp_path / "workers").others().values()] == [
                running(3).documents
            ]

        await eventually_async(joined, within_seconds=3)
        assert caplog.text.count("emptyDir") == 1
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
    assert list((tmp_path / "workers").iterdir()) == []


async def test_a_taken_port_without_a_folder_is_complained_about(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers that do not know of each other would let the operator believe the wrong one."""
    monkeypatch.setattr(status, "default_folder", lambda port: None)  # no temporary folder in this container
    with socket.create_server(("127.0.0.1", port)):
        reporter = asyncio.create_task(StatusReporter(port, host="127.0.0.1").run(Stage()))

        async def complained() -> None:
            assert "name a workers' folder" in caplog.text

        await eventually_async(complained, within_seconds=2)
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)


def test_the_default_folder_belongs_to_user_and_port() -> None:
    """Two gateways on one machine do not answer for each other; a port of no one's choosing has no folder."""
    assert default_folder(8081) != default_folder(8082)
    assert str(os.getuid()) in str(default_folder(8081))
    assert default_folder(0) is None


def _assert_equal(found: object, expected: object) -> None:
    assert found == expected


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
