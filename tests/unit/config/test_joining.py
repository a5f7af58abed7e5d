"""The models of all documents as one mapping: joined step by step they are what they would be joined from nothing."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from aigateway_config import documents, joining
from aigateway_config.model import Model
from aigateway_config.verification import Head, Loaded

FILES = ("config.yml", "models-00.yml", "models-01.yml")
STEP = st.dictionaries(  # which documents change, to which models and revisions; None: it is there no more
    st.sampled_from(FILES),
    st.one_of(st.none(), st.tuples(st.integers(1, 4), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)))),
)


def document(file: str, revision: int, models: dict[str, Any]) -> Loaded:
    """Return a document with these models."""
    head = Head(file, b"", "ai/main", "lineage", 2, revision, "digest")
    return Loaded(head, documents.DocumentState(revision=revision, digest="digest"), None, models, frozenset())


def whole(there: dict[str, Loaded]) -> dict[str, Model]:
    """Join as the rule says it: the higher revision wins, then the later file."""
    models: dict[str, Model] = {}
    for loaded in sorted(there.values(), key=lambda loaded: (loaded.head.revision, loaded.head.file)):
        models |= loaded.models
    return models


@given(st.lists(STEP, min_size=1, max_size=8))
def test_models_joined_step_by_step_are_those_joined_from_nothing(steps: list[dict[str, Any]]) -> None:
    """Models come, go, change their document and stand in two; documents change their revision alone, come and go."""
    pool: dict[tuple[str, int], Model] = {}
    there: dict[str, Loaded] = {}
    joined = joining.EMPTY
    for step in steps:
        for file, change in step.items():
            there = {name: loaded for name, loaded in there.items() if name != file}
            if change is not None:
                revision, models = change
                made = {name: pool.setdefault((name, value), cast("Model", object())) for name, value in models.items()}
                there[file] = document(file, revision, made)
        before, models_before = joined, dict(joined.models)
        joined = joining.join(there, joined)
        expected = whole(there)
        assert joined.models == expected
        assert len(joined.models) == len(expected)
        assert list(joined.models) == sorted(expected), "an order that depends on the process"
        assert before.models == models_before, "what readers have changed under them"
    assert joining.EMPTY.models == {}
