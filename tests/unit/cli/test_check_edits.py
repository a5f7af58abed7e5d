"""`aigateway check` on edits: against older files or the cluster, with the rules on edits and the ratchet of admission."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.cli.annotations import annotation
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import ERROR, NOTE, WARNING, Finding
from aigateway_operator.errors import ClusterError, Forbidden, NotFound
from aigateway_operator.kube.resources import GATEWAY_CONFIGS
from tests.cli_suite import Manifest, gateway, model, run_cli, write_manifests
from tests.unit.cli.conftest import FakeStage

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "http://127.0.0.1:8000"
APP = {"host": "0.0.0.0", "port": 8000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    return tmp_path


def against(folder: Path, old: Manifest, new: Manifest, *more: str) -> Any:
    """Check `new` as an edit of `old`."""
    before, after = write_manifests(folder / "old.yaml", old), write_manifests(folder / "new.yaml", new)
    return run_cli("check", after, "--against", before, *more)


def test_removed_key_is_refused_only_as_an_edit(folder: Path) -> None:
    """The new file alone is fine; against the old one the key is missing, and the line is that of its section."""
    old, new = gateway(app=APP), gateway(app={"host": "0.0.0.0"})
    assert run_cli("check", write_manifests(folder / "new.yaml", new)).code == Exit.FINE
    checked = against(folder, old, new)
    assert checked.code == Exit.REFUSED
    assert (
        "GatewayConfig/main: spec.app.port: Cannot delete key 'port' from spec.app. Structure is fixed. "
        "To go back, set it to its default 8000. [R2]"
    ) in checked.out
    assert against(folder, new, old).code == Exit.FINE, "setting an unset key is no removal"


def test_shards_are_refused_as_an_edit(folder: Path) -> None:
    """As CEL refuses it."""
    checked = against(folder, gateway(delivery={"shards": 1}), gateway(delivery={"shards": 4}), "-o", "json")
    assert [(one["severity"], one["path"], one["rule"]) for one in checked.data] == [("error", "spec.delivery.shards", "R22")]


def test_what_was_broken_before_is_a_warning(folder: Path) -> None:
    """As at admission; a new fault beside it is an error, and the same value elsewhere changed is one too."""
    stored = model(baseUrl=LOOPBACK)
    checked = against(folder, stored, model(baseUrl=LOOPBACK, use=False))
    assert checked.code == Exit.FINE
    assert "warning: spec.baseUrl: " in checked.out
    assert "1 VirtualModel checked: 1 warning." in checked.out
    assert against(folder, stored, model(baseUrl="http://127.0.0.1:9000")).code == Exit.REFUSED
    assert against(folder, stored, model(baseUrl=LOOPBACK, current="tiny")).code == Exit.REFUSED


def test_new_object_beside_edited_ones_is_held_to_all_rules(folder: Path) -> None:
    """What the old files do not hold would be created."""
    new = write_manifests(folder / "new.yaml", gateway(app=APP), model(current="tiny"))
    old = write_manifests(folder / "old.yaml", gateway(app=APP))
    checked = run_cli("check", new, "--against", old)
    assert checked.code == Exit.REFUSED
    assert "VirtualModel/chat: spec.current" in checked.out


def test_same_name_in_another_namespace_is_another_object(folder: Path) -> None:
    """Objects are told apart by kind, namespace and name."""
    old = gateway(app=APP)
    old["metadata"]["namespace"] = "elsewhere"
    assert against(folder, old, gateway(app={})).code == Exit.FINE
    assert against(folder, old, gateway(app={}), "-n", "elsewhere").code == Exit.REFUSED


def test_old_objects_may_come_from_folders_and_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`git show HEAD:models.yaml | aigateway check models.yaml --against -`."""
    new = write_manifests(folder / "new.yaml", gateway(app={}))
    (folder / "old").mkdir()
    write_manifests(folder / "old" / "gateway.yaml", gateway(app=APP))
    assert run_cli("check", new, "--against", str(folder / "old")).code == Exit.REFUSED
    text = yaml.safe_dump(gateway(app=APP)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert run_cli("check", new, "--against", "-").code == Exit.REFUSED


def test_stdin_cannot_be_both_new_and_old() -> None:
    """Half of it would be missing on one side."""
    checked = run_cli("check", "-", "--against", "-")
    assert checked.code == Exit.USAGE
    assert "stdin (-) can be read once" in checked.err


def test_old_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    """A comparison with nothing would call every edit fine. Its broken rules, on the other hand, are nobody's business."""
    new = write_manifests(folder / "new.yaml", gateway(app={}))
    checked = run_cli("check", new, "--against", str(folder / "gone.yaml"))
    assert checked.code == Exit.REFUSED
    assert "gone.yaml: cannot be read" in checked.out


def test_live_compares_with_the_cluster(stage: FakeStage, folder: Path) -> None:
    """Edited objects by the rules on edits, new ones by all others."""
    stage.create(gateway(app=APP), model(baseUrl=LOOPBACK))
    new = write_manifests(folder / "new.yaml", gateway(app={"host": "0.0.0.0"}), model(baseUrl=LOOPBACK), model("other"))
    checked = stage.run("check", new, "--live", "-n", stage.namespace)
    assert checked.code == Exit.REFUSED
    assert "spec.app.port: Cannot delete key 'port'" in checked.out
    assert "warning: spec.baseUrl: " in checked.out
    assert "1 GatewayConfig, 2 VirtualModels checked: 1 error, 1 warning" in checked.out


def test_live_needs_no_right_to_list(stage: FakeStage, folder: Path) -> None:
    """`get` alone is enough to compare; an object that is not there is new."""
    new = write_manifests(folder / "new.yaml", gateway(app={}))
    stage.cluster.faults_of_lists = {GATEWAY_CONFIGS: Forbidden("no", status=403)}
    assert stage.run("check", new, "--live", "-n", stage.namespace).code == Exit.FINE


@pytest.mark.parametrize("error", [ClusterError("is out of reach"), NotFound("the server could not find it", status=404)])
def test_live_without_cluster_or_kind_is_an_error_of_the_cluster(stage: FakeStage, folder: Path, error: ClusterError) -> None:
    """Neither may pass for "nothing is stored"."""
    stage.cluster.faults[GATEWAY_CONFIGS] = error
    new = write_manifests(folder / "new.yaml", gateway(app={}))
    assert stage.run("check", new, "--live", "-n", stage.namespace).code == Exit.CLUSTER


def test_live_and_against_exclude_each_other(folder: Path) -> None:
    """There is one stored state."""
    assert run_cli("check", "x.yaml", "--live", "--against", "y.yaml").code == Exit.USAGE


def test_github_annotations_stand_at_file_and_line(folder: Path) -> None:
    """One workflow command a finding, and the summary; exit codes as ever."""
    file = folder / "m.yaml"
    file.write_text(yaml.safe_dump(model(current="tiny"), sort_keys=False))
    line = 1 + file.read_text().splitlines().index("  current: tiny")
    checked = run_cli("check", str(file), "-o", "github")
    assert checked.code == Exit.REFUSED
    expected = (
        f"::error file={file},line={line},title=VirtualModel/chat R4::spec.current: 'tiny' names no backend. "
        "Backends: small, big. Set current to one of them, or add the backend."
    )
    assert checked.out.splitlines() == [expected, "1 VirtualModel checked: 1 error."]
    fine = run_cli("check", str(ROOT / "examples" / "01-quickstart"), "-o", "github")
    assert fine.code == Exit.FINE
    assert all(one.startswith("::notice ") for one in fine.out.splitlines()[:-1])


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding(ERROR, "a,b:c%.yaml", 3, message="50%\r\nnext"), "::error file=a%2Cb%3Ac%25.yaml,line=3::50%25%0D%0Anext"),
        (Finding(WARNING, "-", 3, "VirtualModel", "chat", "spec", message="m"), "::warning title=VirtualModel/chat::spec: m"),
        (Finding(NOTE, "-", message="m"), "::notice::m"),
        (Finding(NOTE, "f.yaml", message="m"), "::notice file=f.yaml::m"),
    ],
)
def test_annotation_is_escaped_and_leaves_out_what_is_not_known(finding: Finding, line: str) -> None:
    """A line break in a message would end the command, and what follows could be another command."""
    assert annotation(finding) == line


def test_pre_commit_hook_runs_check_on_manifests() -> None:
    """The hook that other repositories name is this command, on the files that it reads."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == "aigateway check"
    assert hook["id"] == "aigateway-check"
    assert hook["additional_dependencies"] == [".[operator]"], "the command needs more than what pods install"
