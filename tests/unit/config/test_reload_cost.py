"""What a reload costs: it follows the document that changed, and not how many models and credentials there are beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from aigateway_config import documents
from aigateway_config.joining import Joined, Models
from aigateway_config.source import MemoryReading
from aigateway_config.state import State
from tests.unit.config.test_state import started, take
from tests.unit.config.writer import Writer, keyed_backend

EDITED = "chat"


class Guarded(dict[str, Any]):
    """A mapping in which names may be looked up, and which nobody may go through."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("all of it is gone through")

    __iter__ = keys = values = items = copy = __eq__ = _refuse


def guard(state: State, file: str) -> None:
    """Guard the credentials, the models of all documents but this one, and joined models but those beside the edited one."""
    era = state._active
    assert era is not None
    for other, loaded in era.in_force.items():
        if other != file:
            era.in_force[other] = replace(loaded, models=Guarded(loaded.models))
    era.values = Guarded(era.values)
    buckets = tuple(bucket if EDITED in bucket else Guarded(bucket) for bucket in state._joined.models._buckets)
    state._joined = Joined({name: loaded.models for name, loaded in era.in_force.items()}, Models(buckets))


@pytest.mark.parametrize("source", ["api", "redis", "volume"])
def test_an_edit_does_not_go_through_what_other_documents_hold(source: str) -> None:
    """A shard that changed is judged without a look at the others; names are looked up, such as those of its credentials."""
    writer = Writer(shards=2, values={documents.MIRROR_KEY: "0" * 64})
    for name in (EDITED, "other", "third"):
        writer.values |= {f"{name}.proxy": f"caller-{name}", f"{name}.api-key": f"sk-{name}"}
        writer.put(name, proxyKeySecretRef={"name": name, "key": "proxy"}, backends=[keyed_backend(name)])
    shard = writer.shard_of(EDITED)
    assert shard is not None
    assert {writer.shard_of(name) for name in writer.models} == {0, 1}
    state, before = started(writer.write())
    take(state, writer.reading(documents_only=True), "api")
    guard(state, documents.document_file(shard))

    old = dict(writer.files)
    writer.models[EDITED]["use"] = False
    reading = writer.write().reading(documents_only=source != "volume")
    if source == "redis":
        reading = MemoryReading({name: content for name, content in writer.files.items() if old[name] != content})
    outcome = take(state, reading, source)
    assert outcome.faults == ()
    assert outcome.configuration is not None
    assert not outcome.configuration.models[EDITED].use
    assert outcome.configuration.models["other"] is before.models["other"]
    assert before.models[EDITED].use
