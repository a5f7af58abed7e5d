"""The table of edits: what must never get past the door, and what must never be held up, of a stored, valid object.

A bad edit names the place that the answer must name, and the layer that refuses it: `SCHEMA` (schema and CEL, which hold
with nothing of ours running) or `WEBHOOK`. Families are generated from the models and from lists of spellings, so that a
new section or key is in the table by itself. Used by test_bad_edits; not a test module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from aigateway_operator.api.declared import fields_of, model_below
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.fixed import may_go
from aigateway_operator.api.gatewayconfig import FIXED_SECTIONS, GatewayConfigSpec
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from tests.apiserver import test_bad_manifests as manifests
from tests.apiserver.test_bad_manifests import GONE, Change, Manifest, changed

Layer = Literal["schema", "webhook"]
SCHEMA: Final = "schema"
WEBHOOK: Final = "webhook"
GATEWAY_CONFIG: Final = "GatewayConfig"
VIRTUAL_MODEL: Final = "VirtualModel"


@dataclass(frozen=True)
class Edit:
    """A change of a stored object of `kind`; of a bad one, `path` is what is wrong and `layer` who refuses it."""

    kind: str
    change: Change
    path: str = ""
    layer: Layer = WEBHOOK

    def __str__(self) -> str:
        return f"{self.kind} {self.change}"[:160]


def base(kind: str, name: str) -> Manifest:
    """Return the stored object: valid, and with every key set."""
    manifest = manifests.virtual_model() if kind == VIRTUAL_MODEL else manifests.gateway_config()
    manifest = changed(manifest, {"metadata.name": name})
    if kind == VIRTUAL_MODEL:
        del manifest["spec"]["modelName"]  # many of them share a gateway: each is known by its own name
    return manifest


def _declared(model: type[SpecModel], spec: Any, place: str, path: str) -> Iterator[tuple[str, str, type[SpecModel]]]:
    """Yield (place, path, model) of every declared object that the stored object has."""
    yield place, path, model
    for key in fields_of(model):
        below = model_below(model, key)
        value: Any = spec.get(key)
        if below is not None and isinstance(value, list):
            yield from _declared(below, value[0], f"{place}.{key}.0", f"{path}.{key}[0]")
        elif below is not None and isinstance(value, dict):
            yield from _declared(below, value, f"{place}.{key}", f"{path}.{key}")


def _objects(kind: str) -> list[tuple[str, str, type[SpecModel]]]:
    model = VirtualModelSpec if kind == VIRTUAL_MODEL else GatewayConfigSpec
    return list(_declared(model, base(kind, "x")["spec"], "spec", "spec"))


def _unknown_keys() -> Iterator[Edit]:
    """An unknown key in every declared object of both kinds, of each JSON type in turn, and each first key misspelt."""
    values: list[Any] = [1, "text", True, {"deep": {"er": 1}}, [1, {"a": 2}], {}, [], 0.5]
    for kind in (VIRTUAL_MODEL, GATEWAY_CONFIG):
        for number, (place, path, model) in enumerate(_objects(kind)):
            yield Edit(kind, {f"{place}.bogus": values[number % len(values)]}, f"{path}.bogus")
            misspelt = f"{next(iter(fields_of(model)))}s"
            yield Edit(kind, {f"{place}.{misspelt}": "x"}, f"{path}.{misspelt}")
    for key in ("app", "Storage", "web_search", "ai-gateway", "logs", "status", "metadata"):
        if key not in fields_of(GatewayConfigSpec):
            yield Edit(GATEWAY_CONFIG, {f"spec.{key}": {"a": 1}}, f"spec.{key}")


def _removals() -> Iterator[Edit]:
    """Every key of the fixed sections removed, sections emptied, and sections of another type."""
    for place, path, model in _objects(GATEWAY_CONFIG):
        inside = place.split(".")[1:]
        fixed = FIXED_SECTIONS if not inside else tuple(fields_of(model)) if inside[0] in FIXED_SECTIONS else ()
        if any(may_go(key) for key in inside):
            continue
        for key in fixed:
            if not may_go(key):
                yield Edit(GATEWAY_CONFIG, {f"{place}.{key}": GONE}, f"{path}.{key}", SCHEMA)
    for section in FIXED_SECTIONS:
        first = next(iter(base(GATEWAY_CONFIG, "x")["spec"][section]))
        yield Edit(GATEWAY_CONFIG, {f"spec.{section}": {}}, f"spec.{section}.{first}", SCHEMA)
        others: list[Any] = [[], "x", 0, False]
        for value in others:
            yield Edit(GATEWAY_CONFIG, {f"spec.{section}": value}, f"spec.{section}", SCHEMA)


URLS: Final = (
    "api.example.com/v1",
    "//api.example.com",
    "ftp://api.example.com",
    "https:///v1",
    "http://api.example.com/v1",
    "http://vllm.models",
    "https://user@api.example.com",
    "https://user:secret@api.example.com",
    "https://api.example.com/v1#top",
    "https://api.example.com/v1?key=a",
    "https://api.example.com:0",
    "https://api.example.com:65536",
    "https://api.example.com.",
    "https://api..example.com",
    "https://api.example.com\\@evil.example",
    "https://a b.example",
    "https://localhost",
    "https://LOCALHOST:8080",
    "https://a.localhost",
    "https://127.0.0.1",
    "https://127.1",
    "https://2130706433",
    "https://0x7f000001",
    "https://0x7f.0.0.1",
    "https://0177.0.0.1",
    "https://127.0.0.1.",
    "https://0.0.0.0",
    "https://[::1]",
    "https://[::]",
    "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[64:ff9b::7f00:1]",
    "https://[2002:7f00:1::]",
    "https://[fe80::1%25eth0]",
    "https://[fe80::1]",
    "https://169.254.169.254/latest",
    "https://[fd00:ec2::254]",
    "https://metadata.google.internal",
    "https://①②⑦.0.0.1",
    "https://100.100.100.200",
    "https://224.0.0.1",
    "https://255.255.255.255",
)  # fmt: skip
HOSTS: Final = ("localhost", "127.0.0.1", "2130706433", "::1", "[::1]", "redis:6379", "redis://redis", "redis.ai.svc/0",
                "169.254.169.254", "a b", "redis.ai.svc.")  # fmt: skip
PARAMETERS: Final = ("model", "messages", "input", "stream", "api_key", "apiKey", "API-KEY", "authorization", "password",
                     "client_secret", "access_token", "bearer_token", "private_key")  # fmt: skip


def _meanings() -> Iterator[Edit]:
    """What no schema can say: addresses, secret-looking keys, characters, keys that no Secret has."""
    for number, url in enumerate(URLS):
        place, path = (("spec.baseUrl",) * 2, ("spec.backends.0.baseUrl", "spec.backends[0].baseUrl"))[number % 2]
        yield Edit(VIRTUAL_MODEL, {place: url}, path)
    for number, host in enumerate(HOSTS):
        place = f"spec.storage.{('mongodb', 'redis', 'qdrant')[number % 3]}.host"
        yield Edit(GATEWAY_CONFIG, {place: host}, place)
    for key in PARAMETERS:
        yield Edit(VIRTUAL_MODEL, {f"spec.backends.0.parameters.{key}": "x"}, f"spec.backends[0].parameters.{key}")
    for key in ("api_key", "token", "secret"):
        yield Edit(GATEWAY_CONFIG, {f"spec.webSearch.options.{key}": "x"}, f"spec.webSearch.options.{key}")
    deep = {"extra_body": {"metadata": {"password": "x"}}}
    yield Edit(VIRTUAL_MODEL, {"spec.backends.0.parameters": deep}, "spec.backends[0].parameters.extra_body.metadata.password")
    yield Edit(VIRTUAL_MODEL, {"spec.backends.1.model": "gpt\u0000"}, "spec.backends[1].model")
    yield Edit(VIRTUAL_MODEL, {"spec.backends.1.model": "a\u2028b"}, "spec.backends[1].model")
    yield Edit(GATEWAY_CONFIG, {"spec.storage.mongodb.username": "a\nb"}, "spec.storage.mongodb.username")
    yield Edit(VIRTUAL_MODEL, {"spec.proxyKeySecretRef.key": ".."}, "spec.proxyKeySecretRef.key")
    yield Edit(VIRTUAL_MODEL, {"spec.backends.0.apiKeySecretRef.key": "..a"}, "spec.backends[0].apiKeySecretRef.key")
    ca = "spec.storage.redis.tls.caSecretRef.key"
    yield Edit(GATEWAY_CONFIG, {ca: "."}, ca)
    yield Edit(GATEWAY_CONFIG, {"spec.app.host": "0.0.0.0:8000"}, "spec.app.host")
    yield Edit(GATEWAY_CONFIG, {"spec.webSearch.baseUrl": "http://example.com"}, "spec.webSearch.baseUrl")
    labels = "spec.delivery.podSelector.matchLabels"
    yield Edit(GATEWAY_CONFIG, {labels: {"-a": "x"}}, f"{labels}.-a")


def _schema_rows() -> Iterator[Edit]:
    """The wrong values of test_bad_manifests as edits: types, ranges, patterns, lengths, choices, required fields, CEL."""
    for kind, rows in ((VIRTUAL_MODEL, manifests.VIRTUAL_MODELS), (GATEWAY_CONFIG, manifests.GATEWAY_CONFIGS)):
        for row in rows:
            if "metadata.name" in row.bad:
                continue  # a name is no edit
            yield Edit(kind, row.bad, _path_as_edit(kind, row), SCHEMA)
    yield Edit(GATEWAY_CONFIG, {"spec.delivery.shards": 2}, "spec.delivery.shards", SCHEMA)
    yield Edit(GATEWAY_CONFIG, {"spec": GONE}, "spec.app", SCHEMA)


def _path_as_edit(kind: str, row: manifests.Row) -> str:
    """A required key of a fixed section that was there is named as deleted, at its own place."""
    place = next(iter(row.bad))
    if kind == GATEWAY_CONFIG and row.field == "spec" and place != "spec":
        if row.bad[place] is GONE and not may_go(place.split(".")[-2]):
            return place
        if row.bad[place] == {} and not may_go(place.split(".")[-2]) and not may_go(place.rsplit(".", 1)[-1]):
            return f"{place}.{'provider' if place == 'spec.webSearch' else 'host'}"
    return row.field


def _unique(edits: Iterator[Edit]) -> Iterator[Edit]:
    """Families overlap here and there; each edit is sent once."""
    seen: set[str] = set()
    for edit in edits:
        if (key := f"{edit.kind}{edit.change!r}") not in seen:
            seen.add(key)
            yield edit


def _all_bad() -> Iterator[Edit]:
    yield from _schema_rows()
    yield from _removals()
    yield from _unknown_keys()
    yield from _meanings()


BAD: Final = list(_unique(_all_bad()))
TOO_LARGE: Final = Edit(VIRTUAL_MODEL, {"spec.backends.0.parameters.prompt": "x" * 270_000}, "spec")
"""Not in the table: of kubectl's own annotation with the whole object, the API server says that it is too long."""


