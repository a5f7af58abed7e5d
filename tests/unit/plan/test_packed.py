"""Specs and statuses are kept packed: nothing is lost, equal stays equal, and ordinary objects become small."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.plan.packed import pack, unpack
from tests.builders import make_virtual_model

STATUS = {
    "observedGeneration": 3,
    "modelName": "chat",
    "revision": 1207,
    "conditions": [
        {
            "type": kind, "status": "True", "observedGeneration": 3, "lastTransitionTime": "2031-07-04T12:30:59Z",
            "reason": kind, "message": message,
        }
        for kind, message in (
            ("Accepted", "All rules hold."), ("ResolvedRefs", "Every referenced Secret and key is there."),
            ("Programmed", "Served as 'chat'."), ("Ready", "Served as 'chat'."),
        )
    ],
}  # fmt: skip


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=20).map(lambda part: part * 1000)))
def test_what_is_packed_comes_back(text: bytes) -> None:
    """Any bytes, also beyond the window."""
    assert unpack(pack(text)) == text
    assert pack(text) == pack(bytes(text)), "the store tells by these bytes whether a status is another one"


def test_ordinary_objects_become_small() -> None:
    """Words that drift from what is written would cost megabytes at ten thousand models, and nothing else would say so."""
    status = orjson.dumps(STATUS, option=orjson.OPT_SORT_KEYS)
    spec = orjson.dumps(make_virtual_model()["spec"])
    assert len(pack(status)) < len(status) / 6
    assert len(pack(spec)) < len(spec) / 2
