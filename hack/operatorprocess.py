"""The operator as its own process beside a control plane, with the rights of its own ServiceAccount and no others.

Applies `hack/manifests/operator.yaml`, asks for a token of that ServiceAccount, and starts `aigateway run` with it, as a
cluster would. It must not know what the operator does. Called by the demo and by tests that want the whole thing.

    with OperatorProcess.start(plane) as operator:
        plane.kubectl("apply", "-f", "examples/01-quickstart")
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hack.controlplane import ControlPlane
from hack.process import ServerError, ServerProcess, free_ports

ROOT: Final = Path(__file__).resolve().parent.parent
MANIFESTS: Final = ROOT / "hack" / "manifests" / "operator.yaml"
NAMESPACE: Final = "aigateway-system"
SERVICE_ACCOUNT: Final = "aigateway-operator"
USER: Final = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
"""Who the operator is in the audit log."""

_STOP_SECONDS = 15.0


class OperatorProcess:
    """A running operator. Made by `start`; ended by `stop`, by leaving a `with`, or by the end of this process.

    `process` is its `ServerProcess` (signals, log), `kubeconfig` what it connects with, `health_port` where it answers
    /healthz, /readyz and /metrics.
    """

    def __init__(self, plane: ControlPlane, directory: Path, settings: Mapping[str, str]) -> None:
        """Use `start`."""
        self._plane = plane
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.kubeconfig = directory / "operator.kubeconfig"
        self.health_port = free_ports(1)[0]
        environment = {
            "PYTHONPATH": str(ROOT / "operator"),
            "AIGATEWAY_KUBECONFIG": str(self.kubeconfig),
            "AIGATEWAY_LEASE_NAMESPACE": NAMESPACE,
            "AIGATEWAY_HEALTH_HOST": "127.0.0.1",
            "AIGATEWAY_HEALTH_PORT": str(self.health_port),
            **{name: value for name, value in os.environ.items() if name.startswith("COV")},   # measured as tests are
            **settings,
        }  # fmt: skip
        self.process = ServerProcess("operator", directory / "operator.log", environment=environment)

    @classmethod
    def start(
        cls, plane: ControlPlane, *, directory: Path | None = None, settings: Mapping[str, str] | None = None,
        token_seconds: int = 3600, ready_within_seconds: float = 30,
    ) -> Self:  # fmt: skip
        """Grant the rights, start the process and return when it is ready, usually after 2 seconds.

        `directory` (default: a folder of the control plane's) takes kubeconfig and log. `settings` are further
        `AIGATEWAY_*` variables. `token_seconds` is how long its token is valid. ServerError, with the end of its log, when
        it dies or is late; it does not run then.
        """
        plane.kubectl("apply", "-f", MANIFESTS, check=True)
        operator = cls(plane, directory or plane.directory / "operator", settings or {})
        token = plane.token_for_service_account(NAMESPACE, SERVICE_ACCOUNT, token_seconds)
        plane.kubeconfig_for(SERVICE_ACCOUNT, token, operator.kubeconfig)
        try:
            operator.process.start([sys.executable, "-m", "aigateway_operator", "run"])
            operator.process.wait_ready(operator.is_ready, ready_within_seconds)
        except BaseException:
            operator.stop()
            raise
        return operator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """The operator's log file."""
        return self.process.log

    def is_ready(self) -> bool:
        """Whether /readyz says so now; False when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM, so that it gives its Lease back; SIGKILL when it takes longer than 15 seconds."""
        self.process.terminate(within_seconds=_STOP_SECONDS)

    def check_alive(self) -> None:
        """ServerError, with the end of the log, when the operator has ended."""
        if not self.process.running:
            raise ServerError(f"the operator has ended.\n{self.process.log_tail()}")
