"""checkov and kube-score find nothing in what the chart renders but what tests/chart/waivers.yaml accepts, with reasons.

Neither tool is part of this project: `pip install checkov` in a venv of its own, `go install github.com/zegl/kube-score/...`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.chart.rendering import PRESETS, preset, template

WAIVERS: Final[list[dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "waivers.yaml").read_text())


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kube-score") is None, reason="kube-score is not on PATH")
def test_kube_score_finds_only_what_is_waived(rendered: list[Path]) -> None:
    """Every finding, critical or warning, and every waiver is still needed."""
    found: set[str] = set()
    for file in rendered:
        command = ["kube-score", "score", "--output-format", "ci", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
        found |= {line.partition(": ")[2].rpartition(") ")[2] for line in lines}
    assert found == waived("kube-score")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("checkov") is None, reason="checkov is not on PATH")
def test_checkov_finds_only_what_is_waived(rendered: list[Path]) -> None:
    """All checks of its framework for Kubernetes; every waiver is still needed."""
    command = ["checkov", "--framework", "kubernetes", "--compact", "--quiet", "-o", "json"]
    command += [part for file in rendered for part in ("-f", str(file))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    answer = json.loads(done.stdout)
    assert answer["summary"]["parsing_errors"] == 0
    assert {check["check_id"] for check in answer["results"]["failed_checks"]} == waived("checkov")
