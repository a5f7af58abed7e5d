"""How `make test` runs its steps: what a failure, a hang or an interruption leads to."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hack import check
from hack.check import Run, Step, main


def python(code: str) -> tuple[str, ...]:
    """Return a command that runs this code."""
    return sys.executable, "-c", code


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Steps write their logs into the test's folder, not over those of the run this test is part of."""
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "LOGS", tmp_path / ".check")
    (tmp_path / ".check").mkdir()
    return tmp_path / ".check"


def test_a_failure_skips_what_needs_it_and_lets_the_rest_run() -> None:
    """All errors come at once: only steps that build on the failed one are left out, with the reason."""
    run = Run(
        [
            Step("broken", python("raise SystemExit(3)")),
            Step("needs it", python("pass"), after=("broken",)),
            Step("needs that", python("pass"), after=("needs it",)),
            Step("unrelated", python("pass")),
            Step("only later", python("pass"), once_ended=("broken",)),
        ]
    )
    assert run.execute() is False
    assert {name: result.outcome for name, result in run.results.items()} == {
        "broken": "failed",
        "needs it": "skipped",
        "needs that": "skipped",
        "unrelated": "passed",
        "only later": "passed",
    }
    assert run.results["needs it"].detail == "needs broken"


def test_a_failed_test_run_fails_make_test_and_its_closing_line_comes_last(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """CI reads the exit code and the last line: both tell that a test failed."""
    test = logs.parent / "test_fails.py"
    test.write_text('"""x."""\ndef test_fails():\n    assert 1 == 2\ndef test_passes():\n    assert True\n')
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, str(test))
    monkeypatch.setattr(check, "whole_run", lambda: [Step("unit tests", command)])
    assert main([]) == 1
    printed = capfd.readouterr().out.splitlines()
    assert check.is_closing_line(printed[-1])
    assert "1 failed, 1 passed" in printed[-1]
    assert any("assert 1 == 2" in line for line in printed), "a failure that was not shown as it came is shown whole"


def pytest_step(folder: Path, name: str, body: str) -> Step:
    """Return a step as `make test` makes them, for one file of tests."""
    file = folder / f"test_{name}.py"
    file.write_text(body)
    command = (sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), str(file))
    kept = ("-o", f"cache_dir={folder / 'failed'}")
    return Step(name, (*command, *kept), again=(*command, *kept, "--last-failed", "--last-failed-no-failures", "none"))


