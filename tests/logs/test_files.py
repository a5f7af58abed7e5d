"""Log files: named by day, set aside by size, compressed and deleted by age, and robust against whoever else touches them."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from concurrent.futures import Future
from datetime import date, timedelta
from pathlib import Path

import pytest

from aigateway_logs.dated_file import DatedFile
from aigateway_logs.files import LogFiles
from aigateway_logs.housekeeping import tidy
from aigateway_logs.settings import FileSettings, LogSettings, StreamSettings
from aigateway_logs.spool.waiting import Waiter
from tests.eventually import eventually

DAY = date(2026, 11, 21)


class Clock:
    """A calendar that a test turns."""

    def __init__(self) -> None:
        self.day = DAY

    def __call__(self) -> date:
        return self.day


def names(folder: Path) -> list[str]:
    """Names of log files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_day_gets_a_file_and_a_full_one_is_set_aside_until_there_are_too_many(tmp_path: Path) -> None:
    """Five a day at most, the oldest goes; the next day begins anew."""
    clock = Clock()
    file = DatedFile(tmp_path, "system", 100, 5, clock)
    for number in range(9):
        file.append(b"%03d " % number + b"x" * 100 + b"\n", sync=False)
    today = "system_2026-11-21"
    assert names(tmp_path / "system") == sorted([f"{today}.log", *(f"{today}.{number}.log" for number in range(5, 9))])
    assert (tmp_path / "system" / f"{today}.log").read_text().startswith("008")
    assert (tmp_path / "system" / f"{today}.8.log").read_text().startswith("007")
    clock.day += timedelta(days=1)
    file.append(b"next day\n", sync=True)
    assert (tmp_path / "system" / "system_2026-11-22.log").read_text() == "next day\n"
    clock.day -= timedelta(days=1)
    file.append(b"the clock went back\n", sync=False)
    assert (tmp_path / "system" / f"{today}.log").read_text().endswith("the clock went back\n")
    file.close()


@pytest.mark.parametrize("what", ["removed", "renamed", "cut", "folder removed"])
def test_the_next_record_lands_whatever_an_administrator_does(tmp_path: Path, what: str) -> None:
    """`logrotate` renames or cuts; people remove."""
    file = DatedFile(tmp_path, "error", 10_000, 5, Clock())
    file.append(b"before\n", sync=False)
    path = tmp_path / "error" / "error_2026-11-21.log"
    if what == "renamed":
        path.rename(path.with_suffix(".old"))
    elif what == "cut":
        os.truncate(path, 0)
    else:
        path.unlink()
        if what == "folder removed":
            path.parent.rmdir()
    file.append(b"after\n", sync=False)
    assert path.read_bytes() == b"after\n"
    file.close()


def test_processes_that_share_a_folder_lose_no_line_when_files_are_set_aside(tmp_path: Path) -> None:
    """Workers of one pod write to the same files."""
    program = (
        "import sys; from pathlib import Path; from datetime import date; from aigateway_logs.dated_file import DatedFile\n"
        "file = DatedFile(Path(sys.argv[1]), 'system', 20_000, 1000, lambda: date(2026, 11, 21))\n"
        "for number in range(3000): file.append(f'{sys.argv[2]} {number}\\n'.encode(), sync=False)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    workers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), worker], env=environment) for worker in ("a", "b")
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    lines = [line for name in names(tmp_path / "system") for line in (tmp_path / "system" / name).read_text().splitlines()]
    assert sorted(lines) == sorted(f"{worker} {number}" for worker in "ab" for number in range(3000))


def test_old_files_are_compressed_then_deleted_and_strangers_left_alone(tmp_path: Path) -> None:
    """Today's file and one that was just written to stay as they are."""
    days = {name: DAY - timedelta(days=age) for name, age in (("today", 0), ("yesterday", 1), ("edge", 30), ("over", 31))}
    for day in days.values():
        (tmp_path / f"system_{day}.log").write_text(f"of {day}\n")
    (tmp_path / f"system_{DAY}.3.log").write_text("set aside\n")
    (tmp_path / f"system_{DAY}.3.log").chmod(0o640)
    (tmp_path / "system_2020-99-99.log").write_text("no date\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    (tmp_path / f"system_{DAY}.1.log.gz.draft").write_text("left by a killed process\n")
    tidy(tmp_path, 30, DAY, compress=True)
    assert f"system_{days['yesterday']}.log" in names(tmp_path), "written to a moment ago: another process may have it open"
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))  # the clock of a file system may be a moment ahead of ours
    tidy(tmp_path, 30, DAY, compress=True)
    expected = ["notes.txt", "system_2020-99-99.log", f"system_{DAY}.log", f"system_{DAY}.3.log.gz"]
    assert names(tmp_path) == sorted([*expected, f"system_{days['yesterday']}.log.gz", f"system_{days['edge']}.log.gz"])
    packed = tmp_path / f"system_{DAY}.3.log.gz"
    assert gzip.decompress(packed.read_bytes()) == b"set aside\n"
    assert packed.stat().st_mode & 0o777 == 0o640, "who could not read a log cannot read it when it is packed"


def test_a_full_disk_is_said_once_and_lines_come_when_there_is_room(tmp_path: Path) -> None:
    """Nobody waits for it; whoever asked to be told is told no."""
    settings = LogSettings(StreamSettings(retention_days=1), StreamSettings(), FileSettings(tmp_path))
    assert settings.files is not None
    troubles: list[str | None] = []
    files = LogFiles(settings, settings.files, troubles.append, Clock())
    blocked = tmp_path / "operation"
    blocked.write_text("a file where the folder should be")
    files.start()
    waiting: Future[bool] = Future()
    files.write(("operation",), b"first", Waiter(waiting, when_written=False))
    assert waiting.result(20) is False
    for number in range(10):
        files.write(("operation",), b"line %d" % number)
    blocked.unlink()
    eventually(lambda: check(troubles[-1:] == [None]), within_seconds=10)
    assert len(troubles) == 2
    files.close(5)
    assert (blocked / "operation_2026-11-21.log").read_text().splitlines() == ["first", *(f"line {n}" for n in range(10))]
    assert files.dropped == 0


def test_a_line_that_was_written_in_part_is_completed(tmp_path: Path) -> None:
    """A file system takes what fits of a write; the rest follows when there is room, and no line is torn or doubled."""
    settings = LogSettings(files=FileSettings(tmp_path))
    assert settings.files is not None
    troubles: list[str | None] = []
    program_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    files = LogFiles(settings, settings.files, troubles.append, Clock())
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250, program_limit[1]))
        files.start()
        for number in range(5):
            files.write(("system",), f"{number}".encode() * 99)
        eventually(lambda: check(len(troubles) == 1), within_seconds=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, program_limit)
        signal.signal(signal.SIGXFSZ, before)
    eventually(lambda: check(troubles[-1:] == [None]), within_seconds=10)
    files.close(5)
    assert (tmp_path / "system" / "system_2026-11-21.log").read_text().splitlines() == [f"{n}" * 99 for n in range(5)]


def check(condition: bool) -> None:
    """For `eventually`."""
    assert condition
