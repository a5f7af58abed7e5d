"""`aigateway apply`: sends nothing that breaks a rule, waits for what is not ready, prunes only what is its own."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.api import meta
from aigateway_operator.cli.exits import Exit
from aigateway_operator.errors import ClusterError, Forbidden, NotFound, Rejected, Unavailable
from aigateway_operator.kube.resources import JsonObject, Resource
from tests.cli_suite import Manifest, Result, gateway, model, run_cli, write_manifests


class Taking:
    """A cluster that takes patches, after what it was told to answer first; fulfils `cli.apply.Writable`."""

    def __init__(self, *faults: ClusterError) -> None:
        self.faults = list(faults)
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.sent: list[tuple[str, str]] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        raise NotFound(f"{resource} {namespace}/{name}", status=404)

    async def list_all(
        self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
    ) -> tuple[list[JsonObject], str]:
        label, _, value = (label_selector or "").partition("=")
        chosen = [one for (plural, _), one in self.objects.items() if plural == resource.plural]
        return [one for one in chosen if one["metadata"]["labels"].get(label) == value], "1"

    async def patch(self, resource: Resource, namespace: str, name: str, body: Any, **how: Any) -> JsonObject:
        self.sent.append((resource.plural, name))
        if self.faults:
            raise self.faults.pop(0)
        assert (how["content_type"], how["force"]) == ("application/apply-patch+yaml", True)
        made = {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{name}"}}
        self.objects[resource.plural, name] = made
        return made

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
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
