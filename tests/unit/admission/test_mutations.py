"""Metamorphic fuzz: every generated valid object is allowed, and each with one known mutation is refused at that very place.

The generators and the mutations are written from the design and share nothing with the rules.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import make_gateway_config, make_virtual_model
from tests.unit.admission.reviews import fields, judge

Spec = dict[str, Any]
EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LABELS = st.from_regex(r"[a-z]([-a-z0-9]{0,12}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in {"use", "current", "base-url", "proxy-key", "name"}
)
BACKEND_NAMES = LABELS.map(lambda name: f"b-{name}")
URLS = st.sampled_from(
    [
        "https://api.example.com/v1",
        "https://api.example.com:8443",
        "http://llm.ai.svc:8000/v1",
        "http://llm",
        "http://10.1.2.3:8000/v1",
        "https://93.184.216.34/v1",
        "https://[2606:2800:220:1::1]/v1",
        "http://llm.ai.svc.cluster.local",
    ]
)
HOSTS = st.sampled_from(["redis.ai.svc", "redis", "10.0.0.7", "db.example.com", "fd00::7"])
REFS = st.fixed_dictionaries({"name": LABELS, "key": st.from_regex(r"[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,11}", fullmatch=True)})
KEYS = st.sampled_from(["temperature", "max_tokens", "stop_token_ids", "prompt_cache_key", "top_p", "x", "Ünïcode", "nested"])
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | st.sampled_from(["", "a", "é", "a b", "< & >"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OPEN_MAPS = st.dictionaries(KEYS, VALUES, max_size=4)


@st.composite
def virtual_models(draw: st.DrawFn) -> Spec:
    """Any valid spec of a VirtualModel."""
    names = draw(st.lists(BACKEND_NAMES, min_size=1, max_size=4, unique=True))
    everywhere = draw(st.booleans())
    backends = []
    for name in names:
        optional = {"apiKeySecretRef": REFS, "parameters": OPEN_MAPS} | ({} if everywhere else {"baseUrl": URLS})
        required: dict[str, st.SearchStrategy[Any]] = {"model": st.sampled_from(["gpt-4o", "org/model:7b", "m"])}
        if everywhere:
            required["baseUrl"] = URLS
        backends.append({"name": name, **draw(st.fixed_dictionaries(required, optional=optional))})
    spec: Spec = {
        "gatewayRef": {"name": draw(LABELS)},
        "use": draw(st.booleans()),
        "current": draw(st.sampled_from(names)),
        "proxyKeySecretRef": draw(REFS),
        "backends": backends,
    }
    if not everywhere:
        spec["baseUrl"] = draw(URLS)
    return spec | draw(
        st.fixed_dictionaries(
            {}, optional={"modelName": st.sampled_from(["chat", "org/chat", "gpt-4o.2"]), "probe": st.just({"enabled": True})}
        )
    )


def _optional(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    return st.fixed_dictionaries({}, optional=parts)


PORTS = st.integers(1, 65535)
TLS = _optional(enabled=st.booleans(), caSecretRef=REFS)
STREAMS = _optional(
    level=st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    retentionDays=st.integers(1, 365),
    storage=_optional(
        sinks=st.sampled_from([[], ["file"], ["mongodb", "file"]]), path=st.sampled_from(["logs", "a/b", "..a/b..c"])
    ),
)


def _store(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    return st.fixed_dictionaries({"host": HOSTS}, optional={"port": PORTS, "enabled": st.booleans(), "tls": TLS, **parts})


GATEWAYS = _optional(
    app=_optional(host=st.sampled_from(["0.0.0.0", "::", "127.0.0.1"]), port=PORTS, debug=st.booleans()),
    storage=_optional(
        mongodb=_store(
            username=st.just("gateway"), passwordSecretRef=REFS, database=st.just("db"), authSource=st.just("admin")
        ),
        redis=_store(passwordSecretRef=REFS),
        qdrant=_store(collection=st.just("kb"), apiKeySecretRef=REFS),
    ),
    webSearch=st.fixed_dictionaries(
        {"provider": LABELS, "baseUrl": URLS}, optional={"options": OPEN_MAPS, "apiKeySecretRef": REFS}
    ),
    log=_optional(system=STREAMS, operation=STREAMS),
    delivery=_optional(
        podSelector=st.dictionaries(st.just("app"), LABELS, min_size=1).map(lambda labels: {"matchLabels": labels}),
        shards=st.integers(1, 64),
        statusPort=PORTS,
        poke=st.booleans(),
    ),
    probes=_optional(periodSeconds=st.integers(5, 60), timeoutSeconds=st.integers(1, 4), failureThreshold=st.integers(1, 9)),
)

OPEN = ("parameters", "options", "matchLabels")


def places(value: Any, path: str = "spec") -> Iterator[tuple[str, Spec]]:
    """Yield every declared mapping inside a spec with its path; open maps are not declared inside."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            if key not in OPEN:
                yield from places(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, f"{path}[{index}]")


