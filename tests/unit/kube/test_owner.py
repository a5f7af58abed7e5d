"""The owner of what the operator makes for itself: found by name, waited for when refused, and nothing is made without it."""

from __future__ import annotations

from typing import Any

import pytest
from loguru import logger

from aigateway_operator.errors import ClusterError, Forbidden, NotFound
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.owner import PATIENCE_SECONDS, Owner
from aigateway_operator.kube.resources import JsonObject, Resource


class Answering(KubeClient):
    """A client that answers each get as it is told."""

    def __init__(self, *answers: ClusterError | JsonObject) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str]] = []

    async def get(self, resource: Resource, namespace: str, name: str, **_: Any) -> JsonObject:
        self.asked.append((str(resource), namespace, name))
        answer = self.answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer


async def test_the_uid_is_looked_up_each_time() -> None:
    """A Deployment that was deleted and made again has another one."""
    client = Answering({"metadata": {"uid": "u-1"}}, {"metadata": {"uid": "u-2"}})
    owner = Owner(client, "system", "StatefulSet/op")
    assert await owner.references() == [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "op", "uid": "u-1"}]
    assert [one["uid"] for one in await owner.references()] == ["u-2"]
    assert client.asked[0] == ("statefulsets.apps", "system", "op")


async def test_nothing_is_made_once_the_owner_is_gone() -> None:
    """What is made then would stay for ever."""
    owner = Owner(Answering(NotFound("gone", status=404)), "system", "Deployment/op")
    with pytest.raises(NotFound):
        await owner.references()


async def test_a_refusal_counts_only_when_it_lasts_and_is_told_once() -> None:
    """At an uninstall the role goes a moment before the process; who never had it works all the same."""
    now = [100.0]
    refused = Forbidden("no", status=403)
    client = Answering(refused, refused, {"metadata": {"uid": "u"}}, refused, refused, refused)
    owner = Owner(client, "system", "Deployment/op", clock=lambda: now[0])
    with pytest.raises(Forbidden):
        await owner.references()
    now[0] += PATIENCE_SECONDS - 0.1
    with pytest.raises(Forbidden):
        await owner.references()
    assert len(await owner.references()) == 1  # the role came: what was refused before counts no more
    now[0] += 10
    with pytest.raises(Forbidden):
        await owner.references()
    now[0] += PATIENCE_SECONDS
    told: list[str] = []
    sink = logger.add(lambda line: told.append(str(line)), level="WARNING")
    try:
        assert [await owner.references(), await owner.references()] == [[], []]
    finally:
        logger.remove(sink)
    assert ["Grant get on it" in line for line in told] == [True]
