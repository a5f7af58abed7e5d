"""One suite for the Protocol `Mirrors`: what unit tests conclude from the fake is worth what this says of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.reconcile.ports import Mirrors
from aigateway_operator.rollout import mirror_health, mirror_writer
from hack.stores import RedisServer
from tests.eventually import eventually_async
from tests.fakes import FakeMirrors
from tests.mirror.pair import KEY, Gateway, held, mirroring

FILES = ("config.yml", "models-00.yml", "models-01.yml")


@dataclass
class Setting:
    """A mirror, what it holds (file → manifest), how it is made to fail and to work again, and whom it told of changes."""

    mirrors: Mirrors
    holds: Callable[[], Awaitable[dict[str, bytes]]]
    fail: Callable[[bool], Awaitable[None]]
    told: list[GatewayKey]

    async def comes_to_hold(self, target: MirrorTarget | None) -> None:
        """Wait until exactly the documents of a target are there, or none."""
        documents = {} if target is None else target.documents
        wanted = {file: document.manifest for file, document in documents.items() if document is not None}

        async def check() -> None:
            assert await self.holds() == wanted

        await eventually_async(check, within_seconds=10, every_seconds=0.005)

    async def tells(self, times: int) -> None:
        """Wait until a change was told this often, and not more often."""

        async def check() -> None:
            assert self.told == [KEY] * times

        await eventually_async(check, within_seconds=20)

    async def says(self, trouble: str | None) -> None:
        """Wait until the trouble holds this text; "" and None are meant exactly."""

        async def check() -> None:
            said = self.mirrors.trouble(KEY)
            assert said == trouble if not trouble else trouble in (said or ""), said

        await eventually_async(check, within_seconds=10, every_seconds=0.005)


@pytest.fixture(params=["fake", "real"])
async def setting(request: pytest.FixtureRequest, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    """A mirror of either kind, that notices and tells at once."""
    monkeypatch.setattr(mirror_health, "SHOW_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(mirror_health, "CLEAR_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(mirror_writer, "LOOK_SECONDS", 0.05)
    async with _fake() if request.param == "fake" else _real(redis) as opened:
        yield opened


@asynccontextmanager
async def _fake() -> AsyncIterator[Setting]:
    fake = FakeMirrors()
    told: list[GatewayKey] = []
    fake.on_change = told.append

    async def holds() -> dict[str, bytes]:
        return {file: document.manifest for file, document in fake.held.get(KEY, {}).items()}

    async def fail(on: bool) -> None:
        fake.fail("Redis is away." if on else "")

    yield Setting(fake, holds, fail, told)
    await fake.stop()


@asynccontextmanager
async def _real(redis: Redis) -> AsyncIterator[Setting]:
    async with mirroring() as operator:

        async def holds() -> dict[str, bytes]:
            found = {file: await held(redis, file) for file in FILES}
            return {file: fields["manifest"] for file, fields in found.items() if fields}

        async def fail(on: bool) -> None:
            await redis.config_set("requirepass", "another" if on else "")
            await redis.client_kill_filter(_type="normal", skipme=True)

        try:
            yield Setting(operator.mirrors, holds, fail, operator.told)
        finally:
            await redis.config_set("requirepass", "")  # the server is shared


@pytest.fixture
def gateway(redis_server: RedisServer) -> Gateway:
    """A gateway of three documents."""
    return Gateway(redis_server, *"abcd", shards=2)


async def test_nothing_is_known_of_what_was_never_asked_for(setting: Setting) -> None:
    """And to drop it is nothing."""
    assert setting.mirrors.trouble(KEY) is None
    setting.mirrors.drop(KEY)
    assert setting.mirrors.trouble(KEY) is None


async def test_the_newest_target_is_held_and_that_is_told(setting: Setting, gateway: Gateway) -> None:
    """Once: the same again, or an edit, is no change of what is said."""
    setting.mirrors.set_target(KEY, gateway.target())
    newest = gateway.flip("big", "a")
    setting.mirrors.set_target(KEY, newest)
    await setting.comes_to_hold(newest)
    await setting.says("")
    setting.mirrors.set_target(KEY, gateway.target())
    later = gateway.flip("big", "b")
    setting.mirrors.set_target(KEY, later)
    await setting.comes_to_hold(later)
    await setting.tells(1)


async def test_a_document_of_none_is_left_alone(setting: Setting, gateway: Gateway) -> None:
    """What could not be written to the cluster stays as it is in the mirror."""
    first = gateway.target()
    setting.mirrors.set_target(KEY, first)
    await setting.comes_to_hold(first)
    later = gateway.flip("big", "a")
    moved = [file for file, document in later.documents.items() if document != first.documents[file]]
    assert len(moved) == 1
    partly = replace(later, documents={**later.documents, moved[0]: None})
    setting.mirrors.set_target(KEY, partly)
    await setting.says("")
    await setting.comes_to_hold(first)


async def test_trouble_is_told_and_so_is_its_end(setting: Setting, gateway: Gateway) -> None:
    """An edit meanwhile is there afterwards, without another word from the reconciler."""
    setting.mirrors.set_target(KEY, gateway.target())
    await setting.says("")
    await setting.fail(True)
    later = gateway.flip("big", "a")
    setting.mirrors.set_target(KEY, later)
    await setting.says("Redis")
    await setting.fail(False)
    await setting.says("")
    await setting.comes_to_hold(later)
    await setting.tells(3)


async def test_a_dropped_gateway_leaves_nothing(setting: Setting, gateway: Gateway) -> None:
    """Neither documents nor words."""
    setting.mirrors.set_target(KEY, gateway.target())
    await setting.says("")
    setting.mirrors.drop(KEY)
    await setting.comes_to_hold(None)
    await setting.says(None)


async def test_a_standby_leaves_everything(setting: Setting, gateway: Gateway) -> None:
    """The documents are the next leader's to keep; what is said begins anew."""
    target = gateway.target()
    setting.mirrors.set_target(KEY, target)
    await setting.says("")
    setting.mirrors.stand_by()
    await setting.says(None)
    await setting.comes_to_hold(target)
    setting.mirrors.set_target(KEY, target)
    await setting.says("")
