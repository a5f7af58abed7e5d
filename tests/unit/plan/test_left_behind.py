"""What a plan leaves in memory: no round may follow the one that ends a burst, so what its writes needed goes with them."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from aigateway_operator.render import files
from tests.builders import World, make_backend, make_gateway_config, make_virtual_model

BYTES_EACH = 2_000
MODELS = 20
ours = tracemalloc.Filter(True, files.__file__)


def world(*, mirrored: bool) -> World:
    """Return a gateway of models that are long to say."""
    made = World(mirror_key=b"k" * 64, mirror_trouble="")
    storage = {"redis": {"host": "redis.ai.svc"}}
    made.apply(make_gateway_config(storage=storage, delivery={"redisNotify": mirrored}))
    for number in range(MODELS):
        backend = make_backend(parameters={"stop": "x" * BYTES_EACH})
        made.apply(make_virtual_model(f"m{number}", backends=[backend]))
    return made


def rendered_bytes() -> int:
    """Return how much there is of what `render.files` has made since tracing began."""
    gc.collect()
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_bytes_of_a_document_go_with_its_write(mirrored: bool) -> None:
    """A mirror sends them once more, so there they stay until the next round; any later reader has them rendered again."""
    at = world(mirrored=mirrored)
    tracemalloc.start()
    try:
        assert at.plan().writes[-1].kind == "ConfigMap"
        left = rendered_bytes()
    finally:
        tracemalloc.stop()
    assert (left > MODELS * BYTES_EACH) is mirrored, left
