"""Whole documents and their manifests: equal to the reference renderer's, whatever the manifests say."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aigateway_config import documents
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.render.entries import read_entry, render_entry
from aigateway_operator.render.files import render_config, render_credentials_manifest, render_manifest, render_models
from aigateway_operator.render.settings import read_settings, render_settings
from aigateway_operator.render.shards import shard_of
from tests import reference_renderer
from tests.builders import make_backend, make_gateway_config, make_uid, make_virtual_model

FULL: dict[str, Any] = {
    "app": {"host": "127.0.0.1", "port": 9000, "debug": True},
    "storage": {
        "mongodb": {
            "host": "mongodb.ai.svc",
            "username": "gateway",
            "passwordSecretRef": {"name": "mongodb", "key": "password"},
            "tls": {"enabled": True, "caSecretRef": {"name": "my.ca", "key": "ca.crt"}},
        },
        "redis": {"host": "redis.ai.svc", "passwordSecretRef": {"name": "redis", "key": "password"}, "tls": {}},
        "qdrant": {"host": "qdrant.ai.svc", "collection": "other", "apiKeySecretRef": {"name": "qdrant", "key": "k"}},
    },
    "webSearch": {"provider": "searxng", "baseUrl": "http://searxng.ai.svc:8080", "apiKeySecretRef": {"name": "s", "key": "k"}},
    "log": {"system": {"level": "DEBUG", "storage": {"sinks": ["file"], "path": "else"}, "retentionDays": 3}},
}
GATEWAYS = {
    "nothing set": {},
    "everything set": FULL,
    "stores that are off": {"storage": {name: {**FULL["storage"][name], "enabled": False} for name in FULL["storage"]}},
    "options of any shape": {"webSearch": {**FULL["webSearch"], "options": {"a": [1, 1.5e300, None, {"b": "\x7f\x85"}]}}},
    "stores with defaults": {"storage": {name: {"host": f"{name}.ai.svc"} for name in FULL["storage"]}},
}


def with_uid(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest as the API server would return it."""
    uid = make_uid(f"{manifest['kind']}/{manifest['metadata']['name']}")
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


def render_all(gateway: dict[str, Any], models: list[dict[str, Any]]) -> dict[str, str]:
    """Return config.yml and its manifest as the operator renders them."""
    entries = [
        render_entry(VirtualModelSpec.model_validate(model["spec"]), reference_renderer.model_name(model)) for model in models
    ]
    document = render_config(render_settings(GatewayConfigSpec.model_validate(gateway["spec"])), entries)
    sources = {
        reference_renderer.model_name(model): f"{model['metadata']['name']}/{model['metadata']['uid'][:8]}" for model in models
    }
    manifest = render_manifest(
        document, gateway=GatewayKey("ai", "main"), lineage=gateway["metadata"]["uid"], shards=1, revision=7, sources=sources
    )
    return {document.file: document.content.decode(), document.manifest_file: manifest.decode()}


MODELS = [
    make_virtual_model("chat"),
    make_virtual_model("off", use=False, modelName="模型/ünï-1"),
    make_virtual_model("own-urls", baseUrl=..., backends=[make_backend(baseUrl="http://llm.ai.svc:8080/v1")]),
    make_virtual_model(
        "hashed",
        proxyKeySecretRef={"name": "dotted.name", "key": "proxy"},
        backends=[make_backend(parameters={"stop": ["\x7f", "\u2028"], "seed": 2**60, "top_p": 1.0, "x": {"b": 1, "a": None}})],
    ),
]


@pytest.mark.parametrize("settings", GATEWAYS.values(), ids=GATEWAYS)
def test_config_yml_equals_the_reference(settings: dict[str, Any]) -> None:
    """Document and manifest are, byte for byte, what the plainest program makes of the same manifests."""
    gateway, models = with_uid(make_gateway_config(**settings)), list(map(with_uid, MODELS))
    assert render_all(gateway, models) == reference_renderer.reference_config_maps(gateway, models, revision=7)["main-config"]


@pytest.mark.parametrize("settings", GATEWAYS.values(), ids=GATEWAYS)
def test_documents_parse_as_readers_parse_them(settings: dict[str, Any]) -> None:
    """What is written has the published shape, and YAML readers see what JSON readers see."""
    text = render_all(with_uid(make_gateway_config(**settings)), list(map(with_uid, MODELS)))["config.yml"]
    document = json.loads(text)
    assert yaml.safe_load(text) == document
    parsed = documents.ConfigDocument.model_validate(document)
    assert set(document) == set(documents.TOP_LEVEL_KEYS)
    assert parsed.ai_gateway.virtual_models["chat"].backends["big"].base_url == "https://eu.example.com/v1"


@pytest.mark.parametrize("settings", GATEWAYS.values(), ids=GATEWAYS)
def test_settings_read_back_render_the_same_document(settings: dict[str, Any]) -> None:
    """After a restart the last good settings are as good as the first."""
    rendered = render_settings(GatewayConfigSpec.model_validate(settings))
    back = read_settings(json.loads(render_config(rendered, []).content))
    assert back.sections == rendered.sections
    assert back.credentials.keys() == rendered.credentials.keys()
    assert {file for file, ref in back.credentials.items() if ref is None} == {f for f in rendered.credentials if f[0] == "_"}