def mutations_of_model(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Yield (place that must be named, spec with one mutation)."""
    for index, backend in enumerate(spec["backends"]):
        at = ("backends", index)
        path = f"spec.backends[{index}]"
        yield (
            f"{path}.name",
            changed(spec, *at, "name", to="current") if backend["name"] != spec["current"] else _renamed(spec, index),
        )
        yield f"{path}.baseUrl", changed(spec, *at, "baseUrl", to="http://169.254.169.254/v1")
        yield f"{path}.baseUrl", changed(spec, *at, "baseUrl", to="https://user:pw@example.com")
        yield f"{path}.apiKeySecretRef.name", changed(spec, *at, "apiKeySecretRef", to={"name": "a/b", "key": "k"})
        yield f"{path}.parameters.api_key", changed(spec, *at, "parameters", to={"api_key": "x"})
        yield f"{path}.parameters.nested.password", changed(spec, *at, "parameters", to={"nested": {"password": 1}})
        yield f"{path}.parameters.stream", changed(spec, *at, "parameters", to={"stream": True})
        yield f"{path}.parameters", changed(spec, *at, "parameters", to=[])
    yield "spec.current", changed(spec, "current", to="nowhere")
    yield "spec.use", changed(spec, "use", to="yes")
    yield "spec.use", changed(spec, "use", to=1)
    yield "spec.modelName", changed(spec, "modelName", to="has space")
    yield "spec.proxyKeySecretRef.key", changed(spec, "proxyKeySecretRef", "key", to="a/b")
    yield "spec.backends", changed(spec, "backends", to=[])
    yield f"spec.backends[{len(spec['backends'])}].name", changed(spec, "backends", to=[*spec["backends"], spec["backends"][0]])
    for key in ("gatewayRef", "use", "current", "proxyKeySecretRef", "backends"):
        yield "spec", without(spec, key)


def _renamed(spec: Spec, index: int) -> Spec:
    """Give the current backend a reserved name, and choose it by that name."""
    return changed(changed(spec, "backends", index, "name", to="current"), "current", to="current")


def mutations_of_gateway(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Yield (place that must be named, spec with one mutation)."""
    yield "spec.app.port", changed(spec, "app", "port", to=0)
    yield "spec.app.port", changed(spec, "app", "port", to="8000")
    yield "spec.log.system.level", changed(spec, "log", "system", "level", to="TRACE")
    yield "spec.log.operation.storage.path", changed(spec, "log", "operation", "storage", "path", to="a/../b")
    yield "spec.log.operation.storage.path", changed(spec, "log", "operation", "storage", "path", to="/var")
    yield "spec.storage.redis.host", changed(spec, "storage", "redis", "host", to="localhost")
    yield "spec.storage.qdrant.host", changed(spec, "storage", "qdrant", "host", to="http://qdrant")
    yield "spec.webSearch.baseUrl", changed(spec, "webSearch", to={"provider": "p", "baseUrl": "ftp://example.com"})
    yield (
        "spec.webSearch.options.token",
        changed(spec, "webSearch", to={"provider": "p", "baseUrl": "http://s", "options": {"token": "x"}}),
    )
    yield "spec.delivery.podSelector", changed(spec, "delivery", "podSelector", to={})
    yield "spec.delivery.shards", changed(spec, "delivery", "shards", to=65)
    for section in ("app", "storage", "log", "delivery", "probes"):
        yield f"spec.{section}", changed(spec, section, to=[1])


def changed(spec: Spec, *steps: str | int, to: Any) -> Spec:
    """Return a copy with the value at `steps` replaced; mappings on the way are made."""
    copied = copy.deepcopy(spec)
    holder: Any = copied
    for step in steps[:-1]:
        holder = holder.setdefault(step, {}) if isinstance(step, str) else holder[step]
    holder[steps[-1]] = to
    return copied


def without(spec: Spec, key: str) -> Spec:
    """Return a copy without a key."""
    return {name: value for name, value in copy.deepcopy(spec).items() if name != key}


def unknown_keys(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """Yield the spec with an unknown key in each of its declared mappings in turn."""
    for number, (path, _) in enumerate(places(spec)):
        copied = copy.deepcopy(spec)
        list(places(copied))[number][1]["unknownKey"] = 1
        yield f"{path}.unknownKey", copied


def assert_refused_at(kind: str, path: str, spec: Spec, old: Spec | None = None) -> None:
    """Assert that the spec is refused and `path` is among the places that are named."""
    make = make_virtual_model if kind == "VirtualModel" else make_gateway_config
    new = {**make(), "spec": spec}
    verdict = judge("CREATE", new) if old is None else judge("UPDATE", new, {**make(), "spec": old})
    assert path in fields(verdict), f"{path} is not named in {fields(verdict)} for {spec}"


@settings(EXAMPLES, max_examples=100)
@given(virtual_models())
def test_valid_model_is_allowed_and_each_mutation_is_refused_at_its_place(spec: Spec) -> None:
    """About 30 mutations of each of 100 models, on CREATE and as an edit of the valid one."""
    manifest = {**make_virtual_model(), "spec": spec}
    verdict = judge("CREATE", manifest)
    assert verdict.status is None, verdict.status
    for path, mutated in (*mutations_of_model(spec), *unknown_keys(spec)):
        assert_refused_at("VirtualModel", path, mutated)
        assert_refused_at("VirtualModel", path, mutated, old=spec)


@EXAMPLES
@given(GATEWAYS)
def test_valid_gateway_is_allowed_and_each_mutation_is_refused_at_its_place(spec: Spec) -> None:
    """About 25 mutations of each of 200 gateways."""
    verdict = judge("CREATE", {**make_gateway_config(), "spec": spec})
    assert verdict.status is None, verdict.status
    for path, mutated in (*mutations_of_gateway(spec), *unknown_keys(spec)):
        assert_refused_at("GatewayConfig", path, mutated)


@EXAMPLES
@given(GATEWAYS)
def test_each_key_of_a_fixed_section_that_vanishes_is_refused_at_its_place(spec: Spec) -> None:
    """Removal is judged at every level; what may go (user names, references, tls) may."""
    free = ("username", "passwordSecretRef", "apiKeySecretRef", "caSecretRef", "tls")
    for number, (path, mapping) in enumerate(places(spec)):
        fixed = path.startswith(("spec.app", "spec.storage", "spec.webSearch", "spec.log"))
        if any(f".{key}" in path for key in free):
            continue
        for key in mapping:
            copied = copy.deepcopy(spec)
            del list(places(copied))[number][1][key]
            section = path == "spec" and key in ("app", "storage", "webSearch", "log")
            if section or (fixed and key not in free):
                assert_refused_at("GatewayConfig", f"{path}.{key}", copied, old=spec)


@EXAMPLES
@given(GATEWAYS, GATEWAYS)
def test_edit_is_judged_the_same_whatever_else_it_changes(old: Spec, new: Spec) -> None:
    """A valid spec replaces another valid one unless keys of fixed sections vanish or shards change: nothing else refuses."""
    verdict = judge("UPDATE", {**make_gateway_config(), "spec": new}, {**make_gateway_config(), "spec": old})
    known = fields(verdict)
    sections = ("spec.app", "spec.storage", "spec.webSearch", "spec.log", "spec.delivery.shards")
    assert all(path.startswith(sections) for path in known), known
    again = judge("UPDATE", {**make_gateway_config(), "spec": copy.deepcopy(old)}, {**make_gateway_config(), "spec": old})
    assert again.status is None


@pytest.mark.parametrize("kind", ["VirtualModel", "GatewayConfig"])
def test_object_without_mutation_is_its_own_edit(kind: str) -> None:
    """A no-op is allowed without warnings."""
    manifest = make_virtual_model() if kind == "VirtualModel" else make_gateway_config()
    assert judge("UPDATE", manifest, manifest).warnings == ()
