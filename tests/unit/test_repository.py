"""The repository's own promises: layout, requirements, what no committed file may hold, and what CI runs."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hack.check import is_closing_line, whole_run
from hack.requirements import FILES, inputs_digest
from tests.coverage_gates import COMPLETE_ROOMS, FileCoverage, check_overall, check_room, parse_report

ROOT = Path(__file__).resolve().parents[2]

# Put together from pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("pypi", "python", "org"),
        ("proxy", "golang", "org"),
        ("goproxy", "io"),
        ("goproxy", "cn"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
    ]
]

NOTES = ["".join(parts) for parts in [("DES", "IGN"), ("FA", "CTS"), ("STY", "LE")]]
"""Files that were beside the repository when it was begun, and never in it."""


def committed_files() -> list[Path]:
    """Return what git holds or would add; every file of an unpacked source distribution."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if listed.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def project() -> dict[str, Any]:
    """Return pyproject.toml's [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def pins(name: str) -> dict[str, tuple[Requirement, int]]:
    """Return, by canonical name, each pinned requirement of a file and how many hashes it has."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, tuple[Requirement, int]] = {}
    for line in lines:
        requirement = Requirement(line.split(" --hash=")[0].strip())
        found[canonicalize_name(requirement.name)] = requirement, line.count("--hash=sha256:")
    return found


def test_operator_folder_is_no_package() -> None:
    """An operator/__init__.py would shadow Python's module `operator` for whoever has the root on its path."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_standard_operator_module_wins_with_the_root_on_the_path() -> None:
    """`from operator import eq` is the standard one although tests have the root on their path."""
    import operator

    assert operator.eq(1, 1)
    assert not (operator.__file__ or "").startswith(str(ROOT))


def test_every_package_is_typed() -> None:
    """py.typed is there for each package that the wheel holds, or users' type checkers see nothing."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages
    assert [package for package in packages if not (ROOT / package / "py.typed").is_file()] == []


def test_no_committed_file_names_a_package_registry() -> None:
    """Whoever installs chooses the registry: a host in a committed file would choose for them."""
    hosts = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS), re.IGNORECASE)
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if match := hosts.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_no_committed_file_names_notes_that_nobody_can_open() -> None:
    """A source is a page of docs/, a standard or a file of another project: what a docstring names must be at hand."""
    notes = re.compile(rf"\b(?:{'|'.join(NOTES)})\b|\bresearch/[\w-]+\.md")
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if match := notes.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize("name", FILES)
def test_requirements_are_in_step_with_pyproject(name: str) -> None:
    """The file says from which needs it was resolved; other needs in pyproject.toml ask for `make requirements`."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert f"# inputs: {inputs_digest(FILES[name])}\n" in text, "pyproject.toml has changed: run `make requirements`"


@pytest.mark.parametrize("name", FILES)
def test_every_need_has_a_pin_that_fits(name: str) -> None:
    """Each dependency of the base and the file's extras is pinned to a version inside its range in pyproject.toml."""
    table, pinned, lacking = project(), pins(name), []
    needs = [*table["dependencies"], *(need for extra in FILES[name] for need in table["optional-dependencies"][extra])]
    for need in map(Requirement, needs):
        version = next(iter(pinned[canonicalize_name(need.name)][0].specifier)).version
        if not need.specifier.contains(version):
            lacking.append(f"{need} is pinned to {version}")
    assert lacking == []


@pytest.mark.parametrize("name", FILES)
def test_every_pin_is_exact_and_hashed(name: str) -> None:
    """`pip install --require-hashes` takes nothing else."""
    assert pins(name)
    loose = [str(pin) for pin, hashes in pins(name).values() if not hashes or not str(pin.specifier).startswith("==")]
    assert loose == []


def test_tests_run_with_the_versions_that_are_shipped() -> None:
    """Every pin of runtime.txt is the same in dev.txt, or tests would show something else than what is deployed."""
    runtime, dev = pins("runtime"), pins("dev")
    shipped = {name: str(pin.specifier) for name, (pin, _) in runtime.items()}
    assert {name: str(dev[name][0].specifier) for name in shipped} == shipped


