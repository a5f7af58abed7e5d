"""Whatever sequence of edits comes: memory changes no result, rounds come to rest, what is served stays served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aigateway_config import documents
from aigateway_operator.plan import names
from aigateway_operator.plan.health import BackendTarget, Health, HealthReason, HealthState
from aigateway_operator.plan.planner import plan
from aigateway_operator.plan.proof import Proof
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import Stored
from tests.builders import World, apply_plan, make_backend, make_gateway_config, make_secret_state, make_virtual_model

OBJECTS = st.sampled_from([f"v{number}" for number in range(6)])
PUBLIC = st.sampled_from(["v0", "v1", "v2", "x", "y", "模型"])
KIB = st.sampled_from([0, 0, 0, 90, 200, 230])
STATES = [
    make_secret_state(k="value"),
    make_secret_state(k="rotated"),
    make_secret_state(other="x"),
    SecretState(True, False),
    SecretState(True, False, gone_since=990.0),
    SecretState(False, False),
    SecretState(True, True, refused_type="helm.sh/release.v1"),
    SecretState(True, True, values={"k": b"x" * 700 * 1024}),
]


class Edits(RuleBasedStateMachine):
    """Edits of every kind, a round after each; `World.round` plans with a used and with a fresh memo and compares."""

    shards = 1

    @initialize()
    def begin(self) -> None:
        self.world = World(secrets={"s0": STATES[0], "s1": STATES[0], "chat-keys": make_secret_state(proxy="caller")})
        self.rolled_back = False
        self.seen: dict[tuple[str, str], dict[str, Any]] = {}
        self.world.apply(make_gateway_config(delivery={"shards": self.shards}))
        self.world.settle()

    def _round(self) -> None:
        """Do a round; assert that every model served before still is, or lost its name for one of the allowed reasons."""
        world = self.world
        before = dict(world.served)
        world.round()
        everyone = {**world.departed, **world.models}
        holders = {served.entry.model_name: everyone[owner] for owner, served in world.served.items()}
        for owner, was in before.items():
            stored = everyone.get(owner)
            if owner in world.served or stored is None or stored.source != was.source:
                continue
            public = was.entry.model_name
            heirs = [holders[public]] if public in holders else self._waiting_for(public)
            assert heirs, f"{owner} disappeared, and nobody has or may have its name {public}"
            oldest = min((heir.created, heir.name) for heir in heirs)
            assert oldest < (stored.created, owner), f"{owner} lost its name {public} to {oldest[1]}, which is not older"

    def _waiting_for(self, public: str) -> list[Stored]:
        """Return the accepted models that have this name but for which there is no room."""
        world = self.world
        return [
            stored
            for name, stored in world.models.items()
            if world.verdict(name, "Programmed") == ("False", "TooLarge") and stored.parse_spec()["modelName"] == public
        ]

    @rule(name=OBJECTS, public=PUBLIC, kib=KIB, secret=st.sampled_from(["s0", "s1", "s.2"]), model=st.sampled_from("ab"))
    def edit(self, name: str, public: str, kib: int, secret: str, model: str) -> None:
        backend = make_backend(model=model, parameters={"stop": ["x" * 1024] * kib})
        ref = {"name": secret, "key": "k"}
        self.world.apply(make_virtual_model(name, modelName=public, backends=[backend], proxyKeySecretRef=ref))
        self._round()

    @rule(name=OBJECTS, public=PUBLIC)
    def edit_invalidly(self, name: str, public: str) -> None:
        self.world.apply(make_virtual_model(name, modelName=public, current="nowhere"))
        self._round()

    @rule(name=OBJECTS, again=st.booleans())
    def delete(self, name: str, again: bool) -> None:
        if name in self.world.models:
            self.world.delete(name)
            if again:
                self.world.apply(make_virtual_model(name, current="nowhere"))
            self._round()

    @rule(name=OBJECTS)
    def move_away(self, name: str) -> None:
        if name in self.world.models and name in self.world.served:
            self.world.departed[name] = self.world.models.pop(name)
            self._round()

    @rule(name=OBJECTS)
    def come_back(self, name: str) -> None:
        if name in self.world.departed:
            self.world.models[name] = self.world.departed.pop(name)
            self._round()

    @rule(name=OBJECTS)
    def arrive(self, name: str) -> None:
        """The gateway that it names now serves it, so that this one may let it go."""
        if self.world.departed.pop(name, None) is not None:
            self.world.round()

    @rule(secret=st.sampled_from(["s0", "s1", "s.2"]), state=st.sampled_from(STATES))
    def change_secret(self, secret: str, state: SecretState) -> None:
        self.world.secrets[secret] = state
        self._round()

    @rule(port=st.sampled_from([0, 1, 2]))
    def edit_gateway(self, port: int) -> None:
        self.world.apply(make_gateway_config(app={"port": port}, delivery={"shards": self.shards}))
        self._round()

    @rule(seconds=st.sampled_from([1, 6, 130]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds
        self._round()

    @rule()
    def restart(self) -> None:
        before = self.world.objects.writes
        self.world.restart()
        self.world.round()
        assert self.world.objects.writes == before, "a restart writes"

    @rule(name=OBJECTS, backends=st.sampled_from([1, 2]))
    def edit_probed(self, name: str, backends: int) -> None:
        """A model whose backends are probed."""
        named = [make_backend(model="a"), make_backend("big", baseUrl="https://eu.example.com/v1")][:backends]
        self.world.apply(make_virtual_model(name, backends=named, probe={"enabled": True}))
        self._round()

    @rule(data=st.data(), state=st.sampled_from(list(HealthState)))
    def judge(self, data: Any, state: HealthState) -> None:
        """Something is found out of a backend."""
        target = BackendTarget(data.draw(st.sampled_from(["api.example.com", "eu.example.com"])), 443, True)
        health = Health(state, HealthReason.TIMEOUT, "A sentence.", "2026-01-01T00:00:00Z")
        self.world.health = {**self.world.health, target: health}
        self._round()

    @rule(names=st.sets(OBJECTS, max_size=2))
    def serve_elsewhere(self, names: set[str]) -> None:
        """Another gateway has the last good of some."""
        self.world.served_elsewhere = frozenset(names & self.world.models.keys())
        self._round()

    @rule(name=OBJECTS, public=PUBLIC)
    def come_to_nothing(self, name: str, public: str) -> None:
        """A round whose first write fails: its plan is thrown away, and nothing of it is said."""
        self.world.apply(make_virtual_model(name, modelName=public, backends=[make_backend(model="c")]))
        plan(self.world.snapshot(), self.world.memo, self.world.now)
        self._round()

    @rule(name=OBJECTS, data=st.data())
    def fail_half_way(self, name: str, data: Any) -> None:
        """Some writes land, nobody adopts them, and what is served is read back from what is live."""
        world = self.world
        world.apply(make_virtual_model(name, backends=[make_backend(model="d")]))
        made = plan(world.snapshot(), world.memo, world.now)
        assert world.gateway is not None
        apply_plan(
            world.objects, replace(made, writes=made.writes[: data.draw(st.integers(0, len(made.writes)))]), world.gateway
        )
        world.recall()
        world.round()

    @rule()
    def change_leader(self) -> None:
        """What is live and served is read again; what was said is said again."""
        self.world.recall()
        self.world.memo.forget_told()
        self.world.said.clear()
        self.world.round()

    @rule(claims=st.sampled_from([0, 40]), shard=st.sampled_from([None, 0]))
    def claim(self, claims: int, shard: int | None) -> None:
        """A pod claims a higher number of a document than is live, or all run what is live."""
        target = self.world.round().target
        file = "config.yml" if shard is None or self.shards == 1 else f"models-{shard:02d}.yml"
        if target is not None:
            ahead = (file,) if claims else ()
            highest = claims and target.revision + claims
            self.world.proof = Proof(target, desired=1, updated=0 if claims else 1, ahead=ahead, highest_revision=highest)
            self._round()

    @rule(on=st.booleans(), trouble=st.sampled_from(["", "Redis is down."]))
    def mirror(self, on: bool, trouble: str) -> None:
        """A mirror is asked for or not, and works or not."""
        self.world.mirror_key, self.world.mirror_trouble = b"k" * 64, trouble
        storage = {"redis": {"host": "redis.ai.svc"}} if on else {}
        self.world.apply(make_gateway_config(storage=storage, delivery={"shards": self.shards, "redisNotify": on}))
        self._round()

    @rule(kind=st.sampled_from(["ConfigMap", "Secret"]), data=st.data())
    def roll_back(self, kind: str, data: Any) -> None:
        """Somebody puts an older version of one of ours back."""
        world = self.world
        name = data.draw(st.sampled_from(sorted(name for other, name in world.objects.by_name if other == kind)))
        older = self.seen.get((kind, name))
        if older is not None:
            self.rolled_back = True  # the same content under an older number stays: a pod that is ahead moves it on
            world.objects.edit(kind, name)["data"] = dict(older)
            world.recall()
            world.round()
        self.seen[kind, name] = dict(world.objects.by_name[kind, name]["data"])

    @rule(kind=st.sampled_from(["ConfigMap", "Secret"]), data=st.data())
    def spoil(self, kind: str, data: Any) -> None:
        own = sorted(name for other, name in self.world.objects.by_name if other == kind)
        name = data.draw(st.sampled_from(own))
        if data.draw(st.booleans()):
            del self.world.objects.by_name[kind, name]
        else:
            self.world.objects.edit(kind, name)["data"]["stray"] = "eA=="
        self._round()

    @invariant()
    def comes_to_rest(self) -> None:
        assert not self.world.round().writes, "the round after a round writes"

    @invariant()
    def readers_can_parse_everything(self) -> None:
        world = self.world
        revisions = []
        for kind, name in world.objects.by_name:
            shard = names.shard_in(name, "main")
            if kind == "Secret":
                manifest = documents.CredentialsManifest.model_validate(world.credentials_manifest(shard))
                assert set(manifest.keys) == world.credentials(shard).keys()
                assert not set(manifest.keys) & set(manifest.missing)
                continue
            model = documents.ConfigDocument if shard is None else documents.ModelsDocument
            document = model.model_validate(world.document(shard))
            held = world.credentials_manifest(shard)
            for entry in document.ai_gateway.virtual_models.values():
                assert entry.proxy_key_ref in {*held["keys"], *held["missing"]}
            revisions.append(documents.Manifest.model_validate(world.manifest(shard)).revision)
        said = world.statuses["gateway/main"].fields["revision"]
        assert said >= max(revisions) if self.rolled_back else said == max(revisions)

    @invariant()
    def served_is_what_documents_say(self) -> None:
        remembered = {owner: (served.entry.model_name, served.source) for owner, served in self.world.served.items()}
        documented: dict[str, tuple[str, str]] = {}
        for kind, name in self.world.objects.by_name:
            if kind == "ConfigMap":
                sources = self.world.manifest(names.shard_in(name, "main"))["sources"]
                documented |= {source.partition("/")[0]: (public, source) for public, source in sources.items()}
        assert remembered == documented


class ShardedEdits(Edits):
    """The same with models spread over three documents."""

    shards = 3


@pytest.mark.parametrize("machine", [Edits, ShardedEdits])
def test_any_sequence_of_edits(machine: type[Edits]) -> None:
    """See the rules and invariants of the machine."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    )
