"""What users of Argo CD see: the shipped Applications on a real API server with the real operator, from nothing to clean-up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from hack.audit import WRITES
from tests.apiserver.stub_pods import StubPod, free_port
from tests.apiserver.world import World
from tests.eventually import eventually
from tests.gitops.argocd import OURS, ArgoCD, Difference
from tests.gitops.argolua import ArgoLua
from tests.gitops.cluster import FIRST, Cluster, edited, filled_by_argo_cd
from tests.operators import USER

pytestmark = pytest.mark.apiserver

MIN_ROUNDS = 12
SOAK_SECONDS = float(os.environ.get("AIGATEWAY_GITOPS_SECONDS", "8"))
"""For how long nothing may differ. docs/gitops.md names the run of 600."""


@pytest.fixture(scope="module")
def cluster(lua: ArgoLua, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of this file; each works in a namespace of its own."""
    with filled_by_argo_cd(lua, tmp_path_factory.mktemp("argocd")) as filled:
        yield filled


def synced(cluster: Cluster, namespace: str, options: frozenset[str] | None = None) -> tuple[ArgoCD, World]:
    """Return the example's Application in a namespace, synced and healthy; `options` instead of its sync options."""
    world = cluster.add_secrets(namespace)
    app = cluster.application(namespace, options=options)
    assert app.sync(), app.attempts
    return app, world


def refused_by(app: ArgoCD) -> str:
    """Sync once and return why it failed."""
    attempt = app.attempt()
    assert not attempt.succeeded
    return attempt.message


def test_any_order_ends_in_success_within_the_shipped_retry(cluster: Cluster) -> None:
    """No CRDs; then a webhook that nobody serves; then an operator that starts: each fails in its own words, then all is well.

    The waits between attempts are those of the shipped Application, twenty times as fast.
    """
    attempts = cluster.first_app.attempts
    assert attempts[-1].succeeded, attempts
    assert "no matches for kind" in attempts[0].message
    assert "failed calling webhook" in attempts[1].message
    assert cluster.first_app.differences() == []
    World(cluster.plane, FIRST).wait_ready("chat", "embeddings")


@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_nothing_differs_while_the_operator_works_and_secrets_rotate(cluster: Cluster) -> None:
    """By three-way merge and by dry run, for the gateway and for every object of the chart, compared again and again.

    Meanwhile Secrets and certificates rotate, a pod is poked and proves, and every tenth round a commit flips the live backend.
    Of what users write, the operator writes the status only; the chart's rights are enough for all it does.
    """
    world = cluster.add_secrets("soak")
    app = cluster.application("soak")
    port = free_port()
    app.git = edited(app.git, "main", delivery__statusPort=port)
    app.git[0]["metadata"].pop("labels")  # the stub is a pod that no Pod Security Standard would admit
    assert app.sync(), app.attempts
    pod = StubPod(world, "gateway-0", port)
    mark = cluster.plane.audit_mark()
    rounds, ends = 0, time.monotonic() + SOAK_SECONDS
    found: list[Difference] = []
    try:
        while time.monotonic() < ends or rounds < MIN_ROUNDS:
            rounds += 1
            found += app.differences()
            if rounds % 5 == 0:
                found += cluster.operator_app.differences()
            if rounds % 10 == 0:
                app.git = edited(app.git, "chat", current="big" if rounds % 20 else "small")
                assert app.sync(), app.attempts
            world.patch("Secret", "openai", {"stringData": {"api-key": f"value-{rounds}"}})
            time.sleep(min(1.0, SOAK_SECONDS / 60))
        eventually(lambda: _holds(world, f"value-{rounds}"), within_seconds=20)
        rollout = world.wait_condition("GatewayConfig", "main", "Propagated", "True", within_seconds=10)
    finally:
        pod.stop()
    status = world.get("GatewayConfig", "main")["status"]
    print(f"{rounds} rounds in {SOAK_SECONDS:.0f} s, {len(found)} differences, {status['rollout']}, {rollout['message']}")
    assert found == []
    records = cluster.plane.audit_since(mark, user=USER)
    assert {record.resource for record in records if record.denied} == set()
    written = {record.resource for record in records if record.verb in WRITES}
    assert {one for one in written if one.split("/")[0] in OURS.values()} == {f"{one}/status" for one in OURS.values()}
    assert status["rollout"]["credentialsRevision"] > 5


def _holds(world: World, value: str) -> None:
    assert value in world.values("main-credentials").values()


