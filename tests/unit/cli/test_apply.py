"""`aigateway apply`: sends nothing that breaks a rule, waits for what is not ready, prunes only what is its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.api import meta
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import ClusterError, Forbidden, NotFound, Rejected, Unavailable
from aigateway_operator.kube.resources import JsonObject, Resource
from tests.cli_suite import Manifest, Result, gateway, model, run_cli, write_manifests


class Taking:
    """A cluster that takes patches, after what it was told to answer first; fulfils `cli.apply.Writable`."""

    def __init__(self, *faults: ClusterError) -> None:
        self.faults = list(faults)
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.sent: list[tuple[str, str]] = []
        self.managers: set[str] = set()
        self.undeletable: dict[str, ClusterError] = {}
        self.unlistable: ClusterError | None = None
        self.away_for: str | None = None
        self.away = Unavailable("no answer")

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        raise NotFound(f"{resource} {namespace}/{name}", status=404)

    async def list_all(
        self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
    ) -> tuple[list[JsonObject], str]:
        if self.unlistable is not None:
            raise self.unlistable
        label, _, value = (label_selector or "").partition("=")
        chosen = [one for (plural, _), one in self.objects.items() if plural == resource.plural]
        return [one for one in chosen if one["metadata"]["labels"].get(label) == value], "1"

    async def patch(self, resource: Resource, namespace: str, name: str, body: Any, **how: Any) -> JsonObject:
        self.sent.append((resource.plural, name))
        if self.faults:
            raise self.faults.pop(0)
        if name == self.away_for:
            raise self.away
        assert (how["content_type"], how["force"]) == ("application/apply-patch+yaml", True)
        self.managers.add(how["field_manager"])
        made = {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{name}"}}
        self.objects[resource.plural, name] = made
        return made

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        if name in self.undeletable:
            raise self.undeletable[name]
        assert self.objects.pop((resource.plural, name))["metadata"]["uid"] == uid


def apply(cluster: Taking, file: Path, *more: str) -> Result:
    """Run the command on a file of manifests."""

    @asynccontextmanager
    async def connect(_: argparse.Namespace) -> AsyncIterator[Taking]:
        yield cluster

    return run_cli("apply", str(file), "-n", "ai", *more, connect=connect)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A gateway and two models."""
    return written(tmp_path / "all.yaml", model("chat"), gateway(), model("other"))


def written(path: Path, *manifests: Manifest) -> Path:
    """Write manifests to a file."""
    write_manifests(path, *manifests)
    return path


def test_gateways_go_first_and_carry_who_applied_them(file: Path) -> None:
    """A model that is there before its gateway would report GatewayNotFound for a moment."""
    cluster = Taking()
    done = apply(cluster, file, "--as", "release")
    assert (done.code, cluster.sent[0]) == (Exit.FINE, (meta.GATEWAY_CONFIGS, "main"))
    assert {one["metadata"]["labels"][meta.APPLIED_BY_LABEL] for one in cluster.objects.values()} == {"release"}
    assert cluster.managers == {"release"}, "two releases must not own each other's fields"


def test_labels_and_annotations_of_files_are_applied_and_nothing_else_of_their_metadata(tmp_path: Path) -> None:
    """Sync waves, protection and teams' labels are kept there; a uid or a resourceVersion of an export is not sent."""
    chat = model("chat")
    own = {"labels": {"team": "a"}, "annotations": {"ai-gateway.io/protected": "true"}}
    chat["metadata"] |= {**own, "resourceVersion": "7", "uid": "of-an-export"}
    cluster = Taking()
    assert apply(cluster, written(tmp_path / "chat.yaml", chat), "--as", "release").code == Exit.FINE
    metadata = cluster.objects[meta.VIRTUAL_MODELS, "chat"]["metadata"]
    assert metadata["labels"] == {"team": "a", meta.APPLIED_BY_LABEL: "release"}
    assert metadata["annotations"] == own["annotations"]
    assert metadata["uid"] == "uid-of-chat"
    assert "resourceVersion" not in metadata


def test_nothing_is_sent_when_one_rule_is_broken(tmp_path: Path) -> None:
    """Half a set of models would serve what nobody asked for."""
    cluster = Taking()
    done = apply(cluster, written(tmp_path / "broken.yaml", gateway(), model("chat", current="huge")))
    assert (done.code, cluster.sent) == (Exit.REFUSED, [])
    assert "spec.current" in done.out
    assert "'huge' names no backend" in done.out


def test_a_cluster_that_is_not_ready_is_waited_for(file: Path) -> None:
    """On a first install: no kind, no right, no webhook, each for a moment."""
    faults = (
        NotFound("no such kind", status=404),
        Forbidden("no role yet", status=403),
        Unavailable("failed calling webhook", status=500),
    )
    cluster = Taking(*faults)
    done = apply(cluster, file)
    assert (done.code, len(cluster.objects)) == (Exit.FINE, 3)
    assert [text in done.err for text in ("no such kind", "no role yet", "failed calling webhook")] == [True] * 3


def test_a_cluster_that_stays_unready_ends_the_wait_with_its_reason(file: Path) -> None:
    """The Job begins anew, and says why it failed."""
    cluster = Taking(*[Unavailable("failed calling webhook", status=500)] * 99)
    done = apply(cluster, file, "--timeout", "1s")
    assert done.code == Exit.CLUSTER
    assert "failed calling webhook" in done.err


