"""Run every check and test of the project: `make test`, and so CI.

A small graph of steps: those that need nothing of each other run side by side, two at a time, since a first run builds
servers for about ten minutes while linting, types and unit tests need none of them. Every step is named with its time,
every failure is shown, and the end repeats the names of failed tests and pytest's own closing lines. At most three tests that
failed beside others are run again, alone: one that passes then does not fail the run and is named at its end, since it tells
of a race to be mended (docs/decisions.md, "Tests that fail once"). Standard library only: it runs before anything
is installed. It must not know how environments (hack/venv.py) or servers (hack/binaries.py) are made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final, Literal

ROOT: Final = Path(__file__).resolve().parent.parent
LOGS: Final = ROOT / ".check"
RIGHTS: Final = LOGS / "rights"
"""Where tests with a control plane leave which of the chart's rights were used."""
VENV_BIN: Final = ROOT / ".venv" / "bin"
LIGHT_TESTS: Final = ("tests/unit", "tests/contract")
"""Folders whose tests need no server. Whatever else is under tests/ runs with servers: no new folder is forgotten."""
TESTS: Final = ("unit tests", "patient tests", "server tests", "lone tests")
"""The steps that have all tests between them, each test in one."""
WORKERS: Final = os.environ.get("AIGATEWAY_TEST_WORKERS", "2")
"""pytest-xdist workers of tests that compute: one a core."""
SERVER_WORKERS: Final = os.environ.get("AIGATEWAY_TEST_WORKERS", "3")
"""Those of tests with servers, each with a control plane of its own (about 600 MB). They wait for a third of their time: two
leave 40 % of two cores idle, three about 10 %.
"""
SIDE_BY_SIDE: Final = 2
"""Steps at a time, one a core; those that hardly compute come on top, or they would hold up all others."""
MAX_AGAIN: Final = 3
"""More failed tests than these are no accident of a busy machine, and are not run again."""

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command. `after` names the steps that must have passed; `limit_seconds` ends one that hangs.

    again: the command that runs only the tests that failed, one after the other; () for a step that gets no second look.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    once_ended: tuple[str, ...] = ()  # steps that must be over, however they ended
    limit_seconds: float = 600
    live: bool = False  # lines are shown as they come
    on_top: bool = False  # hardly computes: it starts beside as many others as there may be
    env: dict[str, str] = field(default_factory=dict)
    again: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How a step ended; `detail` is why when it did not pass, else pytest's closing line or ''.

    failures: the lines with which pytest names tests that failed, also of a step that passed because they passed alone.
    """

    outcome: Outcome
    seconds: float
    detail: str = ""
    failures: tuple[str, ...] = ()


def whole_run() -> list[Step]:
    """Return every step of `make test`."""
    with_servers = ["tests", *(f"--ignore={folder}" for folder in LIGHT_TESTS), "--dist", "worksteal"]
    return [
        *setup_steps(),
        *lint_steps(),
        Step("site", (sys.executable, "-m", "hack.site"), limit_seconds=600),
        _pytest("unit tests", "light", [*(f for f in LIGHT_TESTS if (ROOT / f).exists()), "-n", WORKERS], after=("venv",)),
        # Two of them last two minutes, the first and the last: one a worker. Nobody waits for their end but the gates.
        _pytest(
            "patient tests", "patient", [*with_servers, "-m", "patient", "-n", "2"], after=("venv", "servers"), on_top=True
        ),
        _pytest(
            "lone tests",
            "alone",
            [*with_servers, "-m", "alone", "-n", "0"],
            after=("venv", "servers"),
            once_ended=("unit tests", "patient tests", "server tests"),
        ),
        _pytest(
            "server tests",
            "servers",
            [*with_servers, "-m", "not patient and not alone", "-n", SERVER_WORKERS],
            after=("venv", "servers"),
            # They time what they see: nothing else may compute beside them.
            once_ended=("ruff", "format", "mypy", "imports", "generated", "site", "unit tests"),
            limit_seconds=4200,
            live=True,
        ),
        Step("coverage gates", (str(VENV_BIN / "python"), "tests/coverage_gates.py", str(LOGS)), after=TESTS),
        Step("rights", (str(VENV_BIN / "python"), "tests/rights.py", str(RIGHTS)), after=TESTS),
    ]


def setup_steps() -> list[Step]:
    """Return the steps that make the environment and fetch the servers."""
    return [
        Step("venv", (sys.executable, "-m", "hack.venv"), limit_seconds=1800, live=True),
        Step("servers", (sys.executable, "-m", "hack", "binaries"), limit_seconds=3600, live=True, on_top=True),
    ]


def lint_steps() -> list[Step]:
    """Return the checks that read the source only."""

    def tool(name: str, *command: str) -> Step:
        return Step(name, (str(VENV_BIN / command[0]), *command[1:]), after=("venv",))

    return [
        tool("ruff", "ruff", "check"),
        tool("format", "ruff", "format", "--check"),
        tool("mypy", "mypy"),
        tool("imports", "lint-imports", "--no-logo"),
        tool("generated", "aigateway", "crds", "--check"),
    ]


def chosen_tests(arguments: str) -> list[Step]:
    """Return the steps for `make test ARGS=…`: set-up, then one pytest run with the arguments; no gates, no lint."""
    command = (str(VENV_BIN / "python"), "-m", "pytest", *shlex.split(arguments))
    return [*setup_steps(), Step("tests", command, after=("venv", "servers"), limit_seconds=4200, live=True)]


def _pytest(
    name: str,
    data: str,
    arguments: Iterable[str],
    *,
    after: tuple[str, ...],
    once_ended: tuple[str, ...] = (),
    limit_seconds: float = 600,
    live: bool = False,
    on_top: bool = False,
) -> Step:
    """A pytest run whose coverage data goes to a file of its own: a second run would overwrite the first one's."""
    command = (str(VENV_BIN / "python"), "-m", "pytest", "--cov", "--cov-report=", "--no-header", *arguments)
    env = {"COVERAGE_FILE": str(LOGS / f"coverage.{data}"), "PY_COLORS": "0", "TEST_RIGHTS_FOLDER": str(RIGHTS)}
    kept = ("-o", f"cache_dir={LOGS / 'failed'}-{data}")
    again = (*command, *kept, "--last-failed", "--last-failed-no-failures", "none", "--cov-append", "-n", "0")
    return Step(name, (*command, *kept), after, once_ended, limit_seconds, live, on_top, env, again)