def test_an_edit_by_hand_is_seen_and_healed_and_one_of_something_else_is_left_alone(cluster: Cluster) -> None:
    """Both ways of comparing see it; what callers get is again what Git says. A value that Git does not name stays."""
    app, world = synced(cluster, "healed")
    world.patch_spec("VirtualModel", "chat", current="big", use=False)
    found = app.reconcile()
    assert [one.how for one in found] == ["three-way", "dry run"]
    eventually(lambda: _serves(world, "small"), within_seconds=20)
    assert app.differences() == []
    world.patch_spec("GatewayConfig", "main", probes={"periodSeconds": 5})
    assert app.reconcile() == []
    assert world.get("GatewayConfig", "main")["spec"]["probes"] == {"periodSeconds": 5}


def _serves(world: World, backend: str) -> None:
    entry = world.models()["chat"]
    assert (entry["current"], entry["use"]) == (backend, True)


@pytest.mark.parametrize("way", ["server-side", "classic"])
def test_reverting_a_commit_that_added_a_key_needs_the_default_instead(cluster: Cluster, way: str) -> None:
    """The sync fails with the remedy, nothing changes; with the remedy pods get exactly what they had before.

    A revert of a value is just a sync.
    """
    options = frozenset({"SkipDryRunOnMissingResource=true"}) if way == "classic" else None
    app, world = synced(cluster, f"revert-{way}", options)
    before, git = world.document(), app.git
    free = {"probes__periodSeconds": 5, "delivery__poke": False}  # what may come and go
    redis = {"host": "redis.ai.svc"}
    app.git = edited(git, "main", log__system__retentionDays=7, app__debug=True, storage__redis=redis, **free)
    assert app.sync(), app.attempts
    eventually(lambda: _retention(world, 7), within_seconds=20)

    app.git = git
    message = refused_by(app)
    assert "Cannot delete key 'retentionDays' from spec.log.system. Structure is fixed." in message
    assert "set it to its default 30" in message
    assert "Cannot delete key 'storage' from spec. Structure is fixed." in message, message
    assert "enabled: false" in message, message
    assert world.document()["log"]["system"]["retention"] == 7
    if way == "server-side":
        assert any(one.how == "refused" and "Structure is fixed" in one.text for one in app.differences())

    app.git = edited(git, "main", log__system__retentionDays=30, storage__redis={**redis, "enabled": False})
    assert app.sync(), app.attempts
    eventually(lambda: _is(world, before), within_seconds=20)
    assert "probes" not in world.get("GatewayConfig", "main")["spec"]
    assert app.differences() == []


def _retention(world: World, days: int) -> None:
    assert world.document()["log"]["system"]["retention"] == days
    assert world.document()["app"]["debug"] is True


def _is(world: World, document: dict[str, object]) -> None:
    assert world.document() == document


def test_what_kubectl_apply_made_is_taken_over_whole(cluster: Cluster) -> None:
    """A backend that came with a client-side apply goes when Git drops it, and a later kubectl apply is healed."""
    world = cluster.add_secrets("taken-over")
    app = cluster.application("taken-over")
    extra = {"name": "old", "model": "old-model"}
    chat = next(obj for obj in app.git if obj["metadata"]["name"] == "chat")
    by_hand = edited(app.git, "chat", backends=[*chat["spec"]["backends"], extra])
    for obj in by_hand:
        assert cluster.plane.kubectl("apply", "-f", "-", input=json.dumps(obj)).returncode == 0
    assert app.sync(), app.attempts
    assert app.differences() == []
    assert [one["name"] for one in world.get("VirtualModel", "chat")["spec"]["backends"]] == ["small", "big"]
    mine = next(obj for obj in by_hand if obj["metadata"]["name"] == "chat")
    assert cluster.plane.kubectl("apply", "-f", "-", input=json.dumps(mine)).returncode == 0
    assert app.reconcile()
    assert app.differences() == []
    assert [one["name"] for one in world.get("VirtualModel", "chat")["spec"]["backends"]] == ["small", "big"]


def test_pruning_takes_models_before_their_gateway_and_stops_at_protected_ones(cluster: Cluster) -> None:
    """A protected model's removal fails the sync until the annotation is gone; then all goes, in one commit, with retries."""
    app, world = synced(cluster, "pruned")
    app.git = [obj for obj in app.git if obj["metadata"]["name"] != "embeddings"]
    assert app.sync(), app.attempts
    world.wait_models({"chat"})

    chat = next(obj for obj in app.git if obj["metadata"]["name"] == "chat")
    chat["metadata"]["annotations"]["ai-gateway.io/protected"] = "true"
    assert app.sync(), app.attempts
    kept, app.git = app.git, [obj for obj in app.git if obj["kind"] == "Namespace"]
    assert "ai-gateway.io/protected" in refused_by(app)
    assert world.exists("VirtualModel", "chat")
    del chat["metadata"]["annotations"]["ai-gateway.io/protected"]
    app.git, empty = kept, app.git
    assert app.sync(), app.attempts
    app.git = empty
    assert app.sync(), app.attempts
    assert not world.exists("VirtualModel", "chat")
    assert not world.exists("GatewayConfig", "main")
