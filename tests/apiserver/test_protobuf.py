"""The API server takes our protobuf for what our JSON says, and its answers in both read alike."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aigateway_operator.errors import Conflict, Rejected
from aigateway_operator.kube import protobuf
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, JsonObject, Resource
from hack.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

LABELS = {"app.kubernetes.io/managed-by": "aigateway-operator", "empty": ""}
ANNOTATIONS = {"note": "ünïcode 🚀 \u0085 \u2028 \x7f"}
TEXTS = {
    "config.yml": '{"a":"ä \\u0085 🚀 \x00 \t"}\n' * 20_000,
    "empty": "",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\u2028\ufeff\U0010ffff",
}
VALUES = {"every": base64.b64encode(bytes(range(256)) * 100).decode(), "empty": ""}
KINDS: list[tuple[Resource, dict[str, Any]]] = [
    (CONFIG_MAPS, {"data": TEXTS, "binaryData": {"bytes": VALUES["every"]}}),
    (SECRETS, {"data": VALUES}),
]


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """An admin's client, called as the one that sends JSON here, so that managedFields can be compared."""
    async with KubeClient.connect(plane.kubeconfig, user_agent="aigateway-hack") as connected:
        yield connected


def manifest(resource: Resource, name: str, **parts: Any) -> JsonObject:
    """Return an object with labels and annotations."""
    metadata = {"name": name, "labels": LABELS, "annotations": ANNOTATIONS}
    return {"apiVersion": "v1", "kind": resource.kind, "metadata": metadata, **parts}


def stored(plane: ControlPlane, resource: Resource, namespace: str, name: str) -> JsonObject:
    """Return an object as JSON, managedFields and all, without what differs from object to object."""
    obj: JsonObject = plane.request("GET", resource.object_path(namespace, name)).body
    for field in ("name", "uid", "resourceVersion", "creationTimestamp"):
        del obj["metadata"][field]
    for entry in obj["metadata"]["managedFields"]:
        del entry["time"]
    return obj


@pytest.mark.parametrize(("resource", "parts"), KINDS, ids=["ConfigMap", "Secret"])
async def test_both_encodings_store_the_same_object(
    plane: ControlPlane, client: KubeClient, namespace: str, resource: Resource, parts: dict[str, Any]
) -> None:
    """Made and replaced: any text, empty values, half a megabyte, every byte; the answer is what is stored then."""
    made = await client.create(CONFIG_MAPS, namespace, manifest(CONFIG_MAPS, "owner"))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": made["metadata"]["uid"], "controller": True}
    path = resource.collection_path(namespace)
    for text in ("one", "two"):
        labelled = {**parts, "data": {**parts["data"], "text": base64.b64encode(text.encode()).decode()}}
        bodies = {name: manifest(resource, name, **labelled) for name in ("protobuf", "json")}
        for body in bodies.values():
            body["metadata"]["ownerReferences"] = [owner]
        if text == "one":
            assert protobuf.encode(bodies["protobuf"]) is not None
            answer = await client.create(resource, namespace, bodies["protobuf"])
            plane.request("POST", path, bodies["json"])
        else:
            bodies["protobuf"]["metadata"] |= {name: answer["metadata"][name] for name in ("uid", "resourceVersion")}
            answer = await client.replace(resource, namespace, "protobuf", bodies["protobuf"])
            plane.request("PUT", f"{path}/json", bodies["json"])
        found = stored(plane, resource, namespace, "protobuf")
        assert found["data"] == labelled["data"]
        assert found == stored(plane, resource, namespace, "json")
        assert answer == await client.get(resource, namespace, "protobuf")


async def test_an_answer_says_what_is_stored_and_not_what_was_sent(client: KubeClient, namespace: str) -> None:
    """Admission and defaults may change an object on its way in; digests are taken of what the API server has."""
    made = await client.create(SECRETS, namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    assert made["type"] == "Opaque"


@pytest.mark.parametrize("resource", [CONFIG_MAPS, SECRETS], ids=lambda resource: resource.kind)
async def test_an_object_is_as_immutable_as_it_was_asked_to_be(client: KubeClient, namespace: str, resource: Resource) -> None:
    """A number of the wrong field would make it so, or leave it so, unseen."""
    for name, immutable in (("fixed", True), ("loose", False)):
        made = await client.create(resource, namespace, manifest(resource, name, immutable=immutable))
        assert made["immutable"] is immutable
        assert made == await client.get(resource, namespace, name)


async def test_refusals_can_be_read(client: KubeClient, namespace: str) -> None:
    """In words, with place and code, although the server was asked for protobuf."""
    made = await client.create(CONFIG_MAPS, namespace, manifest(CONFIG_MAPS, "a", data={"a": "1"}))
    fence = {name: made["metadata"][name] for name in ("name", "uid", "resourceVersion")}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": fence, "data": {"a": "2"}}
    assert protobuf.encode(body) is not None
    await client.replace(CONFIG_MAPS, namespace, "a", body)
    with pytest.raises(Conflict, match="has been modified"):
        await client.replace(CONFIG_MAPS, namespace, "a", body)
    with pytest.raises(Rejected, match="a valid config key must consist of"):
        await client.create(CONFIG_MAPS, namespace, manifest(CONFIG_MAPS, "b", data={"no key": "1"}))
