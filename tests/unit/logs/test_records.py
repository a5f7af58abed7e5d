"""Records become documents that are redacted, bounded and made of JSON only; trace ids are those that everybody computes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_logs.encoding import decode, encode
from aigateway_logs.records import MAX_RECORD_BYTES, OperationRecord, SystemRecord, document, document_bytes
from aigateway_logs.settings import LogSettings, MongoSettings, SpoolSettings, StreamSettings
from aigateway_logs.spool.policy import share
from aigateway_logs.text import text_line
from aigateway_logs.tracing import current_trace, new_trace_id, trace_of_generation, trace_of_request, tracing

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(metadata=st.dictionaries(st.text(), ANYTHING, max_size=4))
def test_a_document_of_anything_is_json_on_one_line(metadata: dict[str, Any]) -> None:
    """Huge integers, lone surrogates, NaN, bytes: nothing that was logged may break a sink."""
    data = document_bytes(document(SystemRecord("Said", metadata=metadata)))
    assert b"\n" not in data
    assert json.loads(data)["message"] == "Said"
    assert isinstance(decode(data), dict)
    without_trace = {key: value for key, value in metadata.items() if key != "traceback"}
    assert b"\n" not in text_line(document(SystemRecord("Said", metadata=without_trace)))


@pytest.mark.parametrize("size", range(4))
def test_a_huge_record_is_cut_and_says_so(size: int) -> None:
    """One record must not fill the memory of the spool."""
    big = "x" * (MAX_RECORD_BYTES * 10**size // 1000)
    data = document_bytes(
        document(OperationRecord("render", f"m{big}", request_data={"a": big}, metadata={"b": [big]}, user_id=big))
    )
    assert len(data) <= MAX_RECORD_BYTES
    values = json.loads(data)
    assert values["operation"] == "render"
    assert ("cut" in values["message"]) == (4 * len(big) > MAX_RECORD_BYTES - 1000)


def test_times_are_utc_with_microseconds() -> None:
    """So that lines of several machines sort as text."""
    moment = datetime(2026, 11, 21, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    assert document(SystemRecord("x", timestamp=moment))["timestamp"] == "2026-11-20T23:02:03.000004+00:00"
    assert datetime.fromisoformat(document(SystemRecord("x"))["timestamp"]).tzinfo == UTC


FIRST, LAST = (datetime(year, 6, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1, 9999))


@given(moment=st.datetimes(FIRST, LAST, timezones=st.timezones()) | st.datetimes(FIRST, LAST))
def test_every_moment_is_written_as_the_standard_library_writes_it(moment: datetime) -> None:
    """It is written in pieces of our own, since all system records are: of any zone, before 1970, in years of one digit."""
    said = document(SystemRecord("x", timestamp=moment))["timestamp"]
    assert said == moment.astimezone(UTC).isoformat(timespec="microseconds")


def test_a_trace_follows_the_context_and_a_named_one_wins() -> None:
    """Records of one request are joined without anybody passing the id on."""
    with tracing("outer"):
        with tracing("inner"):
            assert document(SystemRecord("x"))["trace_id"] == "inner"
            assert document(OperationRecord("render", "x", trace_id="mine"))["trace_id"] == "mine"
        assert current_trace() == "outer"
    assert document(SystemRecord("x"))["trace_id"] is None


def test_the_trace_of_a_generation_is_what_anybody_computes() -> None:
    """Webhook and controller never speak to each other about it."""
    assert trace_of_generation("u-1", 7) == hashlib.sha256(b"u-1/7").hexdigest()[:32]


@pytest.mark.parametrize(
    ("header", "parent", "expected"),
    [
        ("abc-DEF-123", None, "abc-DEF-123"),
        ("x" * 64, None, "x" * 64),
        ("x" * 65, None, None),
        ("line\nbreak", None, None),
        ("trailing\n", None, None),
        ("", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        (None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        (None, f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (None, "garbage", None),
        (None, None, None),
    ],
)
def test_the_trace_of_a_request_is_the_callers_if_it_is_harmless(
    header: str | None, parent: str | None, expected: str | None
) -> None:
    """It reaches logs and a response header; None: a new one is made."""
    trace = trace_of_request(header, parent)
    if expected is None:
        assert len(trace) == len(new_trace_id()) == 32
        assert int(trace, 16) >= 0
    else:
        assert trace == expected


def test_settings_that_could_not_work_are_refused_and_a_uri_is_never_shown(tmp_path: Any) -> None:
    """Each text says what to do."""
    with pytest.raises(ValueError, match="name a folder for the spool"):
        LogSettings(mongodb=MongoSettings("mongodb://localhost"))
    with pytest.raises(ValueError, match="at least four segments"):
        SpoolSettings(tmp_path, max_bytes=1000)
    with pytest.raises(ValueError, match="at least 1"):
        StreamSettings(retention_days=0)
    assert "hush" not in repr(LogSettings(spool=SpoolSettings(tmp_path), mongodb=MongoSettings("mongodb://u:hush@h")))


def test_the_worth_of_records_rises_with_their_level_and_operations_come_last() -> None:
    """What is refused first under pressure."""
    shares = [share("system", level) for level in (10, 20, 30, 40, 50)] + [share("operation", 10)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[1] < shares[2] < shares[3] < shares[5]


def test_json_is_the_same_with_and_without_the_fast_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods with the base distribution have none."""
    values = {"text": 'ä\u2028\n"\\', "number": 1.5, "list": [1, None, True], "map": {"a": {}}}
    fast = encode(values)
    monkeypatch.setattr("aigateway_logs.encoding._FAST", False)
    assert encode(values) == fast
    assert decode(fast) == values