@pytest.mark.parametrize("settings", GATEWAYS.values(), ids=GATEWAYS)
def test_settings_name_the_secrets_behind_their_credentials_files(settings: dict[str, Any]) -> None:
    """Each file that `config.yml` names is known by Secret and key; stores that are off need none."""
    files = render_settings(GatewayConfigSpec.model_validate(settings)).credentials
    expected = reference_renderer.reference_credentials(make_gateway_config(**settings), [])["main-credentials"]
    assert files == expected


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["metadata"]["name"])
def test_an_entry_read_back_is_the_entry(model: dict[str, Any]) -> None:
    """The last good that is read from a document is rendered as it stood there; hashed names keep their files."""
    entry = render_entry(VirtualModelSpec.model_validate(model["spec"]), "m")
    back = read_entry("m", json.loads(entry.text))
    assert (back.model_name, back.text, back.use) == (entry.model_name, entry.text, entry.use)
    assert back.credentials == {file: None if file[0] == "_" else ref for file, ref in entry.credentials.items()}


def test_an_entry_with_keys_of_a_later_minor_keeps_them() -> None:
    """Read back and written again, nothing is lost that a newer operator put there."""
    entry = render_entry(VirtualModelSpec.model_validate(make_virtual_model()["spec"]), "m")
    mapping = json.loads(entry.text)
    mapping["small"]["later"] = [1]
    assert json.loads(read_entry("m", mapping).text) == mapping


@given(st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(shuffled: random.Random) -> None:
    """The same models in any order are the same bytes, and so the same digest."""
    models = [make_virtual_model(f"m{number}", use=bool(number % 2)) for number in range(6)]
    entries = [render_entry(VirtualModelSpec.model_validate(model["spec"]), model["metadata"]["name"]) for model in models]
    expected = render_models(3, entries)
    shuffled.shuffle(entries)
    assert render_models(3, entries) == expected


@given(st.sampled_from(["use", "current", "baseUrl", "parameters", "model"]), st.integers(0, 3))
def test_the_digest_differs_when_the_content_does(field: str, which: int) -> None:
    """Any change of any model shows in the digest, and in no line but that model's."""
    changes: dict[str, Any] = {
        "use": {"use": False},
        "current": {"current": "big"},
        "baseUrl": {"baseUrl": "https://other.example.com/v1"},
        "parameters": {"backends": [make_backend(parameters={"seed": 1}), make_backend("big")]},
        "model": {"backends": [make_backend(model="other"), make_backend("big")]},
    }
    names = ["a", "b", "c", "d"]
    before = [render_entry(VirtualModelSpec.model_validate(make_virtual_model()["spec"]), name) for name in names]
    after = list(before)
    after[which] = render_entry(VirtualModelSpec.model_validate(make_virtual_model(**changes[field])["spec"]), names[which])
    old, new = render_models(0, before), render_models(0, after)
    assert old.digest != new.digest
    changed = [line for line in new.content.splitlines() if line not in old.content.splitlines()]
    assert [line[:4] for line in changed] == [f'"{names[which]}":'.encode()]


def test_a_model_has_a_line_of_its_own() -> None:
    """`diff` of two documents shows which model changed."""
    entries = [render_entry(VirtualModelSpec.model_validate(make_virtual_model()["spec"]), name) for name in "ab"]
    lines = render_models(0, entries).content.decode().splitlines()
    assert [line[:5] for line in lines] == ['{"ai-', '"a":{', '"b":{', "}}}"]


@pytest.mark.parametrize("shard", [None, 0])
def test_bytes_that_were_let_go_are_rendered_again(shard: int | None) -> None:
    """The same bytes, whatever the order in which entries came: the digest goes with them."""
    entries = [render_entry(VirtualModelSpec.model_validate(make_virtual_model()["spec"]), name) for name in "ba"]
    settings = render_settings(GatewayConfigSpec())
    document = render_config(settings, iter(entries)) if shard is None else render_models(shard, iter(entries))
    content = document.content
    document.let_go()
    assert document.content == content
    assert document.content is not content
    assert document.size_bytes == len(content)
    assert document.digest == sha256(content).hexdigest()


def test_a_shard_without_models_is_a_document() -> None:
    """Readers find every shard, so an empty one is complete too."""
    document = render_models(0, [])
    assert documents.ModelsDocument.model_validate_json(document.content).ai_gateway.virtual_models == {}
    assert (document.file, document.manifest_file) == ("models-00.yml", "models-00.manifest.json")


def test_credentials_manifests_hold_names_in_order_and_nothing_else() -> None:
    """A reader learns what is there and what is known to be missing; never a digest of a value."""
    made = render_credentials_manifest(
        gateway=GatewayKey("ai", "main"), lineage="u", shard=2, revision=5, keys=["b", "a"], missing=["d", "c"]
    )
    assert json.loads(made) == {
        "schema": "1.0", "gateway": "ai/main", "lineage": "u", "shard": 2, "credentialsRevision": 5,
        "keys": ["a", "b"], "missing": ["c", "d"],
    }  # fmt: skip
    parsed = documents.CredentialsManifest.model_validate_json(made)
    assert (parsed.revision, parsed.keys, parsed.missing) == (5, ["a", "b"], ["c", "d"])


@given(st.text(min_size=1), st.integers(1, 64))
def test_shards_are_stable_and_within_range(name: str, shards: int) -> None:
    """The shard of a name is a function of the name, the same on every machine."""
    assert 0 <= shard_of(name, shards) < shards
    assert shard_of(name, shards) == reference_renderer.shard(name, shards)


def test_the_shard_of_a_name_never_changes() -> None:
    """A release that hashed otherwise would move every model of every user at once."""
    assert [shard_of(name, 64) for name in ("chat", "gpt-4o", "模型")] == [26, 39, 56]