def test_workflow_runs_the_command_that_people_run() -> None:
    """The workflow calls .ci/run and that calls `make test`: what passes here passes there."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert "exec make test </dev/null" in (ROOT / ".ci" / "run").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_workflow_may_only_read_and_pins_its_actions() -> None:
    """A workflow that can write, or an action whose tag is moved, would hand the repository to others."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []


def test_workflow_runs_on_the_oldest_supported_python() -> None:
    """`requires-python` is a promise: the matrix holds its version."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert project()["requires-python"].removeprefix(">=") in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]


def test_every_test_folder_is_run() -> None:
    """The pytest runs of `make test` cover tests/ between them: what the second leaves out, the first runs."""
    runs = {step.name: step.command for step in whole_run() if "pytest" in step.command}
    left_out = {word.removeprefix("--ignore=") for word in runs["server tests"] if word.startswith("--ignore=")}
    existing = {folder for folder in left_out if (ROOT / folder).exists()}
    assert existing == {word for word in runs["unit tests"] if word.startswith("tests/")}
    assert "tests" in runs["server tests"]


def test_every_step_waits_for_steps_that_exist() -> None:
    """A misspelt name would make a step wait for ever."""
    steps = whole_run()
    names = {step.name for step in steps}
    assert {name for step in steps for name in (*step.after, *step.once_ended)} <= names


@pytest.mark.parametrize(
    ("line", "closing"),
    [
        ("============ 12 passed, 1 skipped in 3.45s ============", True),
        ("====== 1 failed, 510 passed in 312.10s (0:05:12) ======", True),
        ("================ no tests ran in 0.01s =================", True),
        ("================== test session starts =================", False),
        ("12 passed in 3.45s", False),
    ],
)
def test_pytests_closing_line_is_known(line: str, closing: bool) -> None:
    """It is repeated at the end of `make test`, where people and CI look for it."""
    assert is_closing_line(line) is closing


def make_coverage(path: str, branches: int = 10, taken: int = 10, missing: tuple[str, ...] = ()) -> FileCoverage:
    """Return what was covered of one file, complete unless told otherwise."""
    return FileCoverage(f"operator/aigateway_operator/{path}", branches, taken, missing)


def test_gate_fails_below_the_overall_share() -> None:
    """84.9 % of branches is not enough, 85 % is; nothing measured is a failure, not a success."""
    assert check_overall([make_coverage("kube/client.py", 1000, 849)])[0] is False
    assert check_overall([make_coverage("kube/client.py", 1000, 850)])[0] is True
    assert check_overall([])[0] is False


@pytest.mark.parametrize("room", COMPLETE_ROOMS)
def test_gate_names_each_branch_never_taken_in_a_pure_room(room: str) -> None:
    """One branch missing in one file fails the room and is named with its file; other rooms do not count."""
    complete, lacking = make_coverage(f"{room}/a.py"), make_coverage(f"{room}/b.py", 10, 9, ("12->exit",))
    assert check_room(room, [complete, make_coverage("kube/c.py", 10, 0, ("1",))])[0] is True
    met, text = check_room(room, [complete, lacking])
    assert not met
    assert f"operator/aigateway_operator/{room}/b.py: 12->exit" in text


def test_gate_fails_for_a_room_that_was_not_measured() -> None:
    """A renamed room must not pass because nothing matches."""
    assert check_room("render", [make_coverage("rendering/a.py")])[0] is False


def test_coverage_report_is_read_with_lines_drawn_together() -> None:
    """Lines in a row are one range, and a branch is named only if its line ran at all."""
    entry = {
        "summary": {"num_branches": 4, "covered_branches": 1},
        "missing_lines": [3, 4, 5, 9],
        "missing_branches": [[9, 10], [12, -1], [14, 20]],
    }
    assert parse_report({"files": {"a.py": entry}}) == [
        FileCoverage("a.py", 4, 1, ("3-5", "9", "12->exit", "14->20")),
    ]
