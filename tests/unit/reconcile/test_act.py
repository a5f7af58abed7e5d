"""Writes of a plan: whole, in order, fenced, and without a trace of what Secrets hold."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from aigateway_operator.api import meta
from aigateway_operator.errors import Conflict, NotFound, Unavailable
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile.act import Actor
from aigateway_operator.reconcile.gateway_state import GatewayState
from aigateway_operator.reconcile.ports import JsonObject
from aigateway_operator.reconcile.store import parse_stored
from tests.fake_cluster import FakeCluster
from tests.unit.reconcile.objects import gateway
from tests.virtual_time import virtual

CONFIG, CREDENTIALS = "main-config", "main-credentials"
VALUE = b"sk-very-secret-value"


class Hand:
    """An actor over a fake cluster with one gateway."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.gateway: Stored = parse_stored(self.cluster.make(GATEWAY_CONFIGS, gateway()))
        self.state = GatewayState(recalled=True)
        self.actor = Actor(self.cluster)

    async def write(self, kind: str, name: str, keep: frozenset[str] = frozenset(), **values: bytes) -> int:
        """Carry out one write against what the state knows to be live."""
        resource = CONFIG_MAPS if kind == "ConfigMap" else SECRETS
        live = self.state.live[resource].get(name)
        return await self.actor.carry_out(Plan(writes=(Write(kind, name, live, values, keep),)), self.gateway, self.state)

    def data(self, name: str = CREDENTIALS) -> dict[str, bytes]:
        resource = SECRETS if name == CREDENTIALS else CONFIG_MAPS
        data: JsonObject = self.cluster.read(resource, "ai", name)["data"]
        return {key: base64.b64decode(text) if resource == SECRETS else text.encode() for key, text in data.items()}


@virtual
async def test_objects_are_made_with_owner_and_labels_and_nothing_else() -> None:
    """No finalizer, no annotation, no copied label; the garbage collector may take them with the GatewayConfig."""
    at = Hand()
    assert await at.write("ConfigMap", CONFIG, a=b"1") == 1
    made = at.cluster.read(CONFIG_MAPS, "ai", CONFIG)
    metadata = made["metadata"]
    owner = {"apiVersion": meta.API_VERSION, "kind": "GatewayConfig", "name": "main", "uid": at.gateway.uid, "controller": True}
    assert metadata["ownerReferences"] == [owner]
    assert metadata["labels"] == {"app.kubernetes.io/managed-by": "aigateway-operator", "ai-gateway.io/gateway": "main"}
    assert metadata.keys() == {"name", "namespace", "labels", "ownerReferences", "uid", "creationTimestamp", "resourceVersion"}
    assert made["data"] == {"a": "1"}
    assert at.state.live[CONFIG_MAPS][CONFIG].resource_version == metadata["resourceVersion"]


@virtual
async def test_a_replacement_leaves_nothing_that_others_put_in() -> None:
    """Keys, labels and annotations of others are gone with the next write."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    changed = at.cluster.change(CONFIG_MAPS, "ai", CONFIG, data={"a": "1", "mine": "x"}, metadata={"annotations": {"x": "y"}})
    at.state.learn(CONFIG_MAPS, changed, at.gateway)
    await at.write("ConfigMap", CONFIG, a=b"2")
    made = at.cluster.read(CONFIG_MAPS, "ai", CONFIG)
    assert made["data"] == {"a": "2"}
    assert "annotations" not in made["metadata"]


@virtual
async def test_a_stale_write_is_refused_and_the_object_looked_at_again() -> None:
    """The 409 is the fence: what somebody else wrote is not overwritten unseen, and the next try knows it."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    changed = at.cluster.change(CONFIG_MAPS, "ai", CONFIG, data={"a": "theirs"})
    with pytest.raises(Conflict):
        await at.write("ConfigMap", CONFIG, a=b"2")
    assert at.data(CONFIG) == {"a": b"theirs"}
    assert at.state.live[CONFIG_MAPS][CONFIG].resource_version == changed["metadata"]["resourceVersion"]
    await at.write("ConfigMap", CONFIG, a=b"2")
    assert at.data(CONFIG) == {"a": b"2"}


@virtual
async def test_an_object_that_is_not_ours_is_found_out_by_the_conflict_of_its_creation() -> None:
    """It carries no label of ours, so no watch told of it."""
    at = Hand()
    at.cluster.make(CONFIG_MAPS, {"kind": "ConfigMap", "metadata": {"name": CONFIG, "namespace": "ai"}, "data": {"x": "y"}})
    with pytest.raises(Conflict):
        await at.write("ConfigMap", CONFIG, a=b"1")
    assert at.state.live[CONFIG_MAPS][CONFIG].ours is False
    assert at.state.foreign[CONFIG_MAPS] == {CONFIG}
    assert at.data(CONFIG) == {"x": b"y"}


