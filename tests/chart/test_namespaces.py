"""Releases that work in named namespaces only: with Roles alone, beside each other, and without touching anything else."""

from __future__ import annotations

import pytest

from hack.audit import WRITES, AuditMark
from hack.node import Cluster
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.chart.conftest import StartRelease
from tests.chart.releases import Release, restricted_namespace

pytestmark = pytest.mark.apiserver

CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding")


def narrow(*namespaces: str) -> dict[str, object]:
    """Return values of a release with Roles only: without cert-manager there is no webhook then."""
    return {
        "crds": {"install": False},
        "watch": {"namespaces": list(namespaces)},
        "webhook": {"mode": "none"},
        "rbac": {"aggregate": False},
    }


def test_two_releases_with_roles_only_work_side_by_side_and_touch_nothing_else(
    cluster: Cluster, crds: None, release: StartRelease
) -> None:
    """Each serves its own namespaces; a third one's objects stay unanswered; no right beyond a namespace, and no refusal."""
    first, second = release(), release()
    spaces = [f"{one.name}-{part}" for one, parts in ((first, "ab"), (second, "c")) for part in parts] + [
        f"{first.name}-nobody"
    ]
    for space in spaces:
        restricted_namespace(cluster, space)
    mark = cluster.plane.audit_mark()
    first.install(values=narrow(*spaces[:2]))
    second.install(values=narrow(spaces[2]))
    assert [item["kind"] for one in (first, second) for item in one.manifest() if item["kind"] in CLUSTER_WIDE] == []
    worlds = [World(cluster.plane, space) for space in spaces]
    for world in worlds:
        world.create(secret(), gateway_config(), virtual_model())
    for world in worlds[:3]:
        world.wait_ready("chat", within_seconds=15)
    assert worlds[3].condition("VirtualModel", "chat", "Ready")["reason"] == "Pending"
    assert not worlds[3].exists("ConfigMap", "main-config")
    assert written(cluster, first, mark) == {first.namespace, *spaces[:2]}
    assert written(cluster, second, mark) == {second.namespace, spaces[2]}
    for one in (first, second):
        assert [
            f"{record.verb} {record.uri}" for record in cluster.plane.audit_since(mark, user=account(one)) if record.denied
        ] == []
    first.uninstall(wait=False)
    worlds[2].patch_spec("VirtualModel", "chat", current="big")
    worlds[2].wait_ready("chat")
    assert worlds[2].models()["chat"]["current"] == "big"
    for space in spaces:
        cluster.plane.request("DELETE", f"/api/v1/namespaces/{space}")


def account(one: Release) -> str:
    """Return who a release's controller is in the audit log."""
    return f"system:serviceaccount:{one.namespace}:{one.name}-aigateway-operator"


def written(cluster: Cluster, one: Release, mark: AuditMark) -> set[str]:
    """Return the namespaces in which a release's controller wrote anything; "" for what is in none."""
    return {record.namespace for record in cluster.plane.audit_since(mark, user=account(one), verbs=WRITES)}
