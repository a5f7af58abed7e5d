"""`aigateway mount`: what it prints mounts every document, never by subPath, and opens the port to the operator alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.gateways import World
from aigateway_operator.cli.manifests import read_manifests
from aigateway_operator.cli.mounting import FOLDERS
from aigateway_operator.errors import Forbidden
from aigateway_operator.kube.resources import GATEWAY_CONFIGS
from aigateway_operator.rules import RuleContext
from tests.cli_suite import gateway, keys, model, run_cli, write_manifests
from tests.unit.cli.conftest import FakeStage

SELECTOR = {"matchLabels": {"app": "gateway"}}


def mount(tmp_path: Path, *argv: str, **delivery: Any) -> Any:
    """Return the data that `mount` prints for a gateway of a file."""
    file = write_manifests(tmp_path / "m.yaml", gateway(delivery={"podSelector": SELECTOR, **delivery}))
    done = run_cli("mount", "main", "-f", file, "-o", "json", *argv)
    assert done.code == Exit.FINE, done
    return done.data


def sources(patch: Any, volume: str) -> list[str]:
    """Return the names of ConfigMaps or Secrets that a volume of the patch holds, every one optional."""
    volumes = {one["name"]: one for one in patch["spec"]["template"]["spec"]["volumes"]}
    parts = [part for source in volumes[volume]["projected"]["sources"] for part in source.values()]
    assert all(part["optional"] for part in parts)
    return [part["name"] for part in parts]


@pytest.mark.parametrize("shards", [1, 2, 64])
def test_every_object_that_the_operator_makes_is_mounted(tmp_path: Path, shards: int) -> None:
    """What render would write for the gateway, whatever the number of shards, is what the two volumes name."""
    manifests = [gateway(delivery={"podSelector": SELECTOR, "shards": shards}), keys(), model()]
    file = write_manifests(tmp_path / "all.yaml", *manifests)
    world = World(RuleContext(""))
    for manifest in read_manifests([file], "default").manifests:
        world.put(manifest)
    key = GatewayKey("default", "main")
    made = world.plans([key])[key].writes
    patch = mount(tmp_path, shards=shards)["patch"]
    assert sources(patch, "aigateway-config") == sorted(write.name for write in made if write.kind == "ConfigMap")
    assert sources(patch, "aigateway-credentials") == sorted(write.name for write in made if write.kind == "Secret")


def test_patch_names_port_labels_and_folders(tmp_path: Path) -> None:
    """The pods are selected by their labels, say where they answer, and know where their files are; no subPath anywhere."""
    data = mount(tmp_path, "--container", "app", statusPort=9100)
    template = data["patch"]["spec"]["template"]
    assert template["metadata"]["labels"] == {"app": "gateway"}
    (container,) = template["spec"]["containers"]
    assert container["name"] == "app"
    assert container["ports"] == [{"name": "config-status", "containerPort": 9100, "protocol": "TCP"}]
    assert "subPath" not in json.dumps(data)
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert {one["name"]: one["value"] for one in container["env"]} == {variable: path for path, variable in FOLDERS.values()}
    assert {name: one["mountPath"] for name, one in mounts.items()} == {name: path for name, (path, _) in FOLDERS.items()}
    assert [name for name, one in mounts.items() if not one.get("readOnly")] == ["aigateway-workers"]
    assert set(mounts) == {one["name"] for one in template["spec"]["volumes"]}


@pytest.mark.parametrize("port", [1, 8081, 65535])
def test_policy_opens_the_status_port_to_the_operator_alone_and_leaves_all_other_ports(tmp_path: Path, port: int) -> None:
    """Each TCP port but one is in exactly one range that anybody may reach; that one is for the operator's pods."""
    policy = mount(tmp_path, "--operator-namespace", "ops", statusPort=port)["networkPolicy"]
    assert policy["metadata"] == {"name": "main-config-status", "namespace": "default"}
    assert policy["spec"]["podSelector"] == SELECTOR
    closed, others = policy["spec"]["ingress"]
    assert closed["ports"] == [{"protocol": "TCP", "port": port}]
    (peer,) = closed["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}
    assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "aigateway-operator"}}
    assert "from" not in others
    ranges = [(one["port"], one["endPort"]) for one in others["ports"] if one["protocol"] == "TCP"]
    reached = [number for first, last in ranges for number in range(first, last + 1)]
    assert sorted(reached) == [number for number in range(1, 65536) if number != port]


