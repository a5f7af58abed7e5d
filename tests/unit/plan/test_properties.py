"""Whatever sequence of edits comes: memory changes no result, rounds come to rest, what is served stays served."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aigateway_config import documents
from aigateway_operator.plan import names
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import Stored
from tests.builders import World, make_backend, make_gateway_config, make_secret_state, make_virtual_model

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
        self.world = World(secrets={"s0": STATES[0], "s1": STATES[0]})
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
        assert world.statuses["gateway/main"].fields["revision"] == max(revisions)

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
