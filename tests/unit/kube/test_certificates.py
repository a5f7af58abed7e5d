"""Writes of the webhook's Secret and caBundle from what is known of them: what another changed meanwhile is not overwritten."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from aigateway_operator.errors import Conflict, Rejected
from aigateway_operator.kube.certificates import CertificateNames, CertificateObjects
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import SECRETS, VALIDATING_WEBHOOKS, JsonObject, Resource
from tests.fake_cluster import FakeCluster
from tests.virtual_time import virtual

NAMES = CertificateNames("ops", "certificates", "hooks")
TLS = {"type": "kubernetes.io/tls"}
CONTENT = {"tls.crt": b"chain", "tls.key": b"key"}
EMPTY: JsonObject = {"tls.crt": "", "tls.key": ""}


class Cluster(FakeCluster):
    """A cluster whose watches tell nothing, so that what is known is of the first list; it counts patches."""

    def __init__(self) -> None:
        super().__init__()
        self.events: asyncio.Queue[tuple[str, JsonObject]] = asyncio.Queue()
        self.patches: list[list[JsonObject]] = []
        self.refusal: Rejected | None = None

    async def list_pages(
        self, resource: Resource, namespace: str | None, *, metadata_only: bool = False, **_: Any
    ) -> AsyncIterator[tuple[list[JsonObject], str]]:
        async for page in super().list_pages(resource, namespace, metadata_only=metadata_only):
            yield page

    async def watch(self, resource: Resource, *_: Any, **__: Any) -> AsyncIterator[tuple[str, JsonObject]]:
        while True:
            event = await self.events.get()
            assert resource == SECRETS, "events are for the watch that is there first"
            yield event

    async def patch(self, _resource: Resource, _namespace: str, _name: str, body: list[JsonObject], **_: Any) -> JsonObject:
        """Keep the patch; of its kinds, `add` of a caBundle is understood."""
        self.patches.append(body)
        if self.refusal is not None:
            raise self.refusal
        found = self.read(VALIDATING_WEBHOOKS, "", NAMES.configuration)
        for step in body:
            if step["op"] == "add":
                found["webhooks"][int(step["path"].split("/")[2])]["clientConfig"]["caBundle"] = step["value"]
        return self.change(VALIDATING_WEBHOOKS, "", NAMES.configuration, webhooks=found["webhooks"])

    def put(self, **parts: Any) -> JsonObject:
        """Make the Secret as somebody else."""
        metadata = {"name": NAMES.secret, "namespace": NAMES.secret_namespace, "labels": {"team": "a"}}
        return self.make(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": EMPTY, **parts})

    @property
    def secret(self) -> JsonObject:
        return self.read(SECRETS, NAMES.secret_namespace, NAMES.secret)


@dataclass
class Stand:
    """What follows a cluster. changes: how often it was told that something is not as it was known."""

    cluster: Cluster
    objects: CertificateObjects
    changes: list[None] = field(default_factory=list)


@asynccontextmanager
async def following(cluster: Cluster) -> AsyncIterator[Stand]:
    """Know both objects as they are now."""
    changes: list[None] = []
    objects = CertificateObjects(cast(KubeClient, cluster), NAMES, on_change=lambda: changes.append(None))
    objects.start()
    await asyncio.sleep(1)
    assert objects.listed
    try:
        yield Stand(cluster, objects, changes)
    finally:
        await objects.stop()


def configuration(*bundles: bytes) -> JsonObject:
    """Return a configuration whose webhooks `hook-0` … have these bundles."""
    hooks = [
        {"name": f"hook-{number}", "clientConfig": {"caBundle": base64.b64encode(bundle).decode()} if bundle else {}}
        for number, bundle in enumerate(bundles)
    ]
    return {"metadata": {"name": NAMES.configuration, "namespace": ""}, "webhooks": hooks}


@virtual
@pytest.mark.parametrize("fields", [TLS, {"type": "Opaque"}, {**TLS, "immutable": True}])
async def test_a_secret_that_was_changed_since_it_was_seen_is_not_overwritten(fields: dict[str, Any]) -> None:
    """Replaced or made anew: another leader's pair would be lost, which replicas serve already."""
    cluster = Cluster()
    cluster.put(**fields)
    async with following(cluster) as stand:
        theirs = cluster.change(SECRETS, NAMES.secret_namespace, NAMES.secret, metadata={"labels": {"team": "b"}})
        with pytest.raises(Conflict):
            await stand.objects.write_secret(CONTENT)
    assert cluster.secret == theirs


@virtual
async def test_a_secret_that_another_made_meanwhile_is_left_and_told() -> None:
    """Whoever takes the refusal for success holds a pair that nobody serves."""
    cluster = Cluster()
    async with following(cluster) as stand:
        theirs = cluster.put()
        with pytest.raises(Conflict):
            await stand.objects.write_secret(CONTENT)
        assert stand.objects.secret is None
    assert cluster.secret == theirs


@virtual
@pytest.mark.parametrize("there", [None, TLS, {"type": "Opaque"}])
async def test_what_is_written_is_a_tls_secret_and_known_at_once(there: dict[str, Any] | None) -> None:
    """Its labels stay where it only changes; our own write is no news when the watch brings it."""
    cluster = Cluster()
    if there is not None:
        cluster.put(**there)
    async with following(cluster) as stand:
        told = len(stand.changes)
        before = cluster.secret if there is not None else {}
        await stand.objects.write_secret(CONTENT)
        assert stand.objects.secret == CONTENT
        written = cluster.secret
        for old in (before, written):
            if old:
                cluster.events.put_nowait(("MODIFIED", old))
        await asyncio.sleep(1)
        assert stand.objects.secret == CONTENT
        assert len(stand.changes) == told
    assert written["type"] == "kubernetes.io/tls"
    assert (written["metadata"]["labels"] == {"team": "a"}) == (there == TLS)


@virtual
async def test_only_bundles_that_differ_are_patched_and_none_when_all_are_equal() -> None:
    """Each patch is a write of an object that the API server reads at every admission."""
    cluster = Cluster()
    cluster.make(VALIDATING_WEBHOOKS, configuration(b"CA", b"", b"other"))
    async with following(cluster) as stand:
        await stand.objects.write_bundle(b"CA")
        paths = [step["path"] for step in cluster.patches[0]]
        assert paths == [f"/webhooks/{at}/{part}" for at in (1, 2) for part in ("name", "clientConfig/caBundle")]
        assert stand.objects.bundles == dict.fromkeys(("hook-0", "hook-1", "hook-2"), b"CA")
        await stand.objects.write_bundle(b"CA")
    assert len(cluster.patches) == 1


@virtual
@pytest.mark.parametrize(("status", "expected"), [(422, Conflict), (400, Rejected)])
async def test_a_list_of_webhooks_that_is_another_is_a_conflict_and_any_other_refusal_what_it_is(
    status: int, expected: type[Exception]
) -> None:
    """A conflict is tried again from what is there then; a refusal is told."""
    cluster = Cluster()
    cluster.make(VALIDATING_WEBHOOKS, configuration(b""))
    cluster.refusal = Rejected("the test failed", status=status)
    async with following(cluster) as stand:
        with pytest.raises(expected):
            await stand.objects.write_bundle(b"CA")
        assert stand.objects.bundles == {"hook-0": b""}
