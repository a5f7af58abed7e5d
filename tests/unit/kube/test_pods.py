"""What decides of a pod whether it is poked, asked, and counted: read from the object as the API server has it."""

from __future__ import annotations

from typing import Any

import pytest

from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from aigateway_operator.kube.pods import parse_pod


def pod(status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """Return a pod that is ready, but for what is said here."""
    ready = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "metadata": {"name": "gateway-0", "uid": "u1", "resourceVersion": "7", **metadata},
        "spec": spec or {},
        "status": {**ready, **(status or {})},
    }


def test_a_ready_pod_has_to_run_the_newest_documents() -> None:
    """And is asked at its address."""
    found = parse_pod(pod())
    assert (found.name, found.uid, found.ip) == ("gateway-0", "u1", "10.0.0.7")
    assert found.desired
    assert not found.host_network


@pytest.mark.parametrize(
    "other",
    [
        pod({"conditions": []}),
        pod({"conditions": [{"type": "Ready", "status": "False"}]}),
        pod({"conditions": [{"type": "Ready", "status": "Unknown"}]}),
        pod({"conditions": [{"type": "ContainersReady", "status": "True"}]}),
        pod({"conditions": None}),
        pod({"phase": "Succeeded"}),
        pod(deletionTimestamp="2026-01-01T00:00:00Z"),
    ],
    ids=["no conditions", "not ready", "its node is lost", "containers alone", "null", "ended", "on its way out"],
)
def test_a_pod_that_serves_nobody_is_not_waited_for(other: dict[str, Any]) -> None:
    """Or a rollout would never be told to be complete."""
    assert not parse_pod(other).desired


@pytest.mark.parametrize("address", [{"podIP": ""}, {"podIP": None}])
def test_a_pod_without_an_address_has_none(address: dict[str, Any]) -> None:
    """An empty text would be asked at, which is this host."""
    assert parse_pod(pod(address)).ip is None


def test_a_pod_of_the_hosts_network_is_known_as_one() -> None:
    """It is refused: whatever listens on that port of the node would answer for it."""
    assert parse_pod(pod(spec={"hostNetwork": True})).host_network


def test_the_last_poke_is_read_and_makes_no_other_pod_of_it() -> None:
    """A value that is there already is no poke; and our own poke is no news."""
    poked = parse_pod(pod(annotations={CONFIG_REVISION_ANNOTATION: "3.1.0"}, resourceVersion="8"))
    assert poked.poked == "3.1.0"
    assert poked == parse_pod(pod())
    assert parse_pod(pod(annotations={"other": "x"})).poked == ""


def test_a_pod_that_nothing_is_known_of_yet_is_read_too() -> None:
    """As it stands between its creation and the first word of its kubelet."""
    found = parse_pod({"metadata": {"name": "gateway-0", "uid": "u1", "resourceVersion": "7"}})
    assert (found.ip, found.running, found.ready, found.desired) == (None, False, False, False)
