"""kubeconform, kube-score and checkov find nothing in what the chart renders but what waivers.yaml accepts, with reasons.

kubeconform and kube-score come with the other binaries (`python -m hack binaries`) and always run. checkov is a Python
package with a hundred others behind it: `pip install checkov` in an environment of its own, and its test runs where
`checkov` is on PATH.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from hack.controlplane import ControlPlane
from tests.chart.rendering import PRESETS, ROOT, Object, one, preset, template
from tests.chart.schemas import LOCATION, Kind, write_schemas
from tests.conftest import require_binaries

WAIVERS: Final[list[dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "waivers.yaml").read_text())
COMPOSE: Final = ROOT / "examples" / "04-local" / "compose.yaml"
"""The one file of the examples that is no manifest."""
FOREIGN: Final = (
    *("monitoring.coreos.com/", "cert-manager.io/", "argoproj.io/"),
    *("helm.toolkit.fluxcd.io/", "kustomize.toolkit.fluxcd.io/", "source.toolkit.fluxcd.io/"),
)
"""Groups of kinds that others install, and whose schemas are not here."""
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def waived(tool: str) -> set[str]:
    """Return the findings of a tool that are accepted."""
    return {finding for waiver in WAIVERS for finding in waiver.get(tool, [])}


def test_there_are_at_most_five_waivers_and_each_has_a_reason() -> None:
    """A list that grows is no list of exceptions."""
    assert len(WAIVERS) <= 5
    assert [waiver for waiver in WAIVERS if len(waiver["reason"]) < 40] == []


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The defaults and every preset, a file each."""
    folder = tmp_path_factory.mktemp("rendered")
    files = []
    for name in ("defaults", *PRESETS):
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(template(None if name == "defaults" else yaml.safe_load(preset(name).read_text())))
    return files


def objects_in(file: Path) -> list[Object]:
    """Return the objects of a file of manifests."""
    return [obj for obj in yaml.load_all(file.read_text(), Loader=_LOADER) if obj]


def changed(file: Path, old: str, new: str, folder: Path) -> Path:
    """Return a copy of a file in which the first `old` is `new`."""
    text = file.read_text()
    assert old in text
    copy = folder / f"{len(list(folder.iterdir()))}-{file.name}"
    copy.write_text(text.replace(old, new, 1))
    return copy


def advice(file: Path) -> set[str]:
    """Return what kube-score finds in a file, critical or warning."""
    command = [str(require_binaries(["kube-score"])["kube-score"]), "score", "--output-format", "ci", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "[OK]" in done.stdout, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
    return {line.partition(": ")[2].rpartition(") ")[2] for line in lines}


def test_kube_score_finds_only_what_is_waived(rendered: list[Path], tmp_path: Path) -> None:
    """Every waiver is still needed; a root file system that can be written is found, so the tool does look."""
    assert set[str]().union(*map(advice, rendered)) == waived("kube-score")
    fault = changed(rendered[0], "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", tmp_path)
    assert advice(fault) - waived("kube-score") == {"The pod has a container with a writable root filesystem"}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What kubeconform says: how many objects are valid by kind, and "file: kind/name: why" of those that are not."""

    valid: Counter[Kind]
    faults: list[str]


@pytest.fixture(scope="module")
def openapi(plane: ControlPlane) -> dict[str, Any]:
    """What the API server says of its own kinds."""
    answer = plane.request("GET", "/openapi/v2")
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


def conform(openapi: dict[str, Any], files: Sequence[Path], folder: Path) -> Verdicts:
    """Run kubeconform -strict over files with no schemas but those of this server and of our CRDs."""
    objects = [obj for file in files for obj in objects_in(file)]
    kinds: set[Kind] = {(obj["apiVersion"], obj["kind"]) for obj in objects}
    foreign = {"/".join(kind) for kind in kinds if kind[0].startswith(FOREIGN)}
    write_schemas(openapi, ROOT / "crds", kinds, folder)
    command = [str(require_binaries(["kubeconform"])["kubeconform"]), "-strict", "-verbose", "-output", "json"]
    command += ["-schema-location", f"{folder}/{LOCATION}", "-skip", ",".join(sorted(foreign)), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [said for said in json.loads(done.stdout)["resources"] if said["status"]]  # others are empty documents
    assert len(said) == len(objects), done.stderr
    valid = Counter((obj["version"], obj["kind"]) for obj in said if obj["status"] == "statusValid")
    wrong = [obj for obj in said if obj["status"] not in ("statusValid", "statusSkipped")]
    return Verdicts(valid, sorted(f"{Path(obj['filename']).name}: {obj['kind']}/{obj['name']}: {obj['msg']}" for obj in wrong))


@pytest.mark.apiserver
def test_kubeconform_finds_nothing_in_the_chart_and_in_the_examples(
    openapi: dict[str, Any], rendered: list[Path], tmp_path: Path
) -> None:
    """By the schemas of this server and of our CRDs, without network; no object is passed over but of others' kinds."""
    examples = [path for path in sorted((ROOT / "examples").rglob("*.yaml")) if path != COMPOSE]
    full = objects_in(rendered[-1])
    applied = tmp_path / "applied.yaml"  # what the full preset's Job applies
    applied.write_text("\n---\n".join(one(full, "ConfigMap", "aigateway-gateway-manifests")["data"].values()))
    verdicts = conform(openapi, [*rendered, applied, *examples], tmp_path)
    assert verdicts.faults == []
    assert verdicts.valid["apps/v1", "Deployment"] > 8
    assert verdicts.valid["ai-gateway.io/v1alpha1", "VirtualModel"] > 8
    assert verdicts.valid["ai-gateway.io/v1alpha1", "GatewayConfig"] > 6
    assert verdicts.valid["apiextensions.k8s.io/v1", "CustomResourceDefinition"] >= 2 * len(rendered)


@pytest.mark.apiserver
def test_kubeconform_finds_what_is_planted(openapi: dict[str, Any], rendered: list[Path], tmp_path: Path) -> None:
    """Unknown fields deep inside, wrong types and unknown kinds, in Kubernetes' objects and in ours."""
    models = ROOT / "examples" / "01-quickstart" / "11-models-main.yaml"
    faults, schemas = tmp_path / "faults", tmp_path / "schemas"
    faults.mkdir()
    schemas.mkdir()
    files = [
        changed(rendered[0], "allowPrivilegeEscalation:", "allowPrivilegeEscalations:", faults),
        changed(rendered[0], "replicas: 1", "replicas: one", faults),
        changed(rendered[0], "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", faults),
        changed(models, "model:", "modell:", faults),
        changed(models, "use: true", "use: always", faults),
        changed(models, "metadata:", "metadata:\n  label: {}", faults),
    ]
    found = conform(openapi, files, schemas).faults  # in the order of the files
    words = ("'allowPrivilegeEscalations'", "/replicas", "could not find schema", "'modell'", "/use", "'label'")
    assert len(found) == len(files), found
    assert [(word, fault) for word, fault in zip(words, found, strict=True) if word not in fault] == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("checkov") is None, reason="checkov, a package to be installed apart, is not on PATH")
def test_checkov_finds_only_what_is_waived(rendered: list[Path]) -> None:
    """All checks of its framework for Kubernetes; every waiver is still needed. Runs where `checkov` is on PATH."""
    command = ["checkov", "--framework", "kubernetes", "--compact", "--quiet", "-o", "json"]
    command += [part for file in rendered for part in ("-f", str(file))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    answer = json.loads(done.stdout)
    assert answer["summary"]["parsing_errors"] == 0
    assert {check["check_id"] for check in answer["results"]["failed_checks"]} == waived("checkov")