def test_gateway_without_selector_gets_no_policy_and_is_told_so(tmp_path: Path) -> None:
    """A policy without a selector would hold for every pod of the namespace."""
    file = write_manifests(tmp_path / "m.yaml", gateway())
    done = run_cli("mount", "main", "-f", file, "-o", "json")
    assert (done.code, done.data["networkPolicy"]) == (Exit.FINE, None)
    assert "labels" not in done.data["patch"]["spec"]["template"].get("metadata", {})
    assert "spec.delivery.podSelector is not set" in done.err
    assert done.data["notes"][0] in done.err
    refused = run_cli("mount", "main", "-f", file, "--network-policy")
    assert (refused.code, refused.out) == (Exit.REFUSED, "")


def test_match_expressions_are_in_the_policy_and_left_to_the_reader(tmp_path: Path) -> None:
    """Labels cannot be made up from expressions; the policy selects by them all the same."""
    expressions = [{"key": "tier", "operator": "In", "values": ["a", "b"]}]
    data = mount(tmp_path, podSelector={"matchExpressions": expressions})
    assert data["networkPolicy"]["spec"]["podSelector"] == {"matchExpressions": expressions}
    assert "matchExpressions" in data["notes"][0]


def test_page_for_people_is_both_parts_as_yaml(tmp_path: Path) -> None:
    """It can be pasted, and each part alone is what the two switches print."""
    file = write_manifests(tmp_path / "m.yaml", gateway(delivery={"podSelector": SELECTOR}))
    patch, policy = yaml.safe_load_all(run_cli("mount", "main", "-f", file).out)
    assert patch == yaml.safe_load(run_cli("mount", "main", "-f", file, "--patch").out)
    assert policy == yaml.safe_load(run_cli("mount", "main", "-f", file, "--network-policy").out)
    assert patch == json.loads(run_cli("mount", "main", "-f", file, "--patch", "-o", "json").out)


def test_gateway_of_the_cluster_is_read_by_its_name_alone(stage: FakeStage) -> None:
    """The right to get one GatewayConfig is enough; what is stored decides."""
    stage.create(gateway(delivery={"podSelector": SELECTOR, "shards": 2}))
    stage.cluster.faults_of_lists[GATEWAY_CONFIGS] = Forbidden("LIST … was answered 403", status=403)
    done = stage.run("mount", "main", "-n", "ai", "-o", "json")
    assert done.code == Exit.FINE, done
    assert sources(done.data["patch"], "aigateway-config") == ["main-config", "main-models-00", "main-models-01"]


def test_gateway_that_is_not_there_is_told_with_those_that_are(stage: FakeStage, tmp_path: Path) -> None:
    """A typing error is seen at a glance, in a cluster and in files."""
    stage.create(gateway(), gateway("other"))
    done = stage.run("mount", "mian", "-n", "ai")
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert "GatewayConfig 'mian' is not in namespace 'ai'. There: main, other." in done.err
    file = write_manifests(tmp_path / "m.yaml", gateway())
    assert "is not in the files. There: main." in run_cli("mount", "mian", "-f", file).err
    empty = write_manifests(tmp_path / "e.yaml", keys())
    assert "No GatewayConfig is there" in run_cli("mount", "main", "-f", empty).err


def test_gateway_in_two_namespaces_of_the_files_must_be_chosen(tmp_path: Path) -> None:
    """Nobody guesses which one is meant."""
    first, second = gateway(), copy.deepcopy(gateway())
    first["metadata"]["namespace"], second["metadata"]["namespace"] = "a", "b"
    file = write_manifests(tmp_path / "m.yaml", first, second)
    refused = run_cli("mount", "main", "-f", file)
    assert refused.code == Exit.USAGE
    assert "several namespaces: a, b" in refused.err
    chosen = run_cli("mount", "main", "-f", file, "-n", "b")
    assert "reads gateway b/main" in chosen.out


@pytest.mark.parametrize("delivery", [{"shards": 0}, {"statusPort": "8081"}, {"podSelector": 3}, "on"])
def test_delivery_that_breaks_rules_is_no_traceback(tmp_path: Path, delivery: Any) -> None:
    """Files may hold anything; the command that names every fault is named."""
    file = write_manifests(tmp_path / "m.yaml", gateway(delivery=delivery))
    refused = run_cli("mount", "main", "-f", file)
    assert refused.code == Exit.USAGE
    assert "aigateway check" in refused.err