def test_a_test_that_passes_alone_is_named_and_does_not_fail_the_run(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What only fails beside others is run again, without those that passed, and its name stands at the end."""
    body = (
        "import pathlib\n"
        f"folder = pathlib.Path({str(logs)!r})\n"
        "def mark(name):\n"
        "    with (folder / name).open('a') as file: return file.tell(), file.write('x')\n"
        "def test_passes(): mark('passes')\n"
        "def test_fails_once(): assert mark('once')[0]\n"
    )
    monkeypatch.setattr(check, "whole_run", lambda: [pytest_step(logs, "tests", body)])
    assert main([]) == 0
    printed = capfd.readouterr().out
    assert "tests: failed beside other tests and passed alone" in printed
    assert "::test_fails_once" in printed.rsplit("passed alone. A race", 1)[1]
    assert ((logs / "once").read_text(), (logs / "passes").read_text()) == ("xx", "x")


@pytest.mark.parametrize(("failing", "runs"), [(1, 2), (3, 2), (4, 1)])
def test_tests_that_fail_alone_too_or_are_many_fail_the_run_and_are_named(
    failing: int, runs: int, logs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A second look forgives nothing that fails again, and is not given to a run that broke."""
    body = (
        "import pathlib, pytest\n"
        f"@pytest.mark.parametrize('n', range({failing}))\n"
        "def test_fails(n):\n"
        f"    with pathlib.Path({str(logs / 'ran')!r}).open('a') as file: file.write('x')\n"
        "    assert False, 'for good'\n"
    )
    monkeypatch.setattr(check, "whole_run", lambda: [pytest_step(logs, "tests", body)])
    assert main([]) == 1
    assert (logs / "ran").read_text() == "x" * failing * runs
    end = capfd.readouterr().out.rsplit("tests failed. Whole output", 1)[1]
    assert end.count("FAILED ") == failing


def test_a_step_beyond_its_limit_is_ended_with_what_it_started(logs: Path) -> None:
    """A hang fails with its limit named; the process it started is gone too."""
    child = logs / "child"
    code = (
        "import pathlib, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(p.pid))\n"
        "p.wait()"
    )
    run = Run([Step("hangs", python(code), limit_seconds=2)])
    assert run.execute() is False
    assert run.results["hangs"].detail == "was not done after 2 s and was ended"
    assert not is_running(int(child.read_text()))


def test_two_steps_that_need_nothing_of_each_other_run_at_the_same_time(logs: Path) -> None:
    """Each waits for the other's file: one after the other, neither would end."""
    code = (
        "import pathlib, sys, time\n"
        "mine, other = (pathlib.Path(p) for p in sys.argv[1:])\n"
        "mine.touch()\n"
        "while not other.exists(): time.sleep(0.02)"
    )
    one, two = str(logs / "one"), str(logs / "two")
    run = Run(
        [
            Step("one", (*python(code), one, two), limit_seconds=20),
            Step("two", (*python(code), two, one), limit_seconds=20),
        ]
    )
    assert run.execute() is True


def test_a_step_that_hardly_computes_takes_nobodys_place(logs: Path) -> None:
    """It starts though two others run, and two others run though it does: all three wait for each other."""
    code = (
        "import pathlib, sys, time\n"
        "mine, *others = (pathlib.Path(p) for p in sys.argv[1:])\n"
        "mine.touch()\n"
        "while not all(other.exists() for other in others): time.sleep(0.02)"
    )
    files = [str(logs / name) for name in ("one", "two", "three")]
    steps = [Step(file, (*python(code), file, *files), limit_seconds=20) for file in files]
    assert Run([replace(steps[0], on_top=True), *steps[1:]]).execute() is True
    for file in files:
        Path(file).unlink()
    assert Run([*steps[:2], replace(steps[2], on_top=True)]).execute() is True


def test_every_test_with_servers_is_in_one_step_and_the_gates_wait_for_all() -> None:
    """What one step leaves out another has, from the same folders."""
    steps = {step.name: step for step in check.whole_run()}
    commands = {name: [*steps[name].command] for name in ("patient tests", "lone tests", "server tests")}
    chosen = {name: command[command.index("tests") : command.index("-n")] for name, command in commands.items()}
    assert [words[-2:] for words in chosen.values()] == [
        ["-m", "patient"],
        ["-m", "alone"],
        ["-m", "not patient and not alone"],
    ]
    assert len({tuple(words[:-1]) for words in chosen.values()}) == 1
    assert {"unit tests", *commands} == set(steps["coverage gates"].after) == set(steps["rights"].after)


def test_a_missing_program_is_a_failure_that_names_it() -> None:
    """A step whose command is not there fails with its name, and does not stop the run."""
    run = Run([Step("absent", ("/nonexistent/tool",)), Step("other", python("pass"))])
    assert run.execute() is False
    assert run.results["absent"].detail == "/nonexistent/tool could not be started: No such file or directory"
    assert run.results["other"].outcome == "passed"


def test_sigterm_ends_what_runs(tmp_path: Path) -> None:
    """A cancelled CI job leaves no server behind."""
    code = (
        "import pathlib, sys\n"
        "from hack import check\n"
        f"check.ROOT = pathlib.Path({str(tmp_path)!r}); check.LOGS = check.ROOT / '.check'\n"
        "write = 'import os, pathlib, time; pathlib.Path(\"pid\").write_text(str(os.getpid())); time.sleep(600)'\n"
        "check.whole_run = lambda: [check.Step('sleeps', (sys.executable, '-c', write))]\n"
        "sys.exit(check.main([]))"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(python(code), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pid_file = tmp_path / "pid"
    try:
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "", "the step to start")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "interrupted" in output
    assert not is_running(int(pid_file.read_text()))


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie, once it had a moment to end."""
    state = Path(f"/proc/{pid}/stat")
    try:
        wait_until(lambda: not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z", "the end")
    except AssertionError:
        return True
    return False


def wait_until(condition: object, what: str, within_seconds: float = 10) -> None:
    """Poll a condition; AssertionError names what did not come."""
    assert callable(condition)
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_seconds} s for {what}"
        time.sleep(0.02)
