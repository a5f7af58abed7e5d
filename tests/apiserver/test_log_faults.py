"""What may happen to the disk and the clock of a running operator with its webhook, one after the other in one real process:
read-only, slow, segments removed and cut by somebody, the clock back and forth. Edits go through, the process says what fails
and that it works again, and each record is in MongoDB or counted. The full disk is in test_audit.py.

The process alone is deceived, by a preloaded library (disk_faults.c): the machine's clock and disk belong to others.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from hack.controlplane import ControlPlane
from hack.stores import MongoServer
from tests.apiserver.test_audit import FULL, WORKS_AGAIN, Audited, auditing, edited
from tests.apiserver.world import World
from tests.delivery import furnish
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

SOURCE = Path(__file__).with_name("disk_faults.c")
MISSING = re.compile(r"(\d+) records of the spool are (?:missing|damaged)")
LONGEST_EDIT = 5
"""Seconds; the API server waits for 10 at most. On a quiet machine an edit takes 0.2."""


@dataclass(frozen=True)
class Faults:
    """What the process is told from now on."""

    control: Path

    def tell(self, *, read_only: bool = False, sync_milliseconds: int = 0, clock_seconds: int = 0) -> None:
        """Replace everything that was told before."""
        handle = os.open(self.control, os.O_WRONLY | os.O_CREAT)
        os.pwrite(handle, struct.pack("=3q", read_only, sync_milliseconds, clock_seconds), 0)
        os.close(handle)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Processes started from now on can be deceived about `tmp_path/disk`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc): disk and clock of a process cannot be deceived")
    library = tmp_path / "disk_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    made = Faults(tmp_path / "faults")
    made.tell()
    monkeypatch.setenv("FAULTS", str(made.control))
    monkeypatch.setenv("FAULTS_UNDER", str(tmp_path / "disk"))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    return made


def test_faults_of_disk_and_clock_stop_no_edit_and_each_record_is_kept_or_counted(
    plane: ControlPlane,
    world: World,
    kubeconfig: Path,
    mongo_server: MongoServer,
    tmp_path: Path,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each fault says what it must say while it lasts; afterwards the controller's and the webhook's records are all there."""
    with auditing(plane, world, kubeconfig, mongo_server, tmp_path, tmp_path / "disk") as audited:
        monkeypatch.delenv("LD_PRELOAD")
        furnish(world, 1)
        for fault in (read_only, slow, clock_jumps):
            names = fault(world, audited, faults)
            eventually(lambda names=names: assert_each_once(audited, names), within_seconds=20)  # type: ignore[misc]
            assert audited.metrics("aigateway_log_dropped_total") == audited.metrics("aigateway_log_lost_total") == 0
        kept = taken_away(world, audited, mongo_server)
        eventually(lambda: assert_nothing_uncounted(audited), within_seconds=30)
        assert_each_once(audited, kept)


def read_only(world: World, audited: Audited, faults: Faults) -> list[str]:
    """It is said once, with its reason, and once that it is over."""
    faults.tell(read_only=True)
    names = edits(world, "readonly", 3)
    eventually(lambda: check(audited.told(f"{FULL}: Read-only file system (EROFS)") == 1, audited), within_seconds=10)
    faults.tell()
    eventually(lambda: check(audited.told(WORKS_AGAIN) == 1, audited), within_seconds=15)
    return names


def slow(world: World, audited: Audited, faults: Faults) -> list[str]:
    """Reviews do not wait for the sync; decisions that were answered before their record was safe are counted."""
    faults.tell(sync_milliseconds=3000)
    names = edits(world, "slow", 2)
    names += until(lambda: audited.metrics("aigateway_admission_unrecorded_total") > 0, world, "slower")
    faults.tell()
    assert audited.told(FULL) == 1, "slow is not broken"
    return names


