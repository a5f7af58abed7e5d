"""The demo on kind, as far as it can be shown without Docker: each command does what it is for.

helm's commands render the chart, kubectl's are asked of a real API server, and what is missing is said.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.rules import RuleContext, check_gateway_config
from hack.controlplane import ControlPlane
from hack.gobuild import SERVERS
from hack.kind import commands
from hack.kind.__main__ import INSTEAD, main
from hack.kind.acts import ACTS
from hack.kind.calls import Caller
from hack.kind.cluster import Cluster, CommandError
from hack.kind.commands import Command
from hack.tools import KIND
from tests.conftest import require_binaries

ONLY_FOR_A_CLUSTER = ("--create-namespace", "--wait", "--timeout=180s")
TAG = "demo"
Object = dict[str, Any]


def rendered(command: Command) -> list[Object]:
    """Render what a helm install or upgrade of the demo would install."""
    verb, *arguments = command.arguments
    assert verb in {"install", "upgrade"}
    offline = [argument for argument in arguments if argument not in ONLY_FOR_A_CLUSTER]
    helm = require_binaries(["helm"])["helm"]
    done = subprocess.run(
        [helm, "template", *offline, "--kube-version=1.36.0"],
        cwd=commands.ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if one]


def containers(objects: list[Object]) -> list[Object]:
    """Every container of every workload and pod."""
    found: list[Object] = []
    for one in objects:
        pod = one["spec"] if one["kind"] == "Pod" else one.get("spec", {}).get("template", {}).get("spec", {})
        found += pod.get("containers", [])
    return found


def one_of(objects: list[Object], kind: str) -> Object:
    """The only object of a kind."""
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


@pytest.mark.parametrize(
    "command",
    [commands.install_operator(TAG), commands.install_operator(TAG, upgrade=True), commands.install_gateway(TAG)],
    ids=["install", "upgrade", "gateway"],
)
def test_chart_accepts_the_values_and_uses_the_images_that_are_loaded(command: Command) -> None:
    """A node of kind has the loaded images alone: any other name, or a pull, would fail there."""
    loaded = [word for word in commands.load_images("x", TAG).arguments if word.startswith("aigateway-")]
    found = containers(rendered(command))
    assert found
    assert {one["image"] for one in found} <= set(loaded)
    assert {one["imagePullPolicy"] for one in found} == {"Never"}


def test_upgrade_changes_the_running_operator() -> None:
    """An upgrade that rendered the same would show nothing."""
    replicas = []
    for upgrade in (False, True):
        deployments = [one for one in rendered(commands.install_operator(TAG, upgrade=upgrade)) if one["kind"] == "Deployment"]
        replicas += [one["spec"]["replicas"] for one in deployments if one["metadata"]["name"] == "aigateway-operator"]
    assert replicas == [1, 2]


def test_gateway_has_the_names_and_labels_that_later_commands_use() -> None:
    """Service, selector of pods, GatewayConfig, model, backends and the caller's Secret fit the commands."""
    objects = rendered(commands.install_gateway(TAG))
    service = one_of(objects, "Service")
    assert service["metadata"]["name"] == commands.SERVICE
    assert 80 in [port["port"] for port in service["spec"]["ports"]]
    labels = one_of(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "gateway"
    assert one_of(objects, "GatewayConfig")["metadata"]["name"] == commands.GATEWAY
    model = one_of(objects, "VirtualModel")
    assert model["metadata"]["name"] == commands.MODEL
    backends = {backend["name"]: backend["model"] for backend in model["spec"]["backends"]}
    assert backends == {"small": "small-model", "big": "big-model"}
    manifests = list(yaml.safe_load_all((commands.HERE / "manifests" / "upstream.yaml").read_text()))
    secret = one_of(manifests, "Secret")
    reference = model["spec"]["proxyKeySecretRef"]
    assert secret["metadata"]["name"] == reference["name"]
    assert secret["stringData"][reference["key"]] == commands.CALLER_KEY
    upstream = one_of(manifests, "Service")
    address = f"http://{upstream['metadata']['name']}.{commands.NAMESPACE}.svc:{upstream['spec']['ports'][0]['port']}/v1"
    assert model["spec"]["baseUrl"] == address


@pytest.mark.apiserver
def test_manifests_are_accepted_where_pod_security_is_restricted(plane: ControlPlane, namespace: str) -> None:
    """The API server takes each object, and warns of none."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    label = {"metadata": {"labels": levels}}
    assert plane.kubectl("patch", "namespace", namespace, f"--patch={json.dumps(label)}").returncode == 0
    for command in [commands.apply_namespace(), *commands.apply_upstream(TAG)]:
        arguments = [word.replace("--filename=hack", f"--filename={commands.ROOT}/hack") for word in command.arguments]
        given = command.input.replace(f"namespace: {commands.NAMESPACE}", f"namespace: {namespace}")
        given = given.replace(f'"namespace": "{commands.NAMESPACE}"', f'"namespace": "{namespace}"')
        done = plane.kubectl(*arguments, "--dry-run=server", input=given or None)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.apiserver
def test_edits_do_on_a_real_server_what_they_are_shown_for(plane: ControlPlane, namespace: str) -> None:
    """The switch is taken, the backend that does not exist is refused, and queries that follow are understood."""

    def done(command: Command) -> subprocess.CompletedProcess[str]:
        here = f"--namespace={namespace}"
        return plane.kubectl(*(here if word == f"--namespace={commands.NAMESPACE}" else word for word in command.arguments))

    objects = rendered(commands.install_gateway(TAG))
    for kind in ("GatewayConfig", "VirtualModel"):
        body = one_of(objects, kind)
        body["metadata"]["namespace"] = namespace
        plane.kubectl("apply", "--filename=-", input=json.dumps(body), check=True)
    assert done(commands.switch_to("big")).returncode == 0
    (wrong_backend, word), (wrong_key, _) = commands.refused_edits()
    refused = done(wrong_backend)
    assert refused.returncode != 0
    assert word in refused.stderr
    assert done(commands.show_gateway()).returncode == 0
    assert done(commands.list_pods()).returncode == 0
    assert done(commands.list_system()).returncode == 0
    assert done(commands.wait_gone()).returncode == 0, "nothing to wait for is no error"
    left = done(commands.list_left())
    assert [line for line in left.stderr.splitlines() if "main-config" not in line] == []
    assert left.stdout.splitlines() == ["gatewayconfig.ai-gateway.io/main", "virtualmodel.ai-gateway.io/chat"]
    assert done(wrong_key).returncode == 0, "without the webhook the schema lets unknown keys through"


def test_unknown_key_is_refused_with_the_words_the_demo_waits_for() -> None:
    """The webhook says of the second refused edit what the rules say."""
    (_, _), (command, words) = commands.refused_edits()
    patch = next(word for word in command.arguments if word.startswith("--patch=")).removeprefix("--patch=")
    told = check_gateway_config(json.loads(patch)["spec"], RuleContext(name=commands.GATEWAY))
    assert any(words in violation.message for violation in told), told


@pytest.mark.apiserver
def test_helm_and_kubectl_know_the_flags(tmp_path: Path) -> None:
    """Commands that need pods are at least parsed: an unknown flag or verb is a usage error, not a lost connection."""
    cluster = Cluster(require_binaries(["helm", "kubectl"]), tmp_path / "none")
    asked = [
        commands.wait_upstream(), commands.wait_for("gwc/main", "Propagated", 1), commands.test_operator(),
        commands.uninstall("aigateway", commands.SYSTEM), commands.forward(),
    ]  # fmt: skip
    for command in asked:
        with pytest.raises(CommandError) as told:
            cluster.run(command)
        assert "unknown" not in str(told.value), told.value
        assert "refused" in str(told.value) or "unreachable" in str(told.value) or "no such host" in str(told.value)


def test_refusal_for_another_reason_is_no_refusal(tmp_path: Path) -> None:
    """A demo that took any failure for the refusal would be satisfied by a cluster that is away."""
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    program.chmod(0o755)
    cluster = Cluster({"kubectl": program}, tmp_path / "kubeconfig")
    with pytest.raises(CommandError, match="without saying 'huge'"):
        cluster.run_refused(commands.switch_to("huge"), "huge")
    program.write_text("#!/bin/sh\n")
    with pytest.raises(CommandError, match="had to be refused"):
        cluster.run_refused(commands.switch_to("huge"), "huge")


def test_caller_finds_its_way_through_a_port_that_kubectl_chose(tmp_path: Path) -> None:
    """The stub provider of the demo answers as a gateway would: the caller reads what the model said."""
    program = tmp_path / "kubectl"
    program.write_text(
        "#!/usr/bin/env python3\n"
        f"import sys; sys.path.insert(0, {str(commands.HERE)!r})\n"
        "from upstream import Handler, ThreadingHTTPServer\n"
        "server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(f'Forwarding from 127.0.0.1:{server.server_port} -> 8000', flush=True)\n"
        "server.serve_forever()\n"
    )
    program.chmod(0o755)
    with Caller(Cluster({"kubectl": program}, tmp_path / "kubeconfig")) as caller:
        assert caller.ask() == f"I am {commands.MODEL}."
        with pytest.raises(CommandError, match="still says: I am chat"):
            caller.ask_until("I am another.", within_seconds=0.3)


def test_steps_come_in_the_order_in_which_they_stand_on_each_other() -> None:
    """Cluster and images are made before; what is taken away comes last."""
    assert [act.__name__ for act in ACTS] == ["install", "quick_start", "hot_reload", "refused_edit", "upgrade", "uninstall"]


def test_missing_docker_is_said_with_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 1, the reason, and the demo that needs no Docker; nothing is built or fetched first."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(commands.ROOT)
    assert main([]) == 1
    told = capsys.readouterr().err
    assert "docker is not usable here: not in PATH" in told
    assert INSTEAD in told
    assert not (tmp_path / "cache").exists()


def test_pinned_kind_is_what_go_builds_and_its_node_image_is_there() -> None:
    """The module that is built, the version that is asked for, and a node image for every release in the matrix."""
    assert f"require sigs.k8s.io/kind v{KIND}" in (SERVERS / "kind" / "go.mod").read_text()
    assert [image for image in commands.NODE_IMAGES.values() if "@sha256:" not in image] == []
    assert [name for name, image in commands.NODE_IMAGES.items() if f":v{name}." not in image] == []