@virtual
async def test_an_object_that_vanished_is_forgotten() -> None:
    """The next round creates it."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    at.cluster.remove(CONFIG_MAPS, "ai", CONFIG)
    with pytest.raises(NotFound):
        await at.write("ConfigMap", CONFIG, a=b"2")
    assert CONFIG not in at.state.live[CONFIG_MAPS]
    await at.write("ConfigMap", CONFIG, a=b"2")
    assert at.data(CONFIG) == {"a": b"2"}


@virtual
async def test_an_object_of_another_uid_is_not_replaced() -> None:
    """Made again by somebody else with luck in its resourceVersion: the uid in the body is a precondition too."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    live = at.state.live[CONFIG_MAPS][CONFIG]
    at.state.live[CONFIG_MAPS] = {CONFIG: replace(live, uid="another")}
    with pytest.raises(Conflict):
        await at.write("ConfigMap", CONFIG, a=b"2")


@virtual
async def test_values_are_carried_over_unread_by_the_plan() -> None:
    """Kept files come from the live Secret; one that is not there any more is simply absent."""
    at = Hand()
    await at.write("Secret", CREDENTIALS, old=VALUE, other=b"x")
    await at.write("Secret", CREDENTIALS, frozenset({"old", "gone"}), new=b"n")
    assert at.data() == {"old": VALUE, "new": b"n"}
    assert at.cluster.read(SECRETS, "ai", CREDENTIALS)["type"] == "Opaque"


@virtual
async def test_values_are_not_carried_over_from_a_secret_that_changed() -> None:
    """What is there now is not what the plan decided on."""
    at = Hand()
    await at.write("Secret", CREDENTIALS, old=VALUE)
    at.cluster.change(SECRETS, "ai", CREDENTIALS, data={"old": base64.b64encode(b"forged").decode()})
    with pytest.raises(Conflict, match="changed since it was read"):
        await at.write("Secret", CREDENTIALS, frozenset({"old"}), new=b"n")
    assert at.data() == {"old": b"forged"}
    assert at.cluster.count("replace") == 0


@virtual
async def test_an_immutable_object_of_ours_is_made_again_with_what_it_kept() -> None:
    """It cannot be replaced. Its kept values are read before it is deleted, not after."""
    at = Hand()
    await at.write("Secret", CREDENTIALS, old=VALUE)
    changed = at.cluster.change(SECRETS, "ai", CREDENTIALS, immutable=True)
    at.state.learn(SECRETS, changed, at.gateway)
    await at.write("Secret", CREDENTIALS, frozenset({"old"}), new=b"n")
    assert at.data() == {"old": VALUE, "new": b"n"}
    assert "immutable" not in at.cluster.read(SECRETS, "ai", CREDENTIALS)


@virtual
async def test_an_immutable_object_that_became_another_one_is_not_deleted() -> None:
    """uid and resourceVersion are preconditions of the deletion."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    at.state.learn(CONFIG_MAPS, at.cluster.change(CONFIG_MAPS, "ai", CONFIG, immutable=True), at.gateway)
    at.cluster.remove(CONFIG_MAPS, "ai", CONFIG)
    theirs = {"kind": "ConfigMap", "metadata": {"name": CONFIG, "namespace": "ai"}, "data": {"x": "y"}}
    at.cluster.make(CONFIG_MAPS, theirs)
    with pytest.raises(Conflict):
        await at.write("ConfigMap", CONFIG, a=b"2")
    assert at.data(CONFIG) == {"x": b"y"}


@virtual
async def test_nothing_is_written_after_a_write_that_failed() -> None:
    """Documents never name credentials that are not there yet; what may have landed is read back."""
    at = Hand()
    await at.write("ConfigMap", CONFIG, a=b"1")
    live = at.state.live[CONFIG_MAPS][CONFIG]
    at.cluster.fail("create", Unavailable("503"), resource=SECRETS)
    plan = Plan(writes=(Write("Secret", CREDENTIALS, None, {"a": VALUE}), Write("ConfigMap", CONFIG, live, {"a": b"2"})))
    with pytest.raises(Unavailable):
        await at.actor.carry_out(plan, at.gateway, at.state)
    assert at.data(CONFIG) == {"a": b"1"}
    assert CONFIG in at.state.live[CONFIG_MAPS], "no document was attempted: what is served is certain"
    at.cluster.fail("replace", Unavailable("503"), resource=CONFIG_MAPS)
    with pytest.raises(Unavailable):
        await at.actor.carry_out(plan, at.gateway, at.state)
    assert not at.state.recalled
    assert CONFIG not in at.state.live[CONFIG_MAPS]


@virtual
async def test_values_of_secrets_stand_in_no_repr() -> None:
    """Tracebacks and debuggers print arguments."""
    at = Hand()
    write = Write("Secret", CREDENTIALS, None, {"a": VALUE})
    await at.actor.carry_out(Plan(writes=(write,)), at.gateway, at.state)
    for text in (repr(write), repr(Plan(writes=(write,))), repr(at.state), repr(at.cluster.calls)):
        assert VALUE.decode() not in text
        assert base64.b64encode(VALUE).decode() not in text
