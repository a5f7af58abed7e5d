"""The loop itself tells differences and waits as Argo CD does, or what it does not see would prove nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gitops.argolua import merge_patch
from tests.gitops.cluster import EXAMPLE, load, policy
from tests.gitops.differences import LAST_APPLIED, last_applied, three_way


def obj(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return an object with this spec."""
    return {"kind": "X", "metadata": {"name": "x", **metadata}, "spec": spec}


@pytest.mark.parametrize(
    ("before", "now", "live", "differs"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}, False),
        ({"a": 1}, {"a": 1}, {"a": 2}, True),
        ({"a": 1}, {"a": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1}, {"a": 1, "foreign": 1}, False),
        ({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {}}, {"a": 1, "b": {"c": 1}}, True),
        ({"a": 1, "gone": 1}, {"a": 1}, {"a": 1, "gone": 1}, True),
        ({"a": [1]}, {"a": [1]}, {"a": [1, 2]}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {"a": {"b": 1, "foreign": 1}}, False),
    ],
)
def test_the_three_way_merge(before: dict[str, Any], now: dict[str, Any], live: dict[str, Any], differs: bool) -> None:
    """What Git says or no longer says differs; what somebody else added does not; lists are compared whole."""
    assert bool(three_way(obj(before), obj(now), obj(live))) is differs


def test_status_versions_and_managers_are_no_difference() -> None:
    """They change with every write, and the annotation of apply is where the last state is read from."""
    said = obj({"a": 1})
    annotations = {LAST_APPLIED: json.dumps(said)}
    live = {**obj({"a": 1}, resourceVersion="7", managedFields=[{}], annotations=annotations), "status": {"b": 1}}
    now = obj({"a": 1}, annotations={})
    assert three_way(last_applied(live) or {}, now, live) == ""


def test_a_merge_patch_names_what_changed_and_what_went() -> None:
    """As the API server reads it."""
    before, after = {"a": {"b": 1, "c": 2}, "d": [1], "e": 1}, {"a": {"b": 1, "c": 3}, "d": [1, 2]}
    assert merge_patch(before, after) == {"a": {"c": 3}, "d": [1, 2], "e": None}
    assert merge_patch(after, after) == {}


def test_the_shipped_retry_lasts_longer_than_an_operator_takes_to_start() -> None:
    """docs/gitops.md promises seven minutes."""
    chosen = policy("20-gateway.yaml")
    waits = [chosen.wait_seconds(retry) for retry in range(chosen.limit)]
    assert waits[:5] == [5, 10, 20, 40, 60]
    assert 7 * 60 <= sum(waits) < 8 * 60


@pytest.mark.parametrize("file", ["10-operator.yaml", "20-gateway.yaml"])
def test_applications_heal_prune_and_compare_by_dry_run(file: str) -> None:
    """What the guide explains is what is shipped; nothing is ignored."""
    [application] = load(EXAMPLE / "argocd" / file)
    chosen = policy(file)
    assert (chosen.prune, chosen.self_heal) == (True, True)
    assert "ServerSideApply=true" in chosen.options
    assert application["metadata"]["annotations"] == {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    assert "ignoreDifferences" not in application["spec"]


def test_the_folders_that_argo_cd_and_flux_are_pointed_at_are_there() -> None:
    """A renamed folder would be found by users only."""
    applications = [load(EXAMPLE / "argocd" / file)[0] for file in ("10-operator.yaml", "20-gateway.yaml")]
    kustomizations = [load(EXAMPLE / "flux" / file)[0] for file in ("20-operator.yaml", "30-gateway.yaml")]
    [release] = [one for one in load(EXAMPLE / "flux" / "operator") if one["kind"] == "HelmRelease"]
    root = EXAMPLE.parents[1]
    named = [one["spec"]["source"]["path"] for one in applications] + [one["spec"]["path"] for one in kustomizations]
    for path in [*named, release["spec"]["chart"]["spec"]["chart"]]:
        assert any((root / path).glob("*.yaml")), path
    assert kustomizations[1]["spec"]["dependsOn"] == [{"name": kustomizations[0]["metadata"]["name"]}]
