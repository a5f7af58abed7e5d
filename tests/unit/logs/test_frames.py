"""Frames: whatever happens to the bytes, every record that is whole is found, and none that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_logs.spool.frames import LONGEST_PAYLOAD, Damage, Found, frame, header, header_length, scan

PAYLOADS = st.lists(st.binary(max_size=60) | st.just(b"\xa5LOG") | st.just(b"\xa5LOG" * 9), min_size=1, max_size=12)


def found(data: bytes) -> list[tuple[int, bytes]]:
    """Sequence and payload of all records."""
    return [(item.sequence, item.payload) for item in scan(data, 0) if isinstance(item, Found)]


@given(payloads=PAYLOADS)
def test_what_is_framed_is_found_again_in_order(payloads: list[bytes]) -> None:
    """Also when a payload holds the marker."""
    data = b"".join(frame(number, payload) for number, payload in enumerate(payloads))
    assert found(data) == list(enumerate(payloads))
    assert not [item for item in scan(data, 0) if isinstance(item, Damage)]


@given(payloads=PAYLOADS, place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_costs_the_one_record_it_is_in(payloads: list[bytes], place: float, mask: int) -> None:
    """And is reported as damage, whichever part of the frame it hits."""
    frames = [frame(number, payload) for number, payload in enumerate(payloads)]
    data = bytearray(b"".join(frames))
    at = int(place * len(data))
    data[at] ^= mask
    hit = next(number for number in range(len(frames)) if at < sum(len(one) for one in frames[: number + 1]))
    assert found(bytes(data)) == [(number, payload) for number, payload in enumerate(payloads) if number != hit]
    assert any(isinstance(item, Damage) for item in scan(bytes(data), 0))


@given(payloads=PAYLOADS, place=st.floats(0, 1))
def test_a_torn_end_costs_the_records_that_are_not_whole(payloads: list[bytes], place: float) -> None:
    """A power cut leaves a prefix."""
    data = b"".join(frame(number, payload) for number, payload in enumerate(payloads))
    cut = data[: int(place * len(data))]
    whole = list(enumerate(payloads))[: len(found(cut))]
    assert found(cut) == whole
    assert len(b"".join(frame(number, payload) for number, payload in whole)) <= len(cut)


def test_the_first_line_names_the_boot_and_a_foreign_one_is_damage() -> None:
    """So that a file that is no segment is not read as an empty one."""
    line = header("boot-1")
    assert header_length(line + frame(1, b"x")) == len(line)
    assert header_length(b"something else\n") == 0


def test_a_payload_that_no_reader_would_accept_is_not_framed() -> None:
    """It could be written and never be read."""
    with pytest.raises(ValueError, match="longest"):
        frame(1, b"x" * (LONGEST_PAYLOAD + 1))