def test_what_was_applied_is_told_also_when_the_cluster_goes_away_in_between(file: Path) -> None:
    """Or nobody knows which half is there. What stands behind is not sent after the deadline, and nothing is pruned."""
    cluster = Taking()
    apply(cluster, file, "--as", "release")
    cluster.sent.clear()
    cluster.away_for = "chat"
    done = apply(
        cluster, written(file, gateway(), model("chat"), model("last")), "--as", "release", "--prune", "--timeout", "0.1s"
    )
    assert done.code == Exit.CLUSTER
    assert done.out.splitlines() == [
        "GatewayConfig/main in namespace ai applied",
        f"VirtualModel/chat in namespace ai was not applied: no answer. {remedy_of(cluster.away)}",
        "VirtualModel/last in namespace ai was not tried: the cluster was not ready before",
    ]
    assert ("virtualmodels", "last") not in cluster.sent
    assert ("virtualmodels", "other") in cluster.objects


def test_what_was_applied_is_told_also_when_what_to_prune_cannot_be_listed(file: Path) -> None:
    """A role without `list` must not hide that everything was applied."""
    cluster = Taking()
    cluster.unlistable = Forbidden("it cannot list virtualmodels", status=403)
    done = apply(cluster, file, "--prune", "-o", "json")
    assert done.code == Exit.CLUSTER
    *applied, pruned = json.loads(done.out)
    assert [one["action"] for one in applied] == ["applied"] * 3
    assert (pruned["kind"], pruned["action"]) == ("VirtualModel", "were not pruned")
    assert pruned["message"].startswith("it cannot list virtualmodels")


@pytest.mark.parametrize(
    "text",
    [
        'admission webhook "validate.kyverno.svc-fail" denied the request: label team is missing',
        'admission webhook "mine" denied the request without explanation',
        "it is forbidden: ValidatingAdmissionPolicy 'teams' with binding 'all' denied request: label team is missing",
    ],
)
def test_who_is_denied_by_another_admission_plugin_is_refused_and_not_waited_for(file: Path, text: str) -> None:
    """It answers 403 as a role does that has not arrived, and no patience changes its mind. The others are applied."""
    cluster = Taking(Forbidden(text, status=403))
    done = apply(cluster, file)
    assert (done.code, len(cluster.sent), len(cluster.objects)) == (Exit.REFUSED, 3, 2)
    assert f"GatewayConfig/main in namespace ai was refused: {text}" in done.out
    assert "waiting" not in done.err


def test_what_is_refused_for_good_is_not_tried_again_and_nothing_is_pruned(file: Path) -> None:
    """A refused model must not cost a model that is served."""
    cluster = Taking()
    apply(cluster, file, "--as", "release")
    written(file, gateway())
    cluster.faults = [Rejected("spec.app.port is immutable here", status=422)]
    before = len(cluster.sent)
    done = apply(cluster, file, "--as", "release", "--prune")
    assert (done.code, len(cluster.sent) - before) == (Exit.REFUSED, 1)
    assert "was refused: spec.app.port is immutable here" in done.out
    assert len(cluster.objects) == 3


def test_only_models_of_the_same_name_are_pruned_and_gateways_never(file: Path) -> None:
    """What others applied, and a gateway that may serve them, stay."""
    cluster = Taking()
    apply(cluster, file, "--as", "release")
    apply(cluster, file, "--as", "people")
    apply(cluster, written(file, model("mine")), "--as", "release")
    done = apply(cluster, written(file, gateway("second")), "--as", "release", "--prune")
    assert done.code == Exit.FINE
    assert "VirtualModel/mine in namespace ai deleted" in done.out
    assert {name for _, name in cluster.objects} == {"main", "chat", "other", "second"}


def test_what_cannot_be_pruned_is_told_with_its_reason_and_what_is_going_anyway_is_left(file: Path) -> None:
    """A protected model fails the run by name, the others go; one that is being deleted or is gone already is no failure."""
    cluster = Taking()
    apply(cluster, file, "--as", "release")
    apply(cluster, written(file, *(model(name) for name in ("protected", "leaving", "gone", "last"))), "--as", "release")
    cluster.objects["virtualmodels", "leaving"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.undeletable = {
        "protected": Forbidden("it carries ai-gateway.io/protected", status=403),
        "leaving": Forbidden("it was asked for again", status=403),
        "gone": NotFound("it is gone", status=404),
    }
    done = apply(cluster, written(file, gateway()), "--as", "release", "--prune")
    assert done.code == Exit.REFUSED
    said = [line for line in done.out.splitlines() if "VirtualModel" in line]
    assert sorted(said) == [
        "VirtualModel/chat in namespace ai deleted",
        "VirtualModel/last in namespace ai deleted",
        "VirtualModel/other in namespace ai deleted",
        "VirtualModel/protected in namespace ai was not deleted: it carries ai-gateway.io/protected",
    ]


def test_a_model_of_the_same_name_in_another_namespace_keeps_none_here(tmp_path: Path) -> None:
    """What files hold for one namespace says nothing of another."""
    cluster = Taking()
    apply(cluster, written(tmp_path / "here.yaml", model("chat")), "--as", "release")
    there = model("chat")
    there["metadata"]["namespace"] = "other"
    cluster.objects["virtualmodels", "chat-of-ai"] = cluster.objects.pop(("virtualmodels", "chat"))
    done = apply(cluster, written(tmp_path / "there.yaml", there), "--as", "release", "--prune")
    assert done.code == Exit.FINE
    assert "VirtualModel/chat in namespace ai deleted" in done.out
