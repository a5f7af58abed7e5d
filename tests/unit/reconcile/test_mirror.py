"""The Redis mirror in the loop: when documents reach it, whose key signs them, and what it does to statuses."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.errors import Unavailable
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS
from tests.unit.reconcile.objects import gateway, model
from tests.unit.reconcile.world import World, world
from tests.virtual_time import virtual

KEY = GatewayKey("ai", "main")
ON: dict[str, Any] = {"storage": {"redis": {"host": "redis.ai.svc"}}, "delivery": {"redisNotify": True}}


def mirrored(cluster: Any = None) -> World:
    """Return a world with one model and a gateway that is mirrored."""
    at = World(cluster)
    if cluster is None:
        at.furnish()
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec=gateway(**ON)["spec"])
    return at


def held(at: World) -> dict[str, str]:
    """Return the documents in the mirror."""
    return {file: document.content.decode() for file, document in at.mirrors.held.get(KEY, {}).items()}


def live_key(at: World) -> bytes | None:
    """Return the signing key in the credentials Secret."""
    data = at.cluster.read(SECRETS, "ai", "main-credentials")["data"]
    return base64.b64decode(data["_mirror.key"]) if "_mirror.key" in data else None


@virtual
async def test_what_is_written_to_the_cluster_is_mirrored_after_it() -> None:
    """The very document, and never before it is live: a write that fails leaves the mirror as it is."""
    async with world(mirrored()) as at:
        await at.settle()
        assert held(at) == {"config.yml": at.cluster.read(CONFIG_MAPS, "ai", "main-config")["data"]["config.yml"]}
        assert at.mirrors.targets[KEY].key == live_key(at)
        before = held(at)
        at.cluster.fail("replace", Unavailable("down"), times=2)
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(0.01)
        assert held(at) == before
        await at.settle()
        assert '"current":"big"' in held(at)["config.yml"]


@virtual
async def test_the_key_is_made_once_and_outlives_operators() -> None:
    """A restart finds it in the Secret; readers that hold it need no other."""
    async with world(mirrored()) as at:
        await at.settle()
        key = live_key(at)
        assert key is not None
        assert len(key) == 64
    seen = len(at.cluster.writes())
    async with world(mirrored(at.cluster)) as again:
        await again.settle()
        assert again.mirrors.targets[KEY].key == key
        assert again.cluster.writes()[seen:] == []
        again.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await again.settle()
        assert live_key(again) == key


@virtual
async def test_a_key_that_is_spoilt_is_replaced_and_used() -> None:
    """Whoever wants a new one deletes the old: Secret and signatures stay of one key."""
    async with world(mirrored()) as at:
        await at.settle()
        for spoilt in ({}, {"_mirror.key": base64.b64encode(b"short").decode()}):
            data = at.cluster.read(SECRETS, "ai", "main-credentials")["data"]
            rest = {name: value for name, value in data.items() if name != "_mirror.key"}
            at.cluster.change(SECRETS, "ai", "main-credentials", data=rest | spoilt)
            await at.settle()
            assert len(live_key(at) or b"") == 64
            assert at.mirrors.targets[KEY].key == live_key(at)


@virtual
async def test_a_gateway_made_again_gets_another_key() -> None:
    """Who could read the old one's Secret cannot sign for the new one."""
    async with world(mirrored()) as at:
        await at.settle()
        key = live_key(at)
        at.cluster.remove(GATEWAY_CONFIGS, "ai", "main")
        await at.settle()
        assert held(at) == {}
        for resource, name in ((SECRETS, "main-credentials"), (CONFIG_MAPS, "main-config")):
            if name in at.cluster.names(resource, "ai"):
                at.cluster.remove(resource, "ai", name)
        at.cluster.make(GATEWAY_CONFIGS, gateway(**ON))
        await at.settle()
        assert live_key(at) not in (None, key)


@virtual
async def test_switched_off_nothing_stays_in_redis() -> None:
    """And switched on again it is back."""
    async with world(mirrored()) as at:
        await at.settle()
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec=gateway(storage=ON["storage"])["spec"])
        await at.settle()
        assert (held(at), at.mirrors.targets) == ({}, {})
        at.cluster.change(GATEWAY_CONFIGS, "ai", "main", spec=gateway(**ON)["spec"])
        await at.settle()
        assert held(at)


@virtual
async def test_a_standby_mirrors_nothing() -> None:
    """What is there is the new leader's to keep."""
    async with world(mirrored()) as at:
        await at.settle()
        before = held(at)
        at.stand_by()
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await asyncio.sleep(10)
        assert (at.mirrors.targets, held(at)) == ({}, before)
        at.lead()
        await at.settle()
        assert held(at) != before


@virtual
async def test_redis_away_costs_one_status_and_no_round() -> None:
    """Delivery goes on as without it; status says so once, and once that it is over."""
    async with world(mirrored()) as at:
        await at.settle()
        writes = at.cluster.count("patch_status", GATEWAY_CONFIGS)
        at.mirrors.fail("Redis at redis.ai.svc:6379 cannot be reached.")
        await at.settle()
        assert propagated(at)["message"].endswith(" Redis mirror: Redis at redis.ai.svc:6379 cannot be reached.")
        assert at.condition("Ready", "main", GATEWAY_CONFIGS)[0] == "True"
        assert at.cluster.count("patch_status", GATEWAY_CONFIGS) == writes + 1
        at.cluster.change(VIRTUAL_MODELS, "ai", "chat", spec=model(current="big")["spec"])
        await at.settle()
        assert at.served()["chat"]["current"] == "big"
        assert at.controller.rounds["error"] == at.controller.rounds["fault"] == 0
        before = at.cluster.count("patch_status", GATEWAY_CONFIGS)
        at.mirrors.fail("")
        await at.settle()
        assert "Redis" not in propagated(at)["message"]
        assert at.cluster.count("patch_status", GATEWAY_CONFIGS) == before + 1


@virtual
async def test_a_restart_while_redis_is_away_writes_no_status() -> None:
    """What is not known yet stays as the status has it."""
    async with world(mirrored()) as at:
        await at.settle()
        at.mirrors.fail("Redis at redis.ai.svc:6379 cannot be reached.")
        await at.settle()
    seen = len(at.cluster.writes())
    fresh = mirrored(at.cluster)
    fresh.mirrors.failing = "Redis at redis.ai.svc:6379 cannot be reached."
    async with world(fresh) as again:
        await again.settle()
        assert again.cluster.writes()[seen:] == []


def propagated(at: World) -> dict[str, Any]:
    """Return the condition Propagated of the gateway."""
    conditions = at.cluster.read(GATEWAY_CONFIGS, "ai", "main")["status"]["conditions"]
    found: dict[str, Any] = next(one for one in conditions if one["type"] == "Propagated")
    return found
