"""How events of a watch are cut out of what the connection brings, in pieces that end anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_config.api_objects import LENGTH_BYTES, cut_frames

FRAMES = st.lists(st.binary(max_size=40), max_size=12)


@given(FRAMES, st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_each_event_comes_once_and_in_order_wherever_pieces_end(frames: list[bytes], pieces: list[int]) -> None:
    """And no more is kept than what has come of the event that is not whole yet."""
    stream = b"".join(len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in frames)
    found, rest, at, number = list[bytes | memoryview](), b"", 0, 0
    while at < len(stream):
        piece = stream[at : at + pieces[number % len(pieces)]]
        whole, rest = cut_frames(rest + piece, 1_000)
        found += whole
        at, number = at + len(piece), number + 1
        assert len(rest) < LENGTH_BYTES + 40
    assert found == frames
    assert rest == b""


def test_an_event_beyond_the_limit_is_refused_before_it_has_come() -> None:
    """Its length is enough."""
    assert cut_frames((1_000).to_bytes(LENGTH_BYTES, "big"), 1_000) == ([], (1_000).to_bytes(LENGTH_BYTES, "big"))
    with pytest.raises(ValueError, match="larger than any ConfigMap"):
        cut_frames((1_001).to_bytes(LENGTH_BYTES, "big"), 1_000)
