"""Who does the job in a run: this operator, a peer, or nobody at all (the control).

Each is a process of its own that is given a kubeconfig, with its shipped defaults. A subject knows nothing of workloads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiohttp

from benchmarks.peers import PLAIN_KOPF, build_twin
from hack.controlplane import ControlPlane
from hack.process import free_ports
from tests.operators import NAMESPACE, USER, Process, operator_kubeconfig

SubjectName = Literal["operator", "controller-runtime", "plain-kopf", "nobody"]
ADMINISTRATOR: Final = "aigateway-admin"
OWN_AGENTS: Final = ("benchmark", "aigateway-hack", "kubectl", "crowd")
"""User agents of the benchmark itself: what they ask is never counted."""


@dataclass(slots=True)
class Running:
    """A subject at work. `user`: who it is in the audit log. `metrics`: port of its scrapes, None where it has none."""

    name: SubjectName
    process: subprocess.Popen[bytes] | None
    user: str
    log: Path
    metrics: int | None = None

    @property
    def pid(self) -> int:
        """Its process id. A run without a subject has none: AssertionError."""
        assert self.process is not None, f"{self.name} has no process"
        return self.process.pid

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def stop(self) -> None:
        """End it as a rollout does: it gives its Lease back."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def check_alive(self) -> None:
        """RuntimeError with the end of its log, when it has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended: {self.log.read_text(errors='replace')[-600:]}")

    async def tasks(self) -> int:
        """Return how many tasks its event loop has, by its own metrics; 0 where it has none."""
        if self.metrics is None:
            return 0
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session, session.get(url) as answer:
            lines = (await answer.text()).splitlines()
        return next((int(float(line.split()[-1])) for line in lines if line.startswith("aigateway_tasks ")), 0)


def start(name: SubjectName, plane: ControlPlane, folder: Path, **settings: str) -> Running:
    """Start a subject; it may not be ready yet. `settings`: further ones of the operator, in lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    return _STARTERS[name](plane, folder, settings)


def _operator(plane: ControlPlane, folder: Path, settings: dict[str, str]) -> Running:
    port, log = free_ports(1)[0], folder / f"operator-{len(list(folder.glob('operator-*.log')))}.log"
    chosen = {"lease_namespace": NAMESPACE, "allow_addresses": "127.0.0.0/8", "health_port": str(port), **settings}
    process = Process.start(operator_kubeconfig(plane, folder), log, **chosen)
    return Running("operator", process.process, USER, log, metrics=port)


def _twin(plane: ControlPlane, folder: Path, _settings: dict[str, str]) -> Running:
    return _popen("controller-runtime", [build_twin()], operator_kubeconfig(plane, folder), USER, folder)


def _plain_kopf(plane: ControlPlane, folder: Path, _settings: dict[str, str]) -> Running:
    # kopf keeps its state in annotations of the objects, which the operator's own rights do not allow.
    command: list[str | Path] = [sys.executable, "-m", "kopf", "run", "--quiet", "--standalone", "--all-namespaces", PLAIN_KOPF]
    return _popen("plain-kopf", command, plane.kubeconfig, ADMINISTRATOR, folder)


def _nobody(_plane: ControlPlane, folder: Path, _settings: dict[str, str]) -> Running:
    return Running("nobody", None, "", folder / "none.log")


def _popen(name: SubjectName, command: Sequence[str | Path], kubeconfig: Path, user: str, folder: Path) -> Running:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    return Running(name, process, user, log)


_STARTERS: Final[dict[SubjectName, Callable[[ControlPlane, Path, dict[str, str]], Running]]] = {
    "operator": _operator,
    "controller-runtime": _twin,
    "plain-kopf": _plain_kopf,
    "nobody": _nobody,
}