def _more_good() -> Iterator[Edit]:
    def model(change: Change) -> Edit:
        return Edit(VIRTUAL_MODEL, change)

    def gateway(change: Change) -> Edit:
        return Edit(GATEWAY_CONFIG, change)

    yield model({"spec.use": False, "spec.current": "big"})
    yield model({"spec.modelName": "org/Chat_v2.1"})
    yield model({"spec.gatewayRef.name": "other"})
    yield model({"spec.backends.0.apiKeySecretRef": GONE})
    yield model({"spec.backends.0.parameters": {}})
    yield model({"spec.backends.0.parameters": GONE})
    yield model({"spec.backends.0.parameters": {"max_tokens": 10, "stop_token_ids": [1], "prompt_cache_key": "a"}})
    yield model({"spec.backends.0.parameters": {"logit_bias": {"50256": -100}, "n": 1, "user": "é"}})
    yield model({"spec.backends": [{"name": "new", "model": "m"}], "spec.current": "new"})
    yield model({"spec.backends": [{"name": "big", "model": "gpt-4o"}], "spec.current": "big"})
    yield model({"spec.backends.0.name": "tiny", "spec.current": "tiny"})
    yield model({"spec.backends": list(reversed(base(VIRTUAL_MODEL, "x")["spec"]["backends"]))})
    yield model({"spec.probe": GONE})
    yield model({"spec.backends.0.baseUrl": GONE})
    for url in ("https://10.0.0.7/v1", "http://vllm", "http://vllm.models.svc:8000/v1", "https://[2606:4700::1111]:8443/v1",
                "https://bücher.example/v1", "HTTPS://API.Example.COM/v1", "http://192.168.1.1/v1"):  # fmt: skip
        yield model({"spec.baseUrl": url})
    yield model({"metadata.labels": {"team": "a"}, "metadata.annotations": {"note": "b"}})
    for key in ("username", "passwordSecretRef", "tls"):
        yield gateway({f"spec.storage.mongodb.{key}": GONE})
    yield gateway({"spec.storage.redis.tls.caSecretRef": GONE})
    yield gateway({"spec.storage.redis.tls": {}})
    yield gateway({"spec.storage.qdrant.apiKeySecretRef": GONE})
    yield gateway({"spec.webSearch.apiKeySecretRef": GONE})
    yield gateway({"spec.webSearch.options": {}})
    yield gateway({"spec.webSearch.options": {"engines": ["a"], "model": "x"}})
    yield gateway({"spec.delivery": GONE})
    yield gateway({"spec.probes": GONE})
    yield gateway({"spec.delivery.podSelector": GONE})
    yield gateway({"spec.delivery.podSelector": {"matchLabels": {"other": "x"}}})
    yield gateway({"spec.storage.redis.enabled": False, "spec.storage.mongodb.enabled": False})
    yield gateway({"spec.app": {"host": "::", "port": 9000, "debug": True}})
    yield gateway({"spec.log.system.level": "WARNING", "spec.log.operation.retentionDays": 36500})
    yield gateway({"metadata.labels": {"team": "a"}})


def _good_rows() -> Iterator[Edit]:
    """The legal values beside the wrong ones, but for those that remove what an edit must keep."""
    for kind, rows in ((VIRTUAL_MODEL, manifests.VIRTUAL_MODELS), (GATEWAY_CONFIG, manifests.GATEWAY_CONFIGS)):
        for row in rows:
            if row.good and not {"metadata.name", "spec.modelName"} & row.good.keys() and not _takes_fixed_keys(kind, row.good):
                yield Edit(kind, row.good)


def _takes_fixed_keys(kind: str, change: Change) -> bool:
    """Whether a change of a GatewayConfig removes keys of a fixed section, or makes a section smaller."""
    if kind == VIRTUAL_MODEL:
        return False
    return (
        any(
            (value is GONE or isinstance(value, dict))
            and not any(may_go(step) for step in place.split("."))
            and not place.startswith(("spec.delivery", "spec.probes", "spec.webSearch.options."))
            for place, value in change.items()
        )
        or "spec.delivery.shards" in change
    )


GOOD: Final = list(_unique(edit for rows in (_good_rows(), _more_good()) for edit in rows))
