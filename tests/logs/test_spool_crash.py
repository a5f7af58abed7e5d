"""The spool is killed at every system call it makes, one after the other, on the same folder: nothing that it acknowledged
is lost, nothing comes under two identifiers, and the next process takes over whatever was left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.logs.crashing import LEFT
from tests.logs.faulty_disk import left_in
from tests.logs.spooling import find_left

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("when", ["before", "amid"])
def test_a_process_killed_at_any_system_call_loses_no_acknowledged_record(tmp_path: Path, when: str) -> None:
    """`amid`: half of the bytes of a write are in the file when it dies. It adopts what an earlier one left meanwhile."""
    program = [sys.executable, "-m", "tests.logs.crashing", str(tmp_path), when]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    run = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr
    children = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(children) > 150, "a child makes more calls than that"
    assert [child["killed"] for child in children] == [True] * (len(children) - 1) + [False]
    for child in children:
        spool, shipped = Path(child["folder"]), set(child["shipped"])
        found = find_left(spool)
        assert found.losses == [], child
        lost = (set(child["kept"]) | set(LEFT)) - shipped - found.once()
        assert not lost, f"killed at call {spool.name}: lost {sorted(lost)}"
        for boot, sequences in found.sequences.items():
            assert sequences == list(range(sequences[0], sequences[-1] + 1)), f"gap or disorder in {boot}, call {spool.name}"
        assert left_in(spool) == [], f"what was shipped is gone, and so is every folder (call {spool.name})"
