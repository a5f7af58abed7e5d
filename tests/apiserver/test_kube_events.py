"""Events on the real API server: accepted as posted, never repeated, never a flood, never in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aigateway_operator.api.meta import ObjectKey
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.events import BURST, MAX_NOTE_BYTES, PER_SECOND, EventPoster
from aigateway_operator.kube.resources import VIRTUAL_MODELS
from hack.controlplane import ControlPlane
from tests.apiserver.world import World, virtual_model
from tests.eventually import eventually_async

pytestmark = pytest.mark.apiserver


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """An admin's client."""
    async with KubeClient.connect(plane.kubeconfig) as connected:
        yield connected


async def posted(plane: ControlPlane, namespace: str, count: int) -> list[dict[str, Any]]:
    """Wait until this many Events about VirtualModels are there; return them."""

    async def check() -> list[dict[str, Any]]:
        answer = plane.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
        found = [item for item in answer.body["items"] if item["regarding"]["kind"] == "VirtualModel"]
        assert len(found) == count
        return found

    return await eventually_async(check, within_seconds=20)


async def test_a_transition_is_seen_in_kubectl_describe(plane: ControlPlane, client: KubeClient, namespace: str) -> None:
    """With the object's uid, or kubectl would not find it; a note that is too long is cut, not refused."""
    made = World(plane, namespace).create(virtual_model())[0]
    poster = EventPoster(client, "pod-1")
    poster.announce(
        VIRTUAL_MODELS,
        ObjectKey(namespace, "chat"),
        made["metadata"]["uid"],
        warning=True,
        reason="SecretNotFound",
        note="ü" * MAX_NOTE_BYTES,
    )
    event = (await posted(plane, namespace, 1))[0]
    assert event["type"] == "Warning"
    assert len(event["note"].encode()) <= MAX_NOTE_BYTES
    described = plane.kubectl("describe", "virtualmodels.ai-gateway.io", "chat", "-n", namespace)
    assert "SecretNotFound" in described.stdout
    await poster.stop()


async def test_equal_events_are_posted_once_in_ten_minutes(plane: ControlPlane, client: KubeClient, namespace: str) -> None:
    """A flapping object must not fill etcd; after the quiet time the news is news again."""
    clock = Clock()
    poster = EventPoster(client, clock=clock)

    def announce(note: str) -> None:
        poster.announce(VIRTUAL_MODELS, ObjectKey(namespace, "chat"), "uid", warning=False, reason="Ready", note=note)

    for _ in range(5):
        announce("is ready")
    announce("is ready again")
    await posted(plane, namespace, 2)
    clock.now = 601
    announce("is ready")
    await posted(plane, namespace, 3)

    async def counted() -> None:  # the answer to the last post comes after the Event is there
        assert poster.counts == {"posted": 3, "equal": 4}

    await eventually_async(counted, within_seconds=20)
    await poster.stop()


async def test_a_burst_is_cut_and_counted(plane: ControlPlane, client: KubeClient, namespace: str) -> None:
    """A thousand transitions at once cost fifty requests; the bucket fills again."""
    clock = Clock()
    poster = EventPoster(client, clock=clock)
    for number in range(1_000):
        poster.announce(VIRTUAL_MODELS, ObjectKey(namespace, f"m-{number}"), "uid", warning=False, reason="Ready", note="n")
    await posted(plane, namespace, BURST)
    assert poster.counts["dropped"] == 1_000 - BURST
    clock.now = 2 / PER_SECOND
    for number in range(5):
        poster.announce(VIRTUAL_MODELS, ObjectKey(namespace, f"n-{number}"), "uid", warning=False, reason="Ready", note="n")
    await posted(plane, namespace, BURST + 2)
    await poster.stop()


async def test_a_failed_post_is_counted_and_harms_nobody(client: KubeClient) -> None:
    """The namespace does not exist: no exception, and the next one is tried."""
    poster = EventPoster(client)
    for number in range(2):
        poster.announce(VIRTUAL_MODELS, ObjectKey("no-such", f"m-{number}"), "uid", warning=False, reason="Ready", note="n")

    async def check() -> None:
        assert poster.counts["failed"] == 2

    await eventually_async(check, within_seconds=20)
    await poster.stop()
