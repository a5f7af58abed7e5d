"""The shapes that readers parse: what is refused, what is ignored, what a reader of another version is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from aigateway_config import documents
from tests.reference_renderer import entry, reference_config_maps

GATEWAY: dict[str, Any] = {"metadata": {"name": "main", "namespace": "ai", "uid": "u" * 36}, "spec": {}}
MODEL: dict[str, Any] = {
    "metadata": {"name": "chat", "namespace": "ai", "uid": "v" * 36},
    "spec": {
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
        "backends": [{"name": "small", "model": "m"}],
    },
}


def files() -> dict[str, Any]:
    """Return the files of `main-config` as JSON."""
    return {name: json.loads(text) for name, text in reference_config_maps(GATEWAY, [MODEL])["main-config"].items()}


def test_backends_stand_beside_the_fixed_keys() -> None:
    """An entry has four fixed keys; every other key is a backend."""
    parsed = documents.ConfigDocument.model_validate(files()["config.yml"])
    model = parsed.ai_gateway.virtual_models["chat"]
    assert (model.use, model.current, model.proxy_key_ref) == (True, "small", "keys.proxy")
    assert set(model.backends) == {"small"}
    assert model.backends["small"].base_url == "https://api.example.com/v1"


def test_unknown_keys_are_ignored_at_every_level() -> None:
    """A reader goes on when a later minor adds something."""
    document = files()["config.yml"]
    document["later"] = document["app"]["later"] = document["log"]["system"]["later"] = 1
    document["ai-gateway"]["virtual_models"]["chat"]["small"]["later"] = 1
    assert documents.ConfigDocument.model_validate(document) == documents.ConfigDocument.model_validate(files()["config.yml"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("current", "nowhere"), ("use", "yes"), ("small", "text"), ("small", {"model": "m"}), ("proxy_key_ref", None), ("x", 7)],
)
def test_an_entry_that_cannot_be_served_is_refused(key: str, value: Any) -> None:
    """Nothing is coerced, and `current` names a backend."""
    with pytest.raises(ValidationError):
        documents.VirtualModelEntry.model_validate({**entry(MODEL), key: value})


@pytest.mark.parametrize("key", sorted(documents.TOP_LEVEL_KEYS))
def test_a_document_without_one_of_its_sections_is_refused(key: str) -> None:
    """A set that is not complete is not taken up."""
    document = files()["config.yml"]
    del document[key]
    with pytest.raises(ValidationError):
        documents.ConfigDocument.model_validate(document)


def test_a_manifest_tells_what_its_document_is() -> None:
    """Read by the names it has on the wire."""
    manifest = documents.Manifest.model_validate(files()["config.manifest.json"])
    assert (manifest.schema_version, manifest.shard, manifest.shards, manifest.revision) == (documents.SCHEMA, None, 1, 1)
    assert manifest.sources == {"chat": "chat/vvvvvvvv"}


@pytest.mark.parametrize(
    ("schema", "major"), [("1.0", 1), ("1", 1), ("12.7", 12), ("", -1), ("x.1", -1), ("-1.0", -1), ("².0", -1)]
)
def test_the_major_of_a_schema_is_a_number_or_none(schema: str, major: int) -> None:
    """What is no version matches no reader."""
    assert documents.schema_major(schema) == major


def test_files_are_named_by_shard() -> None:
    """Two digits, so that they sort."""
    assert documents.document_file(7) == "models-07.yml"
    assert documents.document_manifest(7) == "models-07.manifest.json"
    assert documents.credentials_manifest(7) == "_manifest-07.json"
    assert documents.credentials_manifest(None) == "_manifest.json"


def test_reserved_names_are_the_fixed_keys_of_an_entry() -> None:
    """A backend of such a name would take a fixed key's place, now or once secrets are resolved."""
    assert {"use", "current", "base_url", "proxy_key_ref", "proxy_key"} == documents.RESERVED_BACKEND_NAMES


def test_documents_are_frozen() -> None:
    """Subscribers share what was parsed."""
    parsed = documents.ConfigDocument.model_validate(files()["config.yml"])
    with pytest.raises(ValidationError, match="frozen"):
        parsed.app.port = 1  # type: ignore[misc]  # that it is refused is the point


@pytest.mark.parametrize("name", sorted(documents.PUBLISHED))
def test_every_published_shape_has_a_json_schema(name: str) -> None:
    """Gateways in other languages read by it."""
    schema = documents.PUBLISHED[name].json_schema()
    assert schema["type"] == "object"
    assert schema["required"]
