"""The command line on the real API server with the real operator: the same suite as in memory, and kubectl's own reading."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.strict_yaml import parse_documents
from hack.controlplane import ControlPlane
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import PLURALS, World
from tests.cli_suite import ClusterCommands, Manifest, Result, gateway, keys, model, run_cli, write_manifests
from tests.eventually import eventually
from tests.operators import InProcess
from tests.yaml_rows import ROWS

pytestmark = pytest.mark.apiserver
ROOT = Path(__file__).resolve().parents[2]


class RealStage:
    """Fulfils `tests.cli_suite.Stage` with a namespace of the control plane and an operator in it."""

    def __init__(self, world: World, operator: InProcess) -> None:
        self.namespace = world.namespace
        self.world = world
        self._operator = operator
        self._running = True

    def create(self, *manifests: Manifest) -> None:
        self.world.create(*manifests)

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        self.world.patch_spec(kind, name, **spec)

    def settle(self) -> None:
        """Wait until each object's status speaks of its generation and the operator has nothing left to do."""

        def settled() -> None:
            for kind in ("GatewayConfig", "VirtualModel"):
                for obj in self.world.plane.request("GET", self.world.path(kind)).body["items"]:
                    status = obj.get("status") or {}
                    assert status.get("observedGeneration") == obj["metadata"]["generation"], (kind, obj["metadata"]["name"])
            self._operator.assert_idle()

        eventually(settled, within_seconds=10)

    def stop_operator(self) -> None:
        if self._running:
            self._running = False
            self._operator.stop()

    def run(self, *argv: str) -> Result:
        return run_cli(*argv, "--kubeconfig", str(self.world.plane.kubeconfig))


@pytest.fixture
def stage(world: World, start_operator: StartOperator) -> RealStage:
    """A fresh namespace with an operator of its own."""
    return RealStage(world, start_operator())


class TestOnTheApiServer(ClusterCommands):
    """See tests/cli_suite.py."""


def test_kubectl_reads_scalars_as_we_do(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Each row of tests/yaml_rows.py, and so each unit test on them, is what kubectl makes of that text."""
    lines = [f"      row{number}: {text}" for number, (text, _) in enumerate(ROWS)]
    head = ["apiVersion: ai-gateway.io/v1alpha1", "kind: VirtualModel", "metadata: {name: rows}", "spec:", "  backends:"]
    text = "\n".join([*head, "  - parameters:", *lines, ""])
    (tmp_path / "rows.yaml").write_text(text)
    made = plane.kubectl(
        "create", "--dry-run=client", "--validate=false", "-n", namespace, "-o", "json", "-f", str(tmp_path / "rows.yaml")
    )
    assert made.returncode == 0, made.stderr
    theirs = json.loads(made.stdout)["spec"]["backends"][0]["parameters"]
    [document] = parse_documents(text)[0]
    ours = document.value["spec"]["backends"][0]["parameters"]
    assert {name: ours[name] for name in theirs} == theirs
    assert ours.keys() == theirs.keys()


def test_check_finds_what_the_api_server_refuses_and_passes_what_it_takes(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """A check before the apply is worth its time only if both agree."""
    good, bad = model(), model("bad", current="huge")
    for manifest, code in ((good, Exit.FINE), (bad, Exit.REFUSED)):
        path = PLURALS["VirtualModel"]
        answer = plane.request("POST", f"{path[0]}/namespaces/{namespace}/{path[1]}", manifest)
        checked = run_cli("check", write_manifests(tmp_path / "file.yaml", manifest))
        assert checked.code == code, checked
        assert (answer.status == 201) == (code == Exit.FINE), answer.body


def test_imported_configuration_applies_and_is_served(stage: RealStage, tmp_path: Path) -> None:
    """A plain configuration of one program ends as documents of a gateway, through kubectl."""
    imported = run_cli("import", str(ROOT / "tests" / "data" / "config.yml"))
    assert imported.code == Exit.FINE, imported
    applied = stage.world.plane.kubectl("apply", "-n", stage.namespace, "-f", "-", input=imported.out)
    assert applied.returncode == 0, applied.stderr
    done = stage.run("wait", "vmodel/demo1", "vmodel/org-chat-v2.1", "gwc/main", "-n", stage.namespace, "--timeout", "15s")
    assert done.code == Exit.FINE, done
    assert set(stage.world.models()) == {"demo1", "org/Chat_v2.1"}
    assert stage.world.values("main-credentials")["main-backends.demo1.small"] == "sk-small"


def test_render_of_files_is_what_the_operator_writes(stage: RealStage, tmp_path: Path) -> None:
    """The offline rendering and the cluster's document are the same bytes."""
    manifests = [gateway(app={"debug": True}), keys(), model(), model("off", use=False)]
    stage.create(*manifests)
    stage.settle()
    rendered = run_cli("render", write_manifests(tmp_path / "all.yaml", *manifests), "-o", str(tmp_path / "out"), "-n", "x")
    assert rendered.code == Exit.FINE, rendered
    assert (tmp_path / "out" / "x" / "main" / "config" / "config.yml").read_text() == stage.world.data("main-config")[
        "config.yml"
    ]


def test_api_server_that_is_not_there_is_exit_code_3(plane: ControlPlane, tmp_path: Path) -> None:
    """A refused connection is told in a sentence, with an exit code that is not that of a refusal."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(plane.kubeconfig.read_text().replace(plane.url, "https://127.0.0.1:1"))
    for command in (("status",), ("diff",), ("wait", "vmodel/chat", "--timeout", "0")):
        done = run_cli(*command, "-n", "default", "--kubeconfig", str(kubeconfig))
        assert done.code == Exit.CLUSTER, done
        assert "error: " in done.err
        assert "Traceback" not in done.err


def test_kubectl_finds_the_command_as_a_plugin(plane: ControlPlane, tmp_path: Path) -> None:
    """`kubectl aigateway status` works, and the help calls it so."""
    plugin = tmp_path / "kubectl-aigateway"
    start = f"import sys; sys.argv[0] = {str(plugin)!r}; from aigateway_operator.cli import main; sys.exit(main())"
    plugin.write_text(f"#!{sys.executable}\n{start}\n")
    plugin.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "operator")}
    environment["KUBECONFIG"] = str(plane.kubeconfig)
    command = [str(plane.binaries["kubectl"]), "aigateway"]
    shown = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "usage: kubectl aigateway" in shown.stdout, shown.stderr
    status = [*command, "status", "-n", "kube-system"]
    seen = subprocess.run(status, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (seen.returncode, seen.stdout) == (0, "No GatewayConfig here. Look elsewhere with -n NAMESPACE or -A.\n"), (
        seen.stderr
    )