def clock_jumps(world: World, audited: Audited, faults: Faults) -> list[str]:
    """Half an hour back, an hour forth: identifiers go on in the order of what happened, although times do not."""
    names = edits(world, "before", 1)
    faults.tell(clock_seconds=-1800)
    names += edits(world, "back", 2)
    faults.tell(clock_seconds=1800)
    names += edits(world, "forth", 2)
    faults.tell()
    names += edits(world, "after", 1)
    eventually(lambda: assert_each_once(audited, names), within_seconds=20)
    mine = [one for one in records(audited, "operation_logs") if model_of(one) in names and one["operation"] == "admission"]
    assert list(dict.fromkeys(model_of(one) for one in mine)) == names, "sorted by _id"
    moments = [one["timestamp"] for one in mine]
    assert moments != sorted(moments), "the process did not heed the clock: this shows nothing"
    return names


def taken_away(world: World, audited: Audited, mongo: MongoServer) -> list[str]:
    """Segments that wait for MongoDB are removed, then one is cut; returns the edits after that, which must all be there."""
    mongo.pause()
    try:
        edits(world, "removed", 2)
        for segment in segments(audited):
            segment.unlink()
        edits(world, "cut", 2)
        os.truncate(segments(audited)[-1], 30)
        return edits(world, "kept", 2)
    finally:
        mongo.resume()


def segments(audited: Audited) -> list[Path]:
    """What waits on disk; AssertionError if nothing does."""
    found = sorted((audited.folder / "disk" / "spool").glob("*/*.seg"))
    assert found
    return found


def edits(world: World, name: str, count: int) -> list[str]:
    """Edit so many times; returns the names of what each edit set. Each must be answered in time."""
    names = [f"{name}-{number}" for number in range(count)]
    slowest = max(edited(world, name) for name in names)
    assert slowest < LONGEST_EDIT, f"{name}: {slowest:.1f} s"
    return names


def until(reached: Callable[[], bool], world: World, name: str) -> list[str]:
    """Edit until something is so, twenty times at most."""
    names: list[str] = []
    while not reached():
        assert len(names) < 20, f"{name}: not after 20 edits"
        names += edits(world, f"{name}-{len(names)}", 1)
    return names


def records(audited: Audited, collection: str) -> list[dict[str, Any]]:
    """Documents in the order of their identifiers."""
    with MongoClient[dict[str, Any]](audited.mongo.url, tz_aware=True) as client:
        return list(client[audited.database][collection].find({}).sort("_id", 1))


def model_of(record: dict[str, Any]) -> str | None:
    """Return the model that an edit set, by its record; None: the record is of something else."""
    changes = record["metadata"].get("changes") or []
    return next((str(change["new"]) for change in changes if change["path"].endswith(".model")), None)


def assert_each_once(audited: Audited, names: list[str]) -> None:
    """For `eventually`: each edit is there as the webhook saw it, and as the controller did."""
    found = records(audited, "operation_logs")
    for operation in ("admission", "config_update"):
        mine = [one for one in found if one["operation"] == operation and model_of(one) in names]
        assert {model_of(one) for one in mine} == set(names), f"{operation}: {mine}"
        told = [(one["trace_id"], (one["request_data"] or {}).get("review")) for one in mine]
        assert len(told) == len(set(told)), f"{operation}: {told}"  # the API server asks again if a status came between


def assert_nothing_uncounted(audited: Audited) -> None:
    """For `eventually`: numbers that no document has are as many as the metric says, and as was said on standard error."""
    numbers = [
        int(one["_id"].rpartition("-")[2]) for name in ("system_logs", "operation_logs") for one in records(audited, name)
    ]
    assert len(numbers) == len(set(numbers)), "a record is there twice"
    gaps = max(numbers) - len(numbers)
    lost = audited.metrics("aigateway_log_lost_total")
    said = sum(int(count) for count in MISSING.findall(audited.process.output()))
    assert gaps == lost == said, f"{gaps} numbers without a document, {lost} counted, {said} said"
    assert gaps > 0, "nothing was taken away: this shows nothing"


def check(truth: bool, audited: Audited) -> None:
    """Assert, for `eventually`."""
    assert truth, audited.process.output()[-2000:]
