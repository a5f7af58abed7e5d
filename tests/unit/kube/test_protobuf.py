"""ConfigMaps and Secrets mean the same in protobuf as in JSON; what it cannot say goes as JSON; broken answers are told."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.errors import Conflict, Unavailable
from aigateway_operator.kube import protobuf
from aigateway_operator.kube.answers import parse_error, parse_object
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS, JsonObject
from aigateway_operator.kube.transport import Transport

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
OWNER = {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "name": "main", "uid": "u-1", "controller": True}
METADATA = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "namespace": NAMES,
        "uid": NAMES,
        "resourceVersion": NAMES,
        "labels": st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3),
        "annotations": st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3),
        "ownerReferences": st.just([OWNER, {**OWNER, "controller": False, "blockOwnerDeletion": False}]),
    },
)
ENCODED = st.binary(max_size=300).map(lambda value: base64.b64encode(value).decode())


def config_map(**parts: Any) -> JsonObject:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **parts}


@given(METADATA, st.dictionaries(NAMES, TEXTS, min_size=1), st.dictionaries(NAMES, ENCODED, min_size=1), st.booleans())
def test_what_is_written_is_what_is_read(
    metadata: JsonObject, texts: dict[str, str], values: dict[str, str], immutable: bool
) -> None:
    """Any text, empty values and any bytes, of both kinds."""
    parts = {"metadata": metadata, "immutable": immutable}
    for obj in (config_map(**parts, data=texts, binaryData=values), config_map(**parts, kind="Secret", data=values, type="x")):
        body = protobuf.encode(obj)
        assert body is not None
        assert protobuf.decode(body) == obj


def test_a_body_is_what_the_encoding_says() -> None:
    """Written out by hand: envelope, type, then the object with its metadata and one entry of more than 127 bytes."""
    value = b"v" * 200
    entry = b"\x0a\x01k" + b"\x12\xc8\x01" + value
    raw = b"\x0a\x03\x0a\x01a" + b"\x12" + bytes([0x80 | len(entry) & 0x7F, len(entry) >> 7]) + entry
    envelope = (
        b"\x0a\x0f" + b"\x0a\x02v1" + b"\x12\x09ConfigMap" + b"\x12" + bytes([0x80 | len(raw) & 0x7F, len(raw) >> 7]) + raw
    )
    assert protobuf.encode(config_map(data={"k": value.decode()})) == b"k8s\0" + envelope


def message(number: int, content: bytes) -> bytes:
    """Return a field of bytes, by the definition of the encoding; lengths from 128 on take two bytes."""
    size = len(content)
    return bytes([number << 3 | 2, *([size] if size < 128 else [0x80 | size & 0x7F, size >> 7])]) + content


def test_every_field_has_the_number_that_kubernetes_gave_it() -> None:
    """Numbers of generated.proto, written out: encoder and decoder share a table, so that they agree on a wrong one too."""
    owner = message(5, b"ai-gateway.io/v1alpha1") + message(1, b"GatewayConfig") + message(3, b"main") + message(4, b"u-1")
    label = message(1, b"a") + message(2, b"b")
    metadata = b"".join(
        (
            *(message(1, b"n"), message(3, b"ai"), message(5, b"u"), message(6, b"7")),
            *(message(11, label), message(12, label), message(13, owner + b"\x30\x01\x38\x00")),
        )
    )
    said = {
        "name": "n",
        "namespace": "ai",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"a": "b"},
        "annotations": {"a": "b"},
        "ownerReferences": [{**OWNER, "blockOwnerDeletion": False}],
    }
    texts, values = {"k": "v"}, {"k": "dg=="}
    entry = message(1, b"k") + message(2, b"v")
    for obj, body in (
        (config_map(data=texts, binaryData=values, immutable=True), message(2, entry) + message(3, entry) + b"\x20\x01"),
        (config_map(kind="Secret", data=values, type="t", immutable=True), message(2, entry) + message(3, b"t") + b"\x28\x01"),
    ):
        about = message(1, b"v1") + message(2, obj["kind"].encode())
        envelope = message(1, about) + message(2, message(1, metadata) + body)
        assert protobuf.encode({**obj, "metadata": said}) == b"k8s\0" + envelope


def test_what_the_server_adds_is_passed_over_or_read_as_json_has_it() -> None:
    """Fields nobody here knows, of every wire type; empty texts, which the server writes and JSON leaves out; times."""
    time = b"\x42\x06" + b"\x08\x80\xc4\xd8\xca\x06"
    metadata = (
        b"\x0a\x01a" + b"\x12\x00" + b"\x38\x05" + time + b"\x8a\x01\x02zz" + b"\xf9\x01" + b"12345678" + b"\xfd\x01" + b"1234"
    )
    raw = b"\x0a" + bytes([len(metadata)]) + metadata + b"\x4a\x00"
    body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes([len(raw)]) + raw + b"\x1a\x00\x22\x00"
    found = protobuf.decode(body)
    assert found == config_map(metadata={"name": "a", "creationTimestamp": "2026-01-01T07:28:00Z"})


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "VirtualModel", "metadata": {"name": "a"}},
        {"apiVersion": "v2", "kind": "ConfigMap"},
        {"metadata": {}},
        {"apiVersion": "v1", "kind": ["ConfigMap"]},
        config_map(metadata={"name": "a", "finalizers": ["x"]}),
        config_map(metadata={"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}),
        config_map(stringData={"a": "b"}),
        config_map(data=None),
        config_map(data={"a": 1}),
        config_map(data={"a": "\ud800"}),
        config_map(immutable="yes"),
        config_map(kind="Secret", data={"a": "no base64"}),
    ],
)
def test_what_protobuf_cannot_say_is_left_to_json(obj: JsonObject) -> None:
    """Nothing is left out silently, and nothing raises: the API server judges it."""
    assert protobuf.encode(obj) is None


def test_an_answer_that_is_cut_short_is_unavailable() -> None:
    """Wherever it breaks off: never another error, and never half a value."""
    whole = protobuf.encode(config_map(data={"a": "x" * 200, "b": "y"}, immutable=True))
    assert whole is not None
    for length in range(4, len(whole)):
        with pytest.raises(Unavailable):
            parse_object("PUT /x", whole[:length])
    with pytest.raises(Unavailable):
        parse_object("PUT /x", b"k8s\0\xff\xff\xff")


def test_refusals_in_protobuf_read_as_those_in_json() -> None:
    """The server answers as it was asked; texts about Secrets are not repeated."""
    body = protobuf.encode({"apiVersion": "v1", "kind": "Status", "message": "hunter2 is no name", "reason": "Conflict"})
    assert body is not None
    error = parse_error("PUT /api/v1/namespaces/a/configmaps/a", 409, {}, body)
    assert isinstance(error, Conflict)
    assert "hunter2 is no name" in str(error)
    quiet = str(parse_error("PUT /api/v1/namespaces/a/secrets/a", 409, {}, body))
    assert "hunter2" not in quiet
    assert "Conflict" in quiet


class Wire:
    """A transport that answers with what it was sent."""

    def __init__(self) -> None:
        self.types: list[str] = []

    async def send(
        self, _method: str, _path: str, *, body: bytes, headers: Mapping[str, str], query: Any, timeout_seconds: float
    ) -> bytes:
        self.types.append(headers["Content-Type"])
        assert body.startswith(protobuf.MAGIC) == (headers["Content-Type"] == protobuf.CONTENT_TYPE)
        return body


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[KubeClient, Wire]]:
    """A client over such a transport."""
    wire = Wire()
    yield KubeClient(cast(Transport, wire)), wire


async def test_generated_objects_travel_as_protobuf_and_others_as_json() -> None:
    """Custom resources have no protobuf, and a patch is none."""
    async with connected() as (client, wire):
        body = config_map(data={"a": "ä"})
        assert await client.create(CONFIG_MAPS, "n", body) == body
        assert await client.replace(SECRETS, "n", "a", {**body, "kind": "Secret", "data": {"a": "AA=="}})
        await client.replace(CONFIG_MAPS, "n", "a", {**body, "x": 1})
        await client.create(VIRTUAL_MODELS, "n", {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "VirtualModel"})
        await client.patch(CONFIG_MAPS, "n", "a", body)
    json = "application/json"
    assert wire.types == [protobuf.CONTENT_TYPE, protobuf.CONTENT_TYPE, json, json, "application/merge-patch+json"]
