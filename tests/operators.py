"""Operators for tests on the real API server: in this process on a loop of their own, or as a process that can be killed.

Both run as the ServiceAccount of hack/manifests/operator.yaml, with its RBAC, and work in the namespaces they are given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigateway_operator.kube.events import EventPoster
from aigateway_operator.main import Operator, running
from aigateway_operator.settings import Settings
from hack.controlplane import ControlPlane

ROOT = Path(__file__).resolve().parent.parent
RBAC = ROOT / "hack" / "manifests" / "operator.yaml"
NAMESPACE = "aigateway-system"
ACCOUNT = "aigateway-operator"
LEASES = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: leases-of-tests, namespace: {NAMESPACE}}}
rules:
- {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, update]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: leases-of-tests, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases-of-tests}}
subjects:
- {{kind: ServiceAccount, name: {ACCOUNT}, namespace: {NAMESPACE}}}
"""
"""The chart lets the operator have one Lease, by name; a test has one named as its namespace."""
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"


def operator_kubeconfig(plane: ControlPlane, directory: Path) -> Path:
    """Install the operator's ServiceAccount and RBAC, and return a kubeconfig with its token.

    The rights are the chart's (`python -m hack rights`), with one exception: each test has a Lease of its own.
    """
    plane.kubectl("apply", "-f", RBAC, check=True)
    plane.kubectl("apply", "-f", "-", input=LEASES, check=True)
    token = plane.token_for_service_account(NAMESPACE, ACCOUNT)
    return plane.kubeconfig_for(ACCOUNT, token, directory / "operator.kubeconfig")


@dataclass
class InProcess:
    """An operator in a thread with its own event loop; `settings` decides everything."""

    settings: Settings
    operator: Operator | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None
    _thread: threading.Thread | None = None
    _failure: BaseException | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    def start(self) -> InProcess:
        """Start, and return once it has begun to work."""
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the operator did not start within 20 s"
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop cleanly; asserts that it takes no longer than 15 s."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        assert not self._thread.is_alive(), "the operator did not stop within 15 s"
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[[Operator], Any]) -> Any:
        """Run `function` in the operator's loop and return its result."""
        assert self._loop is not None

        async def run() -> Any:
            assert self.operator is not None
            return function(self.operator)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def assert_idle(self) -> None:
        """Assert that nothing is marked, under way or waiting to be written, no Event either."""
        assert self.call(_is_idle), "the operator still works"

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to the test that stops the operator
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with running(self.settings) as operator:
            self.operator = operator
            self._ready.set()
            await self._stop.wait()
            for task in operator.tasks:
                assert not task.done(), f"{task.get_name()} ended: {task.exception() if not task.cancelled() else 'cancelled'}"


def _is_idle(operator: Operator) -> bool:
    poster = operator.ports.announcer
    assert isinstance(poster, EventPoster)
    return operator.controller.idle and poster.waiting == 0


@dataclass
class Process:
    """An operator as a process of its own: `aigateway run`."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, kubeconfig: Path, log: Path, arguments: Sequence[str] = (), **settings: str) -> Process:
        """Start; `settings` are names of settings in lower case, as `namespaces="a"`."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            "AIGATEWAY_KUBECONFIG": str(kubeconfig),
            "AIGATEWAY_HEALTH_HOST": "127.0.0.1",
            "AIGATEWAY_HEALTH_PORT": "0",
            **{f"AIGATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "aigateway_operator", "run", *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        return cls(process, log)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        """Stop it where it stands."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(15)

    def output(self) -> str:
        """Return what it has logged."""
        return self.log.read_text(errors="replace")
