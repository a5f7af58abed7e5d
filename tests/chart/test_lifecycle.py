"""Install, upgrade, rollback and uninstall by real Helm, on a cluster that runs the pods."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hack.node import Cluster
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.chart.conftest import StartRelease
from tests.chart.releases import CHART, ROOT, Key, Release, create_soon, everything, restricted_namespace
from tests.eventually import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.timeout(240)]

HELM_RECORDS = "sh.helm.release.v1."
LEASES = "leases.coordination.k8s.io"  # renewed each second


def test_a_release_comes_changes_and_goes_and_leaves_what_users_wrote(
    cluster: Cluster, no_crds: None, release: StartRelease, tmp_path: Path
) -> None:
    """Install the last commit's chart with CRDs, upgrade to this one with other values, upgrade to the same again, roll back,
    uninstall: what is served stays, an upgrade that changes nothing writes nothing, and what is left is CRDs, users' objects
    and their documents.
    """
    restricted_namespace(cluster, "ai")
    one, world = release(), World(cluster.plane, "ai")
    before = set(everything(cluster))
    one.install(chart=earlier_chart(tmp_path))
    create_soon(world, secret(), gateway_config(), virtual_model())
    world.wait_ready("chat")
    documents = {("configmaps", "ai", "main-config"), ("secrets", "ai", "main-credentials")}
    users = {(f"{kind}.ai-gateway.io", "ai", name) for kind, name in (("gatewayconfigs", "main"), ("virtualmodels", "chat"))}
    users |= {("secrets", "ai", "keys")}
    bundle, served = ca_bundle(cluster, one), settled(cluster)  # the gateway is told of a moment after it is Ready

    changes = {"controller": {"replicas": 2}, "logs": {"level": "DEBUG"}, "webhook": {"timeoutSeconds": 3}}
    one.upgrade(values=changes)
    upgraded = settled(cluster)
    assert {key: upgraded[key] for key in users | documents} == {key: served[key] for key in users | documents}
    assert ca_bundle(cluster, one) == bundle, "an upgrade must not take away what the operator filled in"
    assert len([name for name in cluster.node.of_namespace(one.namespace) if "-operator-" in name]) >= 2
    one.upgrade(values=changes)
    assert changed(upgraded, settled(cluster)) == {}, "an upgrade to the same chart and values wrote something"
    unwise = virtual_model("wrong", baseUrl="http://llm.example.com/v1")  # only the webhook's rules refuse it
    refused = cluster.plane.request("POST", world.path("VirtualModel"), unwise)
    assert refused.status == 422, refused.body
    world.patch_spec("VirtualModel", "chat", current="big")
    world.wait_ready("chat")
    one.rollback(1)
    assert ca_bundle(cluster, one) == bundle
    world.patch_spec("VirtualModel", "chat", current="small")
    world.wait_ready("chat")
    assert world.models()["chat"]["current"] == "small"

    one.uninstall()
    eventually(lambda: assert_left(cluster, before, users | documents), within_seconds=30)
    assert set(world.models()) == {"chat"}, "pods go on reading what they were told"


def earlier_chart(folder: Path) -> Path:
    """Return the chart of the commit before this one; where there is none, this one as an earlier version."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD~", "charts/aigateway"], capture_output=True, check=False)
    chart = folder / "charts" / "aigateway"
    if archive.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
    else:
        shutil.copytree(CHART, chart)
    about = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(re.sub(r"(?m)^(version|appVersion):.*$", r"\1: 0.0.9", about))
    return chart


def assert_left(cluster: Cluster, before: set[Key], expected: set[Key]) -> None:
    """Assert that beside what was there before only our CRDs, what they make the API server add, and `expected` are there."""
    left = set(everything(cluster)) - before
    crds = {
        ("customresourcedefinitions.apiextensions.k8s.io", "", f"{kind}.ai-gateway.io")
        for kind in ("gatewayconfigs", "virtualmodels")
    }
    served = {("apiservices.apiregistration.k8s.io", "", "v1alpha1.ai-gateway.io")}
    assert left == crds | served | expected


def settled(cluster: Cluster) -> dict[Key, str]:
    """Return all objects once nothing has changed for a moment, without Leases and Helm's own records.

    A pod that is ending changes nothing for as long as it drains, and then goes.
    """
    last: dict[Key, str] = {}

    def unchanged() -> dict[Key, str]:
        nonlocal last
        pods = cluster.plane.request("GET", "/api/v1/pods").body["items"]
        ending = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
        assert ending == []
        found = everything(cluster).items()
        earlier, last = last, {key: seen for key, seen in found if HELM_RECORDS not in key[2] and key[0] != LEASES}
        assert last == earlier, changed(earlier, last)
        return last

    return eventually(unchanged, within_seconds=60, every_seconds=1.5)


def changed(before: dict[Key, str], after: dict[Key, str]) -> dict[Key, str]:
    """Return what differs, and how."""
    gone = dict.fromkeys(before.keys() - after.keys(), "gone")
    new = dict.fromkeys(after.keys() - before.keys(), "new")
    return gone | new | {key: "written" for key in before.keys() & after.keys() if before[key] != after[key]}


def ca_bundle(cluster: Cluster, one: Release) -> bytes:
    """Return the caBundle of a release's webhook, once it is filled in."""
    configurations = [item for item in one.manifest() if item["kind"] == "ValidatingWebhookConfiguration"]
    assert len(configurations) == 1
    path = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{configurations[0]['metadata']['name']}"

    def filled() -> bytes:
        body: dict[str, Any] = cluster.plane.request("GET", path).body
        found = base64.b64decode(body["webhooks"][0]["clientConfig"].get("caBundle", ""))
        assert found, "no caBundle yet"
        return found

    return eventually(filled, within_seconds=20)
