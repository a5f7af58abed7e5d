"""The spool on a disk that is full, read-only, slow, broken, or tidied by an administrator: it goes on, says so once, loses
only what was taken from it, counts that exactly, and works again by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from aigateway_logs.spool.disk import Disk
from aigateway_logs.spool.drops import KEYS, read_drops
from aigateway_logs.spool.folder import DROPPED, new_boot
from aigateway_logs.spool.reader import Loss
from aigateway_logs.spool.store import Spool
from aigateway_logs.spool.waiting import Waiter
from tests.eventually import eventually
from tests.logs.faulty_disk import BROKEN, FULL, READ_ONLY, FaultyDisk, Switch
from tests.logs.spooling import SMALL, drain, find_left, keep, payload, spooling


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (FULL, ("write", "create", "open_or_create", "reserve")),
        (READ_ONLY, ("create", "write", "truncate", "make_folder", "remove")),
        (BROKEN, ("sync",)),
        (BROKEN, ("write", "truncate", "sync", "state")),
        (BROKEN, ("create",)),
    ],
)
@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_failing_disk_holds_up_nobody_and_loses_nothing(
    tmp_path: Path, code: int, calls: tuple[str, ...], from_the_start: bool
) -> None:
    """Callers are told that the record is not durable and go on; it is kept in memory and written when that works again."""
    switch = Switch()
    if from_the_start:
        switch.fail(code, *calls)
    with spooling(tmp_path, FaultyDisk(switch)) as (spool, heard):
        if not from_the_start:
            assert all(keep(spool, number).result(20) for number in range(20))
            switch.fail(code, *calls)
        first = keep(spool, 100).result(20)
        assert first is False or not from_the_start
        if calls == ("create",) and not from_the_start:
            assert all(keep(spool, number, size=500).result(20) is not None for number in range(200, 220))  # a new segment
        eventually(lambda: check(spool.writer.waits_in_vain()), within_seconds=20)
        assert min(seconds_to_put(spool, number) for number in range(101, 106)) < 0.05, "a pause of the machine hits one"
        switch.heal()
        eventually(lambda: check(not spool.writer.waits_in_vain()), within_seconds=20)
        assert keep(spool, 106).result(20) is True
        eventually(lambda: check(heard.troubles[-1] is None), within_seconds=20)
        assert len(heard.troubles) == 2, f"said once, and once that it is over: {heard.troubles}"
    found = find_left(tmp_path)
    expected = set(range(100, 107)) | (set() if from_the_start else set(range(20)))
    assert expected <= found.once()
    assert found.losses == []


def ship_from_memory(spool: Spool) -> None:
    """Take what the disk would not, as the shipper does; assert that nothing waits any more."""
    for sequence, _ in spool.writer.held():
        spool.writer.shipped(sequence)
    assert spool.writer.backlog().memory_bytes == 0


@pytest.mark.parametrize(("call", "from_the_start"), [("create", True), ("create", False), ("write", False)])
def test_a_disk_is_not_held_to_work_because_nothing_waits_for_it(tmp_path: Path, call: str, from_the_start: bool) -> None:
    """What it would not take was shipped from memory; to say that it works again would be the next record that fails."""
    switch = Switch()
    if from_the_start:
        switch.fail(FULL, call)
    with spooling(tmp_path, FaultyDisk(switch)) as (spool, heard):
        if not from_the_start:
            assert all(keep(spool, number).result(20) for number in range(2))  # a segment stays open
            switch.fail(FULL, call)
        assert [keep(spool, number, size=SMALL).result(20) for number in (100, 101)][-1] is False
        eventually(lambda: ship_from_memory(spool), within_seconds=20)
        tried = switch.hits
        eventually(lambda: check(switch.hits >= tried + 2), within_seconds=20)
        assert spool.writer.waits_in_vain()
        assert len(heard.troubles) == 1, heard.troubles
        switch.heal()
        eventually(lambda: check(heard.troubles[-1] is None), within_seconds=20)
        assert keep(spool, 102).result(20) is True
        assert len(heard.troubles) == 2, heard.troubles
    assert 102 in find_left(tmp_path).once()


def test_a_full_memory_behind_a_failing_disk_drops_new_records_and_counts_each(tmp_path: Path) -> None:
    """The bound holds, what was accepted stays, and the sum of both is what was offered."""
    switch = Switch()
    switch.fail(FULL, "create")
    with spooling(tmp_path, FaultyDisk(switch), memory_bytes=50_000) as (spool, _):
        accepted = [spool.writer.put(payload(number, 100), "operation", 20) for number in range(1000)]
        assert 0 < sum(accepted) < 1000
        assert spool.writer.backlog().memory_bytes <= 50_000
        assert spool.writer.drops.counts["operation.INFO"] == 1000 - sum(accepted)
        switch.heal()
        eventually(lambda: check(spool.writer.backlog().memory_bytes == 0), within_seconds=20)
    assert find_left(tmp_path).once() == {number for number, was in enumerate(accepted) if was}


def test_at_the_bound_the_least_worth_is_refused_first_and_what_was_accepted_stays(tmp_path: Path) -> None:
    """DEBUG and INFO of the system first, then warnings, then errors, operations last."""
    refused_at: dict[tuple[str, int], int] = {}
    with spooling(tmp_path, max_bytes=100_000) as (spool, _):
        for number in range(1000):
            for stream, level in (("system", 20), ("system", 30), ("system", 40), ("operation", 20)):
                if not spool.writer.put(payload(number * 4, 50), stream, level):
                    refused_at.setdefault((stream, level), number)
            eventually(lambda: check(spool.writer.backlog().memory_bytes == 0), within_seconds=20, every_seconds=0.001)
            if len(refused_at) == 4:
                break
        assert spool.writer.backlog().disk_bytes < 100_000 + 2000
        total = spool.writer.drops.total
        assert list(refused_at) == [("system", 20), ("system", 30), ("system", 40), ("operation", 20)]
    with spooling(tmp_path) as (spool, heard):
        spool.adopt()
        (event,) = heard.events
        assert event.event_type == "spool_records_dropped"
        assert event.fields["dropped_total"] == total, "a process that died tells how many it has dropped"


def test_counts_of_dropped_records_survive_a_kill(tmp_path: Path) -> None:
    """They are in the file before the process could die, without any room being needed for them."""
    with spooling(tmp_path, max_bytes=20_000) as (spool, _):
        keep(spool, 0).result(20)
        for number in range(100):
            spool.writer.put(payload(number, 1000), "system", 10)
        file = tmp_path / spool.boot / DROPPED
        total = spool.writer.drops.total
        assert total > 80
        eventually(lambda: check(read_drops(Disk(), file) == {"system.DEBUG": total}), within_seconds=20)
    assert len(KEYS) == 8


def test_a_slow_disk_delays_its_waiters_and_nobody_else(tmp_path: Path) -> None:
    """Written records do not wait for the sync of earlier ones; after a second nobody waits any more."""
    switch = Switch()
    with spooling(tmp_path, FaultyDisk(switch)) as (spool, heard):
        keep(spool, 0).result(20)
        switch.delay_seconds, switch.calls = 3.0, frozenset({"sync"})
        slow = keep(spool, 1)
        written: Future[bool] = Future()
        spool.writer.put(payload(2), "operation", 20, Waiter(written, when_written=True))
        assert written.result(2) is True
        eventually(lambda: check(spool.writer.waits_in_vain()), within_seconds=2)
        switch.heal()
        assert slow.result(20) is True
        assert heard.troubles == [], "slow is not broken"


@pytest.mark.parametrize("what", ["remove the file", "cut the file", "remove the folder"])
def test_what_an_administrator_takes_away_is_counted_and_the_rest_goes_on(tmp_path: Path, what: str) -> None:
    """What was taken is what was durable and neither shipped nor read ahead; what comes after it is kept as ever."""
    with spooling(tmp_path) as (spool, heard):
        assert all(keep(spool, number).result(20) for number in range(10))
        reader = spool.readers()[0]
        shipped = reader.read(3)
        assert shipped is not None
        reader.acknowledge(shipped)
        (file,) = (tmp_path / spool.boot).glob("*.seg")
        if what == "remove the folder":
            shutil.rmtree(tmp_path / spool.boot)
        elif what == "remove the file":
            file.unlink()
        else:
            with file.open("r+b") as handle:
                handle.truncate(0)
        assert all(keep(spool, number).result(20) for number in range(10, 20))
        found = drain(spool)
        assert found.once() >= set(range(10, 20))
        assert 3 + len(found.once()) + spool.lost["missing"] == 20, f"{spool.lost} {heard.events}"


def test_damaged_records_are_skipped_exactly_and_counted(tmp_path: Path) -> None:
    """Each whole record behind the damage is found, in whichever part of a record the damage is."""
    with spooling(tmp_path) as (spool, _):
        assert all(keep(spool, number, size=200).result(20) for number in range(10))
        (file,) = (tmp_path / spool.boot).glob("*.seg")
        data = bytearray(file.read_bytes())
        size = (len(data) - data.index(b"\n") - 1) // 10
        start = data.index(b"\n") + 1
        data[start + 2 * size + 5] ^= 0xFF  # a length
        data[start + 3 * size + 100] ^= 0xFF  # a payload
        data[start + 7 * size] ^= 0xFF  # a marker
        with file.open("r+b") as handle:
            handle.write(data)
        found = drain(spool)
        assert found.numbers == [0, 1, 4, 5, 6, 8, 9]
        assert found.losses == [Loss(spool.boot, 3, 4, damaged=True), Loss(spool.boot, 8, 8, damaged=True)]
        assert spool.lost == {"damaged": 3}


def test_a_boot_id_is_later_than_all_before_even_if_the_clock_went_back(tmp_path: Path) -> None:
    """Identifiers sort by the order of processes."""
    ids = []
    for moment in (1_000_000.0, 2_000_000.0, 5.0, 0.0, 1_000_000.0):
        ids.append(new_boot(Disk(), tmp_path, lambda moment=moment: moment))  # type: ignore[misc]  # mypy knows no defaults here
        (tmp_path / ids[-1]).mkdir()
    assert ids == sorted(ids)


def test_a_live_process_keeps_its_folder_to_itself(tmp_path: Path) -> None:
    """Several processes of a pod share one spool: none takes what another is still writing."""
    with spooling(tmp_path) as (first, _), spooling(tmp_path) as (second, _):
        assert keep(first, 1).result(20)
        assert keep(second, 2).result(20)
        assert drain(second).once() == {2}
        assert drain(first).once() == {1}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full_is_survived_and_used_again(tiny_disk: Path) -> None:
    """Somebody else fills it; records wait in memory until there is room."""
    with spooling(tiny_disk / "spool") as (spool, heard):
        assert keep(spool, 0).result(20)
        hog = tiny_disk / "hog"
        with pytest.raises(OSError, match="No space"):
            hog.write_bytes(b"x" * 1024 * 1024)
        answers = [keep(spool, number, size=1000).result(20) for number in range(1, 50)]
        assert False in answers
        hog.unlink()
        eventually(lambda: check(heard.troubles[-1:] == [None]), within_seconds=20)
        assert keep(spool, 50).result(20)
    assert find_left(tiny_disk / "spool").once() == set(range(51))


def test_an_end_amid_writing_is_prompt_and_loses_nothing(tmp_path: Path) -> None:
    """Whichever step the writer is at when it is told to end."""
    for number in range(60):
        with spooling(tmp_path) as (spool, _):
            for extra in range(number % 7):
                spool.writer.put(payload(number * 10 + extra), "operation", 20)
                time.sleep(0.0005 * (number % 5))
            started = time.monotonic()
            spool.writer.close(5.0)
            assert time.monotonic() - started < 4.0, "it waited for its deadline"
    assert find_left(tmp_path).once() == {number * 10 + extra for number in range(60) for extra in range(number % 7)}


def seconds_to_put(spool: Spool, number: int) -> float:
    """Put a record for which nobody waits; returns how long its caller was kept."""
    started = time.monotonic()
    assert spool.writer.put(payload(number), "operation", 20)
    return time.monotonic() - started


def check(condition: bool) -> None:
    """For `eventually`."""
    assert condition
