"""`python -m hack.demo [--keep]`: set the stage, act, print the table, clear away.

Exit code 0 only if everything shown was true. Ctrl-C and SIGTERM leave nothing behind. With `--keep` the servers stay,
held by a process of their own whose end takes them along. Called by `make demo`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from hack.binaries import MissingBinaries, ensure
from hack.controlplane import NEEDED, ControlPlane
from hack.demo import acts_callers, acts_edits, acts_mistakes
from hack.demo.door import NAMES
from hack.demo.front import CALLER_KEY, LOOPBACK
from hack.demo.screen import Screen
from hack.demo.show import NAMESPACE, Show, revision
from hack.operatorprocess import MANIFESTS, USER, OperatorProcess
from hack.process import ServerError

ROOT: Final = Path(__file__).resolve().parents[2]
CRDS: Final = ROOT / "crds"
ACTS: Final[tuple[Callable[[Show], None], ...]] = (
    acts_edits.apply_manifests,
    acts_edits.switch_current,
    acts_edits.switch_off,
    acts_edits.rotate_secret,
    acts_mistakes.refused_at_the_door,
    acts_mistakes.broken_beside_good,
    acts_mistakes.invalid_edit_keeps_last_good,
    acts_mistakes.fixed_structure,
    acts_edits.restore_by_hand_edited,
    acts_edits.delete_model,
    acts_edits.delete_gateway,
    acts_callers.start_gateways,
    acts_callers.call,
    acts_callers.flip,
    acts_callers.refused_edit,
    acts_callers.rotate_caller_key,
    acts_callers.store_away,
)
CAUTION: Final = "The figures are of this machine, with everything on it."
_INTERRUPTED: Final = threading.Event()
"""Set by a signal, since what it raises is lost if it comes while Python calls a finalizer; seen before the next act."""
_TOKEN_SECONDS: Final = 3600
_KEPT_TOKEN_SECONDS: Final = 7 * 24 * 3600
_STATUS_TIMEOUT_SECONDS: Final = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0: all was true, 1: something was not or could not be started, 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description="The operator at work on a real API server.")
    parser.add_argument("--keep", action="store_true", help="leave everything running and say how to reach it")
    keep = parser.parse_args(arguments).keep
    os.chdir(ROOT)  # commands name files as a user in the clone would
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _in_background() if keep else _run(Screen())
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is gone.", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    _INTERRUPTED.set()
    raise KeyboardInterrupt


def _run(screen: Screen, when_done: Callable[[int], None] | None = None) -> int:
    """Act on a stage of its own. `when_done` gets the exit code while everything still runs, and may stay."""
    started = time.monotonic()
    try:
        seconds = _TOKEN_SECONDS if when_done is None else _KEPT_TOKEN_SECONDS
        with _stage(screen, token_seconds=seconds) as (plane, operator), ExitStack() as stack:
            show = Show(plane, operator, screen, stack)
            code = _act(show, started)
            if when_done is not None:
                _say_how_to_reach(show)
                when_done(code)
            return code
    except (MissingBinaries, ServerError) as error:
        screen.failed(f"The demo could not go on: {error}")
        return 1


@contextmanager
def _stage(screen: Screen, *, token_seconds: int) -> Iterator[tuple[ControlPlane, OperatorProcess]]:
    """A control plane with our CRDs, and the operator on it; both gone afterwards."""
    screen.title("The stage: a real control plane and the operator")
    screen.say("kube-apiserver, kube-controller-manager and etcd of your own, on free ports, in a temporary folder.")
    binaries = ensure(NEEDED)
    started = time.monotonic()
    with ControlPlane.start(binaries=binaries, crds=[CRDS]) as plane:
        took_ms = (time.monotonic() - started) * 1000
        version = plane.request("GET", "/version").body["gitVersion"]
        screen.seen(f"Kubernetes {version} at {plane.url}, with RBAC and our CRDs", took_ms)
        screen.command("kubectl apply -f crds/")
        screen.command(f"kubectl apply -f {MANIFESTS.relative_to(ROOT)}")
        screen.command("AIGATEWAY_ALLOW_ADDRESSES=127.0.0.0/8 aigateway run")
        started = time.monotonic()
        with OperatorProcess.start(plane, token_seconds=token_seconds, settings=LOOPBACK | NAMES) as operator:
            took_ms = (time.monotonic() - started) * 1000
            screen.seen(f"The operator runs as process {operator.process.pid} with the rights of {USER}, not as admin", took_ms)
            yield plane, operator


def _act(show: Show, started: float) -> int:
    for act in ACTS:
        if _INTERRUPTED.is_set():
            raise KeyboardInterrupt
        act(show)
    _show_status(show)
    show.screen.title("What was shown")
    show.screen.table(show.table())
    wrong = [row.title for row in show.rows if not row.true]
    shown = f"{len(show.rows) - len(wrong)} of {len(show.rows)} were true, in {time.monotonic() - started:.0f} s."
    show.screen.say(f"{shown} <1 ms: seen before the edit's own answer had arrived.")
    show.screen.say(CAUTION)
    if wrong:
        show.screen.failed(f"Not true: {'; '.join(wrong)}.")
        show.screen.output(show.operator.process.log_tail().splitlines())
    return 1 if wrong else 0


def _show_status(show: Show) -> None:
    """What `aigateway status` says of the namespace after all that."""
    with show.step("`aigateway status`"):
        written = revision(show.current("ConfigMap", "main-config"))
        show.feed.wait("GatewayConfig", "main", lambda obj: obj["status"]["revision"] == written)
        show.screen.command(f"aigateway status -n {NAMESPACE}")
        done = subprocess.run(
            [sys.executable, "-m", "aigateway_operator", "status", "-n", NAMESPACE],
            env={**os.environ, "KUBECONFIG": str(show.plane.kubeconfig), "PYTHONPATH": str(ROOT / "operator")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_STATUS_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        show.screen.output(done.stdout.splitlines())
        if done.returncode != 0:
            raise ServerError(f"aigateway status ended with {done.returncode}: {done.stderr.strip()}")


def _say_how_to_reach(show: Show) -> None:
    screen, plane, operator = show.screen, show.plane, show.operator
    screen.title("Left running, as you asked")
    screen.command(f"export KUBECONFIG={plane.kubeconfig}")
    screen.command(f"export PATH={plane.binaries['kubectl'].parent}:{Path(sys.executable).parent}:$PATH")
    screen.command("export AIGATEWAY_ALLOW_ADDRESSES=127.0.0.0/8   # as the operator has it, for aigateway check and diff")
    screen.command(f"kubectl get vmodel,gwc -n {NAMESPACE}")
    screen.say(f"The operator's log: {operator.log}; its health and metrics: http://127.0.0.1:{operator.health_port}/metrics")
    for address in show.addresses:
        screen.command(f"curl -H 'Authorization: Bearer {CALLER_KEY}' {address}/v1/models")
    screen.say("Stop everything and remove its folder with:")
    screen.command(f"kill {os.getpid()}")


def _in_background() -> int:
    """Act in a child that stays afterwards, away from the terminal; the parent ends with the demo's exit code."""
    reader, writer = os.pipe()
    child = os.fork()  # before any thread or server is started
    if child == 0:
        os.close(reader)
        _child(writer)
    os.close(writer)
    try:
        answer = os.read(reader, 1)
    except KeyboardInterrupt:
        # Ctrl-C has reached the child as well; a SIGTERM to us alone has not.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if answer:
        return answer[0]
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) or 1


def _child(writer: int) -> NoReturn:
    """Act, tell the parent how it went, then only hold what runs until SIGTERM."""

    def stay(code: int) -> None:
        sys.stdout.flush()
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        os.write(writer, bytes([code]))
        os.close(writer)
        while True:
            signal.pause()

    code = 130
    with contextlib.suppress(KeyboardInterrupt):
        code = _run(Screen(), when_done=stay)
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