class Run:
    """Runs a list of steps to its end and keeps what came of each; Ctrl-C ends every process it started."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Take steps in the order in which they are preferred; names are unique."""
        self.steps = steps
        self.results: dict[str, Result] = {}
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._started: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False

    def execute(self) -> bool:
        """Run all; True if every step passed."""
        try:
            with self._changed:
                while len(self.results) < len(self.steps):
                    self._start_what_can()
                    self._changed.wait(timeout=1)
        except KeyboardInterrupt:
            say("interrupted: ending what runs")
            return False
        finally:
            self._end_all()
        return all(result.outcome == "passed" for result in self.results.values())

    def _start_what_can(self) -> None:
        """Start each step that may run now, skip each that never can. Called with the condition held."""
        for step in self.steps:
            if step.name in self._started:
                continue
            lost = [name for name in step.after if name in self.results and self.results[name].outcome != "passed"]
            if lost:
                self._started.add(step.name)
                self.results[step.name] = Result("skipped", 0, f"needs {', '.join(lost)}")
                self._changed.notify_all()
            elif self._may_start(step):
                self._started.add(step.name)
                threading.Thread(target=self._work, args=(step,), daemon=True).start()

    def _may_start(self, step: Step) -> bool:
        waits_for = (*step.after, *step.once_ended)
        if any(name not in self.results for name in waits_for):
            return False
        computing = [one for one in self.steps if one.name in self._started - set(self.results) and not one.on_top]
        return step.on_top or len(computing) < SIDE_BY_SIDE

    def _work(self, step: Step) -> None:
        try:
            result = self._run(step)
        except OSError as error:
            result = Result("failed", 0, f"{step.command[0]} could not be started: {error.strerror}")
        report(step, result)
        with self._changed:
            self.results[step.name] = result
            self._changed.notify_all()

    def _run(self, step: Step) -> Result:
        result = self._run_command(step, step.command, log_of(step))
        if result.outcome != "failed" or not step.again or not 0 < len(result.failures) <= MAX_AGAIN:
            return result
        say(f"{step.name}: {len(result.failures)} failed; running what failed again, alone")
        second = self._run_command(step, step.again, log_of(step).with_suffix(".again.log"))
        return replace(
            result,
            outcome=second.outcome,
            seconds=result.seconds + second.seconds,
            detail=f"{result.detail.strip('= ')}; again, alone: {second.detail.strip('= ')}",
        )

    def _run_command(self, step: Step, command: tuple[str, ...], log: Path) -> Result:
        say(f"{step.name} …")
        started = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **step.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # a group of its own, so that what it starts can be ended with it
            )
            with self._changed:
                self._running[step.name] = process
                if self._stopping:
                    end(process)
            timed_out = threading.Event()

            def give_up() -> None:
                timed_out.set()
                end(process)

            timer = threading.Timer(step.limit_seconds, give_up)
            timer.start()
            closing, failures = _copy(process, output, (lambda line: say(f"{step.name} | {line}")) if step.live else None)
            code = process.wait()
            timer.cancel()
            with self._changed:
                del self._running[step.name]
        seconds = time.monotonic() - started
        if timed_out.is_set():
            return Result("failed", seconds, f"was not done after {step.limit_seconds:.0f} s and was ended")
        if code:
            return Result("failed", seconds, closing or f"exit code {code}", failures)
        return Result("passed", seconds, closing)

    def _end_all(self) -> None:
        with self._changed:
            self._stopping = True
            for process in self._running.values():
                end(process)


