"""The workflows take what they name and may do what they need, no more; what a release says of itself is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.image.build import add_arguments
from hack.image.steps import ROOT, TARGETS
from hack.kind import commands
from hack.kind.__main__ import parse
from hack.release import main, problems, release_notes, stated_versions

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS: dict[str, dict[Any, Any]] = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
STEPS = [(name, job, step) for name, flow in WORKFLOWS.items() for job in flow["jobs"].values() for step in job["steps"]]


def test_every_action_is_pinned_to_a_commit_with_its_release_beside_it() -> None:
    """A tag can be moved; a commit without a name cannot be reviewed. One action has one commit in all workflows."""
    used = [line.strip() for path in FOLDER.glob("*.yml") for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 10
    assert [line for line in used if not re.fullmatch(r"- uses: [\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line)] == []
    commits: dict[str, set[str]] = {}
    for line in used:
        action, commit = line.removeprefix("- uses: ").split("  #")[0].split("@")
        commits.setdefault(action, set()).add(commit)
    assert {action: found for action, found in commits.items() if len(found) > 1} == {}


def test_workflows_that_pull_requests_start_can_only_read() -> None:
    """Whoever opens a pull request chooses what runs."""
    for name, flow in WORKFLOWS.items():
        triggers = flow[True]  # YAML 1.1 reads the key `on` so
        if "pull_request" in triggers:
            assert flow["permissions"] == {"contents": "read"}, name
            assert [job for job in flow["jobs"].values() if "permissions" in job] == [], name
        assert "pull_request_target" not in triggers, name


def test_release_gives_each_job_what_it_needs_alone() -> None:
    """No job both writes to the repository and runs the project's code; one alone can sign."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    assert WORKFLOWS["release.yml"]["permissions"] == {}
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "plan": {"contents": "read"},
        "test": {"contents": "read"},
        "images": {"contents": "read", "packages": "write"},
        "publish": {"contents": "read", "packages": "write", "id-token": "write"},
        "release": {"actions": "read", "contents": "write"},
    }
    assert [step for step in jobs["release"]["steps"] if "uses" in step] == []


def test_checkouts_leave_no_token_behind_and_jobs_have_an_end() -> None:
    """A token in .git/config would be in reach of every later step; a job that hangs would hang for six hours."""
    checkouts = [step for _, _, step in STEPS if "actions/checkout@" in step.get("uses", "")]
    assert checkouts
    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []
    jobs = [job for flow in WORKFLOWS.values() for job in flow["jobs"].values()]
    assert [job for job in jobs if job.get("timeout-minutes", 999) > 90] == []


def test_scripts_take_outside_values_from_the_environment() -> None:
    """`${{ … }}` inside a script is put in as text before the shell reads it: a branch's name could be a command."""
    assert [step["run"] for _, _, step in STEPS if "${{" in step.get("run", "")] == []


def test_no_workflow_names_a_registry() -> None:
    """Where images go is the repository's setting."""
    text = (FOLDER / "release.yml").read_text()
    assert "vars.IMAGE_REGISTRY" in text
    assert re.findall(r"[\w-]+(?:\.[\w-]+)*\.(?:io|com|dev)\b", text) == []


def test_release_builds_every_target_for_both_processors_and_signs_what_it_pushes() -> None:
    """SBOM and provenance are made with the image, and every digest that is pushed is signed."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    matrix = jobs["images"]["strategy"]["matrix"]
    assert (matrix["target"], [p["arch"] for p in matrix["platform"]]) == (list(TARGETS), ["amd64", "arm64"])
    build = next(step["run"] for step in jobs["images"]["steps"] if "buildx build" in step.get("run", ""))
    assert {"--provenance=mode=max", "--sbom=true", "--push"} <= set(build.split())
    published = "\n".join(step.get("run", "") for step in jobs["publish"]["steps"])
    assert published.count("cosign sign ") == 2
    assert "cosign sign-blob" in published
    assert jobs["publish"]["needs"] == ["plan", "images"]
    assert jobs["images"]["needs"] == ["plan", "test"]


def test_commands_of_workflows_exist() -> None:
    """What they call of ours takes the arguments that they give."""
    import argparse

    asked = [step["run"] for _, _, step in STEPS if "python -m hack" in step.get("run", "")]
    assert len(asked) == 3
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.parse_args(["operator", "--engine", "docker", "--look", "x/y:z"])
    matrix = WORKFLOWS["e2e.yml"]["jobs"]["kind"]["strategy"]["matrix"]["kubernetes"]
    assert [parse([f"--kubernetes={version}"]).kubernetes for version in matrix] == list(commands.NODE_IMAGES)


def test_all_places_state_one_version() -> None:
    """Chart, packages and project are released together."""
    assert set(stated_versions(ROOT)) >= {"pyproject.toml", "charts/aigateway/Chart.yaml (version)"}
    assert len(set(stated_versions(ROOT).values())) == 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a small project of version 1.2.3 with its changelog."""
    (tmp_path / "charts/aigateway").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "charts/aigateway/Chart.yaml").write_text('version: 1.2.3\nappVersion: "1.2.3"\n')
    for package in ("aigateway_operator", "aigateway_gateway"):
        (tmp_path / "operator" / package).mkdir(parents=True)
        (tmp_path / "operator" / package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - today\n### Added\n- One.\n\n## [1.2.2]\n- Two.\n"
    )
    return tmp_path


def test_tag_that_fits_is_a_release_with_its_own_notes(project: Path) -> None:
    """Nothing is told, and the notes are those of this version alone."""
    assert problems("v1.2.3", "images.example.com/ai", project) == []
    assert release_notes("1.2.3", project) == "### Added\n- One."


def test_all_that_is_wrong_with_a_release_is_told_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tag, each place of the version, changelog and registry, each with its remedy."""
    (project / "charts/aigateway/Chart.yaml").write_text("version: 1.2.2\nappVersion: 1.2.3\n")
    told = problems("1.2.4", "https://Images.example.com", project)
    assert len(told) == 8
    assert "charts/aigateway/Chart.yaml (version) says '1.2.2', the tag says '1.2.4'; make them equal and tag again." in told
    assert main(["check", "--tag=v0.0.1"]) == 1
    assert "IMAGE_REGISTRY" in capsys.readouterr().err
