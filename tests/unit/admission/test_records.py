"""Records of decisions: who, what differs, which verdict; secrets masked; and no answer that depends on a disk."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from loguru import logger

from aigateway_logs import DualLog, LogSettings, OperationRecord, SpoolSettings, trace_of_generation
from aigateway_logs.records import MAX_RECORD_BYTES, document, document_bytes
from aigateway_operator.admission.records import admission_record
from aigateway_operator.admission.request import parse_review
from aigateway_operator.admission.review import Policy, review
from aigateway_operator.audit import MAX_CHANGES, change_summary, field_changes
from tests.builders import make_backend, make_virtual_model
from tests.logs.faulty_disk import FaultyDisk, Switch
from tests.unit.admission.reviews import Manifest, make_review, with_metadata
from tests.unit.admission.test_server import BAD, GOOD, Asked, listening

CANARY = "sk-canary0123456789abcdef"


def record_of(operation: str, new: Manifest | None, old: Manifest | None = None, **request: Any) -> OperationRecord:
    """Return the record of such a review."""
    asked = parse_review(orjson.dumps(make_review(operation, new, old, **request)))
    return admission_record(asked, review(asked, Policy()), 1.5)


def stored(generation: int, **spec: Any) -> Manifest:
    """Return an object as the API server sends it."""
    return with_metadata(make_virtual_model(**spec), uid="u-1", generation=generation)


def test_an_allowed_edit_is_pending_with_user_groups_and_fields() -> None:
    """Under the id that the controller computes as well."""
    record = record_of("UPDATE", stored(8, current="big"), stored(7, current="small"))
    assert (record.status, record.user_id, record.trace_id) == ("pending", "jane", trace_of_generation("u-1", 8))
    assert record.request_data == {
        "verb": "UPDATE",
        "groups": ["system:authenticated"],
        "dry_run": False,
        "review": "705ab4f5-6393-11e8-b7cc-42010a800002",
    }
    assert record.metadata["changes"] == [{"path": "spec.current", "old": "small", "new": "big"}]
    assert record.metadata["change_summary"] == "spec.current: small → big"
    assert (record.metadata["previous_version"], record.metadata["new_version"]) == (7, 8)


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (lambda: record_of("UPDATE", stored(8, current="none"), stored(7)), "failure"),
        (lambda: record_of("UPDATE", stored(8, current="big"), stored(7), dryRun=True), "success"),
        (lambda: record_of("UPDATE", stored(7), stored(7)), "success"),
        (lambda: record_of("DELETE", None, stored(7)), "pending"),
        (lambda: record_of("CREATE", stored(1)), "pending"),
    ],
)
def test_only_what_may_still_be_stored_is_pending(made: Any, status: str) -> None:
    """Nothing waits for a refused edit, a dry run, or one that touches labels alone."""
    assert made().status == status


def test_a_refusal_says_which_fields_and_masks_what_it_refused() -> None:
    """A key pasted into an open map is refused, and must not live on in the trail."""
    new = stored(2, backends=[make_backend(parameters={"api_key": CANARY, "nested": {"password": "hunter2-canary"}})])
    record = record_of("UPDATE", new, stored(1))
    assert record.status == "failure"
    assert record.response_data is not None
    assert record.response_data["violations"]
    written = orjson.dumps(document(record)).decode()
    assert "canary" not in written
    assert "***" in written


def test_lists_of_named_objects_are_compared_by_name() -> None:
    """An entry put in front changes none of the others."""
    old = {"backends": [{"name": "a", "model": "x"}, {"name": "b", "model": "y"}]}
    new = {"backends": [{"name": "c", "model": "z"}, {"name": "a", "model": "x"}, {"name": "b", "model": "w"}]}
    changes = {change["path"]: (change["old"], change["new"]) for change in field_changes(old, new)}
    assert changes == {
        "spec.backends[b].model": ("y", "w"),
        "spec.backends[c].name": (None, "c"),
        "spec.backends[c].model": (None, "z"),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, True), (1, 1.0), ({}, None), ([1], [2]), (1, {}), ([1], [True])],
)
def test_json_values_that_python_takes_for_equal_differ(old: Any, new: Any) -> None:
    """What the rules tell apart the trail tells apart."""
    assert [change["path"] for change in field_changes({"a": old}, {"a": new})] == ["spec.a"]


def test_an_edit_of_much_text_still_says_every_path_and_how_each_value_begins() -> None:
    """A record that is too large loses what changed as a whole: who wants to hide an edit would make it a large one."""
    before, after = ({f"key-{number}": f"{word} {'x' * 1000}" for number in range(100)} for word in ("old", "new"))
    made = stored(8, backends=[make_backend(parameters=after)])
    record = record_of("UPDATE", made, stored(7, backends=[make_backend(parameters=before)]))
    changes = orjson.loads(document_bytes(document(record)))["metadata"]["changes"]
    assert [one["path"].rpartition(".")[2] for one in changes] == sorted(before, key=lambda name: int(name[4:]))
    assert all(one["old"].startswith("old x") and one["new"].startswith("new x") for one in changes)
    assert len(document_bytes(document(record))) < MAX_RECORD_BYTES / 3


def test_a_diff_is_bounded_whatever_an_object_holds() -> None:
    """Three MiB of one object must not become a record of its own size, nor take long."""
    wide = {f"k{number}": "x" * 5000 for number in range(5000)}
    deep: Any = 1
    for _ in range(200):
        deep = {"a": deep}
    began = time.perf_counter()
    changes = field_changes({}, {"wide": wide, "deep": deep})
    assert time.perf_counter() - began < 0.2
    assert len(changes) == MAX_CHANGES + 1
    assert changes[-1]["path"] == "…"
    assert max(len(str(change["new"])) for change in changes) < 1100
    assert change_summary("update", changes).startswith("101 fields: ")


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, None], ids=["full", "read-only", "hanging"])
async def test_no_disk_refuses_or_holds_up_an_edit(tmp_path: Path, fault: int | None) -> None:
    """A full, read-only or hanging disk: same verdicts, at once; what could not be kept is counted."""
    switch = Switch()
    settings = LogSettings(spool=SpoolSettings(tmp_path / "spool"), stderr_level="ERROR")
    logs = DualLog(settings, disk=FaultyDisk(switch))
    logs.start()
    try:
        async with listening() as asked:
            asked.server.journal = logs
            assert (await asked.verdict(GOOD))["allowed"]
            assert logs.counters().spooled == 1, "a good disk keeps the record"
            before = unrecorded(asked)  # a busy machine may take longer than a review waits
            if fault is None:
                switch.delay_seconds, switch.calls = 1.0, frozenset({"write", "write_at", "sync", "open_or_create", "create"})
            else:
                switch.fail(fault, "write", "write_at", "sync", "open_or_create", "create", "reserve")
            began = time.perf_counter()
            verdicts = [(await asked.verdict(body))["allowed"] for body in (GOOD, BAD, GOOD)]
            took = time.perf_counter() - began
            assert verdicts == [True, False, True]
            assert took < 1.0, "no answer waits for the disk"
            assert unrecorded(asked) == before + 3
            switch.heal()
    finally:
        await asyncio.to_thread(logs.stop_blocking, 2.0)
        logger.remove()


def unrecorded(asked: Asked) -> float:
    """Return how many decisions were counted whose record was not kept in time."""
    (line,) = [line for line in asked.metrics().splitlines() if line.startswith("aigateway_admission_unrecorded_total ")]
    return float(line.rpartition(" ")[2])
