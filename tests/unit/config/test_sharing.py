"""What models of a document say alike is in memory once, and never more alike than the document has it."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from aigateway_config.configuration import Configuration
from aigateway_config.source import Reading
from aigateway_config.state import State
from tests.unit.config.writer import Writer, keyed_backend

MODELS = 500
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def taken(state: State, reading: Reading) -> Configuration:
    """Return what is in force after a reading without a fault."""
    outcome = state.take("volume", reading, NOW)
    assert outcome.faults == ()
    assert outcome.configuration is not None
    return outcome.configuration


def test_models_with_the_same_upstreams_have_them_in_one_copy() -> None:
    """Backends, with their parameters, and the mapping of them; a model that differs in one has others."""
    writer = Writer()
    for name in ("a", "b"):
        writer.put(name, backends=[keyed_backend("openai", parameters={"seed": 1}), keyed_backend("openai", "big")])
    writer.put("c", backends=[keyed_backend("openai", parameters={"seed": 1}), keyed_backend("openai", "big", model="other")])
    models = taken(State(), writer.write().reading()).models
    assert models["a"].backends is models["b"].backends
    assert models["a"] is not models["b"]
    assert models["c"].live is models["a"].live
    assert (models["c"].backends["big"].model, models["a"].backends["big"].model) == ("other", "gpt-4o-mini")


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), (0.0, -0.0), ({"a": 1}, {"a": 1.0})])
def test_values_that_python_takes_for_equal_are_not_shared(one: JsonValue, other: JsonValue) -> None:
    """1, 1.0 and true are not the same to an upstream."""
    writer = Writer()
    for name, value in (("a", one), ("b", other), ("c", one)):
        writer.put(name, backends=[keyed_backend("openai", parameters={"seed": value})])
    models = taken(State(), writer.write().reading()).models
    for name, value in (("a", one), ("b", other), ("c", one)):
        assert repr(models[name].live.parameters["seed"]) == repr(value), name
    assert models["c"].live is models["a"].live


def test_a_rotated_key_reaches_all_that_share_a_backend_and_they_go_on_sharing_it() -> None:
    """Models of one upstream, one of them with a caller's key of its own, and one of another upstream, which stays the same."""
    writer = Writer()
    writer.values["other.api-key"] = "sk-other"
    for name, upstream in (("a", "openai"), ("b", "openai"), ("c", "other")):
        writer.put(name, backends=[keyed_backend(upstream)])
    state = State()
    before = taken(state, writer.write().reading())
    writer.values["openai.api-key"] = "sk-two"
    after = taken(state, writer.write().reading())
    for name in ("a", "b"):
        key = after.models[name].live.api_key
        assert key is not None
        assert key.get_secret_value() == "sk-two"
    assert after.models["a"].backends is after.models["b"].backends
    assert after.models["c"] is before.models["c"]
    writer.values |= {"openai.api-key": "sk-three", "other.api-key": "sk-four"}
    at_once = taken(state, writer.write().reading())
    keys = {name: model.live.api_key.get_secret_value() for name, model in at_once.models.items() if model.live.api_key}
    assert keys == {"a": "sk-three", "b": "sk-three", "c": "sk-four"}
    old = before.models["a"].live.api_key
    assert old is not None
    assert old.get_secret_value() != "sk-two", "requests under way go on with the configuration that they took"


def test_a_model_with_upstreams_of_others_takes_little_memory() -> None:
    """Three hundred bytes, where backends of its own take nine hundred."""
    writer = Writer()
    for number in range(MODELS):
        writer.put(f"model-{number:03d}", backends=[keyed_backend("openai", parameters={"temperature": 0.2})])
    reading = writer.write().reading()
    state = State()
    taken(State(), reading)  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        configuration = taken(state, reading)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(configuration.models) == MODELS
    assert used < 450 * MODELS, used / MODELS
