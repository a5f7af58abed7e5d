"""Events beside a cluster that takes them, refuses them, or hangs: who waits for quiet knows when none is left to post."""

from __future__ import annotations

import asyncio
from typing import cast

from aigateway_operator.api.meta import ObjectKey
from aigateway_operator.errors import Forbidden
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.events import EventPoster
from aigateway_operator.kube.resources import EVENTS, VIRTUAL_MODELS
from tests.fake_cluster import FakeCluster
from tests.virtual_time import now, virtual


@virtual
async def test_an_event_waits_until_it_is_posted_or_refused_and_no_longer() -> None:
    """Equal ones never wait; one that hangs does, with those behind it."""
    cluster = FakeCluster()
    poster = EventPoster(cast(KubeClient, cluster), "pod-1", clock=now)

    def announce(name: str) -> None:
        poster.announce(VIRTUAL_MODELS, ObjectKey("ai", name), "uid", warning=True, reason="Invalid", note="a sentence")

    cluster.fail("create", Forbidden("no right", status=403))
    gate = cluster.hang("create")
    for name in ("a", "b", "b", "c"):
        announce(name)
    assert poster.waiting == 3
    await asyncio.sleep(1)
    assert (poster.waiting, dict(poster.counts)) == (2, {"equal": 1, "failed": 1})
    gate.set()
    await asyncio.sleep(1)
    assert (poster.waiting, dict(poster.counts)) == (0, {"equal": 1, "failed": 1, "posted": 2})
    assert [event["regarding"]["name"] for event in cluster.objects(EVENTS)] == ["b", "c"]
    await poster.stop()
