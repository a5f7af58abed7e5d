"""Fixtures of the chart's tests: our CRDs or none on the shared cluster, and releases that go after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hack.node import Cluster
from tests.chart.releases import CRDS, Release
from tests.eventually import eventually

StartRelease = Callable[..., Release]


@pytest.fixture
def crds(cluster: Cluster) -> None:
    """Our CRDs are there, and belong to no release."""
    cluster.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRDS, check=True)
    cluster.plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS, check=True)


@pytest.fixture
def no_crds(cluster: Cluster) -> None:
    """Our CRDs are not there, and so no object of ours."""
    cluster.plane.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", CRDS, check=True)

    def gone() -> None:
        assert cluster.plane.request("GET", "/apis/ai-gateway.io").status == 404

    eventually(gone, within_seconds=30)


@pytest.fixture
def release(cluster: Cluster) -> Iterator[StartRelease]:
    """Makes releases, not installed yet; what is installed at the end is removed."""
    made: list[Release] = []

    def make(**arguments: str) -> Release:
        made.append(Release(cluster, **arguments))
        return made[-1]

    yield make
    for one in made:
        cluster.helm("uninstall", one.name, "-n", one.namespace, "--ignore-not-found")
        cluster.plane.request("DELETE", f"/api/v1/namespaces/{one.namespace}")
