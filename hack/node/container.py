"""One container of a pod: its process, its probes, and starting it again when it has ended.

For use from its pod's thread only. Called by `hack.node.pod`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hack.node.containers import CannotStart, Program, command_of, mounts_of
from hack.node.probes import Probe, ask
from hack.node.status import ContainerState, rfc3339
from hack.process import ServerProcess

_ROOT: Final = Path(__file__).resolve().parents[2]
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between restarts; a kubelet begins at 10 s and goes up to 5 minutes."""


class Container:
    """A container that is started, probed, started again and ended. `state` is what its pod's status says of it."""

    def __init__(self, spec: Mapping[str, Any], log: Path) -> None:
        self.spec = spec
        self.state = ContainerState(spec["name"], spec.get("image", ""))
        self.log = log
        self._process: ServerProcess | None = None
        self._program: Program | None = None
        self._folders = Path()
        self._ip = ""
        self._probes: dict[str, Probe] = {}
        self._pause, self._start_at = _FIRST_PAUSE_SECONDS, 0.0

    @property
    def pid(self) -> int | None:
        """Process id; None when it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.running

    def start(self, program: Program, folders: Path, ip: str) -> None:
        """Start the process; its probes begin to count."""
        self._program, self._folders, self._ip = program, folders, ip
        measured = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        base = {"PYTHONPATH": str(_ROOT / "operator"), "PYTHONUNBUFFERED": "1", **measured}
        self._process = ServerProcess(f"container {self.spec['name']}", self.log, environment={**base, **program.environment})
        self._process.start(program.command)
        now = time.monotonic()
        kinds = {"startup": False, "readiness": False, "liveness": True}
        self._probes = {kind: Probe(self.spec.get(f"{kind}Probe"), now, at_first=first) for kind, first in kinds.items()}
        self.state.phase, self.state.started_at, self.state.ready = "running", rfc3339(), False

    def wait_with(self, problem: CannotStart) -> None:
        """Say why it is not started."""
        self.state.phase, self.state.ready = "waiting", False
        self.state.reason, self.state.message = problem.reason, str(problem)

    def look(self, restart: str) -> None:
        """Ask the probes that are due, notice an exit, and start again what is to be; `restart` is the pod's policy."""
        now = time.monotonic()
        if self.running:
            self._ask_probes(now)
        elif self.state.phase == "running":
            self._note_exit(now, restart)
        elif self.state.reason == "CrashLoopBackOff" and now >= self._start_at and self._program is not None:
            self.state.restarts += 1
            self.start(self._program, self._folders, self._ip)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL for what is left after `grace_seconds`."""
        if self._process is not None:
            self._process.terminate(grace_seconds)
        self.state.ready = False

    def run_hook(self, hook: Mapping[str, Any], within_seconds: float) -> None:
        """Do what `lifecycle.preStop` says: `sleep` or `exec`. A hook that fails changes nothing, as on a node."""
        if "sleep" in hook:
            time.sleep(min(within_seconds, float(hook["sleep"]["seconds"])))
        elif "exec" in hook:
            self._execute(hook["exec"]["command"], within_seconds)

    def _ask_probes(self, now: float) -> None:
        started = self._probes["startup"].good
        for kind in ("startup", "readiness", "liveness"):
            probe = self._probes[kind]
            if probe.due(now) and (kind == "startup" or started):
                spec = self.spec[f"{kind}Probe"]
                timeout = float(spec.get("timeoutSeconds", 1))
                answer = ask(spec, self.spec, self._ip, lambda command, timeout=timeout: self._execute(command, timeout))  # type: ignore[misc]
                probe.note(answer, time.monotonic())
        self.state.ready = self._probes["startup"].good and self._probes["readiness"].good
        if not self._probes["liveness"].good and self._process is not None:
            self._process.terminate(within_seconds=5)

    def _note_exit(self, now: float, restart: str) -> None:
        code = self._process.exit_code if self._process is not None else None
        self.state.exit_code, self.state.ready = (1 if code is None else code) % 256, False
        if restart == "Never" or (restart == "OnFailure" and code == 0):
            self.state.phase = "terminated"
            return
        self.state.phase, self.state.reason = "waiting", "CrashLoopBackOff"
        self.state.message = f"exit code {code}"
        self._start_at, self._pause = now + self._pause, min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    def _execute(self, command: list[str], within_seconds: float) -> int:
        assert self._program is not None
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT / "operator"), **self._program.environment}
        try:
            words = command_of({"command": command}, environment, mounts_of(self.spec, self._folders))
            with self.log.open("ab") as log:
                done = subprocess.run(
                    words, env=environment, timeout=within_seconds, check=False, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT,
                )  # fmt: skip
        except (CannotStart, OSError, subprocess.TimeoutExpired):
            return 1
        return done.returncode
