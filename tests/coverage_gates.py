"""Hold coverage to the gates: 85 % of branches overall, every line and branch of the pure rooms.

Run by hack/check.py after both test runs, with the folder of their data files: `coverage_gates.py FOLDER`. It joins
them, prints a line a gate and what is missing where, and ends with 1 if a gate is not met. A room that was not
measured at all fails: a gate whose pattern matches nothing would pass for ever.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

OVERALL_PERCENT: Final = 85.0
COMPLETE_ROOMS: Final = ("rules", "render", "plan")
"""Pure rooms of aigateway_operator, where each branch is a decision that users rely on."""
SOURCE: Final = "operator/aigateway_operator"


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """What one source file's tests reached; `missing` names lines ("12-14") and branches ("12->exit") never taken."""

    path: str
    branches: int
    branches_taken: int
    missing: tuple[str, ...]


def parse_report(report: dict[str, Any]) -> list[FileCoverage]:
    """Read coverage's JSON report, format 3 (coverage 7)."""
    return [_parse_file(path, entry) for path, entry in sorted(report["files"].items())]


def _parse_file(path: str, entry: dict[str, Any]) -> FileCoverage:
    summary = entry["summary"]
    lines = _ranges(entry["missing_lines"])
    # A line that never ran takes its branches along: naming both would tell the same twice.
    arcs = [(start, stop) for start, stop in entry["missing_branches"] if start not in entry["missing_lines"]]
    named = [f"{start}->{'exit' if stop < 0 else stop}" for start, stop in arcs]
    return FileCoverage(path, summary["num_branches"], summary["covered_branches"], (*lines, *named))


def _ranges(numbers: Iterable[int]) -> list[str]:
    """Return ascending numbers with runs drawn together: [1, 2, 3, 7] is ["1-3", "7"]."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


def check_overall(files: Iterable[FileCoverage]) -> tuple[bool, str]:
    """Return whether enough of all branches were taken, and a line that says so."""
    known = list(files)
    total = sum(file.branches for file in known)
    taken = sum(file.branches_taken for file in known)
    if not total:
        return False, "overall: no branch was measured; did the tests run with --cov?"
    percent = 100 * taken / total
    return (
        percent >= OVERALL_PERCENT,
        f"overall: {percent:.2f} % of {total} branches taken ({OVERALL_PERCENT:g} % asked)",
    )


def check_room(room: str, files: Iterable[FileCoverage]) -> tuple[bool, str]:
    """Return whether every line and branch of a room was reached, and lines that say what was not."""
    inside = [file for file in files if f"{SOURCE}/{room}/" in file.path or file.path.endswith(f"{SOURCE}/{room}.py")]
    if not inside:
        return False, f"{room}: not measured at all; is {SOURCE}/{room} there and imported by a test?"
    lacking = [f"  {file.path}: {', '.join(file.missing)}" for file in inside if file.missing]
    branches = sum(file.branches for file in inside)
    if lacking:
        return False, "\n".join([f"{room}: every line and branch is asked; never reached by a test:", *lacking])
    return True, f"{room}: all of {branches} branches in {len(inside)} files taken"


def _join(folder: Path) -> dict[str, Any]:
    """Join the runs' data files with the coverage tool and return its report. Raises CalledProcessError."""
    env = {**os.environ, "COVERAGE_FILE": str(folder / "coverage")}
    report = folder / "report.json"
    for command in (["combine", "--keep", str(folder)], ["json", "--quiet", "-o", str(report)]):
        subprocess.run([sys.executable, "-m", "coverage", *command], env=env, check=True, timeout=120)
    joined: dict[str, Any] = json.loads(report.read_text())
    return joined


def main(folder: Path) -> int:
    """Check all gates and print each; 1 if one is not met."""
    try:
        files = parse_report(_join(folder))
    except subprocess.CalledProcessError as error:
        print(f"coverage gates: {error}; the tests of `make test` leave their data in {folder}", file=sys.stderr)
        return 1
    gates = [check_overall(files), *(check_room(room, files) for room in COMPLETE_ROOMS)]
    for met, text in gates:
        print(("met     " if met else "NOT MET ") + text)
    return 0 if all(met for met, _ in gates) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