def _copy(process: subprocess.Popen[str], output: IO[str], show: Callable[[str], None] | None) -> tuple[str, tuple[str, ...]]:
    """Copy a process's lines to its log, and to `show`; return pytest's closing line, or '', and those that name failures."""
    closing = ""
    failures: list[str] = []
    assert process.stdout is not None  # asked for above; tells the type checker
    with process.stdout as lines:
        for line in lines:
            output.write(line)
            output.flush()
            text = line.rstrip()
            if is_closing_line(text):
                closing = text
            if text.startswith(("FAILED ", "ERROR ")):
                failures.append(text)
            if show:
                show(text)
    return closing, tuple(failures)


def is_closing_line(text: str) -> bool:
    """Tell whether this is the line with which pytest ends: `==== 12 passed, 1 skipped in 3.45s ====`."""
    return text.startswith("=") and text.endswith("=") and " in " in text and ("s =" in text or ") =" in text)


def end(process: subprocess.Popen[str]) -> None:
    """End a step and all it started: SIGTERM, for servers to be taken down in order, then SIGKILL after ten seconds."""
    for sign, patience_seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sign)  # also when the first process is gone: what it left behind holds its output open
            process.wait(timeout=patience_seconds)


_output = threading.Lock()
_began = time.monotonic()


def say(text: str) -> None:
    """Print one line with the time since the start; steps speak at the same time, lines do not mix."""
    with _output:
        print(f"[{time.monotonic() - _began:6.1f} s] {text}", flush=True)


def log_of(step: Step) -> Path:
    """Return where the whole output of a step is kept."""
    return LOGS / f"{step.name.replace(' ', '-')}.log"


def report(step: Step, result: Result) -> None:
    """Say how a step ended; one that failed unseen is shown whole."""
    if result.outcome == "failed" and not step.live and log_of(step).exists():
        with _output:
            print(f"\n----- {step.name}: {shlex.join(step.command)}", flush=True)
            print(log_of(step).read_text(encoding="utf-8", errors="replace"), flush=True)
            print(f"----- end of {step.name}\n", flush=True)
    detail = f": {result.detail.strip('= ')}" if result.detail else ""
    say(f"{step.name} {result.outcome} in {result.seconds:.1f} s{detail}")


def summarise(run: Run) -> None:
    """Print a table of all steps, what went wrong with its command to repeat it, and pytest's closing lines last."""
    print("\nStep             Result     Time", flush=True)
    for step in run.steps:
        result = run.results.get(step.name, Result("skipped", 0, "interrupted"))
        seconds = f"{result.seconds:7.1f} s" if result.outcome != "skipped" else "        -"
        print(f"{step.name:<16} {result.outcome:<8} {seconds}  {result.detail.strip('= ')}")
    failed = [step for step in run.steps if step.name in run.results and run.results[step.name].outcome == "failed"]
    for step in failed:
        print(f"\n{step.name} failed. Whole output: {log_of(step).relative_to(ROOT)}")
        print(f"Again: {shlex.join(step.command)}")
        print(*run.results[step.name].failures, sep="\n")
    for step in run.steps:
        ended = run.results.get(step.name)
        if ended is not None and ended.outcome == "passed" and ended.failures:
            print(f"\n{step.name}: failed beside other tests and passed alone. A race, in the test or in the code: mend it.")
            print(*ended.failures, sep="\n")
    print()
    for step in run.steps:
        if "pytest" in step.command and step.name in run.results and run.results[step.name].detail:
            print(f"{step.name}:\n{run.results[step.name].detail}")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 only if every step passed."""
    parser = argparse.ArgumentParser(prog="python -m hack.check", description="Run every check and test.")
    parser.add_argument("--lint", action="store_true", help="only the checks that read the source")
    parser.add_argument("--pytest", default="", metavar="ARGUMENTS", help="only one pytest run, with these arguments")
    options = parser.parse_args(arguments)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    if options.lint:
        steps = [setup_steps()[0], *lint_steps()]
    elif options.pytest:
        steps = chosen_tests(options.pytest)
    else:
        steps = whole_run()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a CI's cancel ends the servers too
    run = Run(steps)
    passed = run.execute()
    summarise(run)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
