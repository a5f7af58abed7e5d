"""The admission webhook of the demo: `aigateway webhook` as a process with its own rights, and its configuration.

The operator's leader makes its certificate and tells the API server whom to trust. Nothing is judged here. Called by
`acts_callers`.
"""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Final

from hack.controlplane import ControlPlane
from hack.demo.front import LOOPBACK
from hack.operatorprocess import NAMESPACE
from hack.process import ServerProcess, free_ports

ADDRESS: Final = "127.0.0.1"
NAMES: Final = {"AIGATEWAY_WEBHOOK_NAMES": ADDRESS}
"""For the operator: what the certificate is to be for, beside the Service."""
_ACCOUNT: Final = "aigateway-webhook"
_ROOT: Final = Path(__file__).resolve().parents[2]
_READY_SECONDS: Final = 20.0


class Door:
    """A running webhook. Ended by `stop`."""

    def __init__(self, plane: ControlPlane) -> None:
        """Start it and return when it has a certificate to serve. ServerError, with the end of its log, when it is late."""
        directory = plane.directory / "webhook"
        directory.mkdir(mode=0o700)
        token = plane.token_for_service_account(NAMESPACE, _ACCOUNT)
        self.port, self._health_port = free_ports(2)
        environment = {
            "PYTHONPATH": str(_ROOT / "operator"),
            "AIGATEWAY_KUBECONFIG": str(plane.kubeconfig_for(_ACCOUNT, token, directory / "webhook.kubeconfig")),
            "AIGATEWAY_LEASE_NAMESPACE": NAMESPACE,
            "AIGATEWAY_WEBHOOK_HOST": ADDRESS,
            "AIGATEWAY_WEBHOOK_PORT": str(self.port),
            "AIGATEWAY_HEALTH_HOST": ADDRESS,
            "AIGATEWAY_HEALTH_PORT": str(self._health_port),
            **LOOPBACK,  # as the operator has it, or every edit of what the demo serves is answered with warnings
        }
        self._process = ServerProcess("webhook", directory / "webhook.log", environment=environment)
        try:
            self._process.start([sys.executable, "-m", "aigateway_operator", "webhook"])
            self._process.wait_ready(self._is_ready, _READY_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where reviews are to be sent."""
        return f"https://{ADDRESS}:{self.port}"

    def stop(self) -> None:
        """End it. May be called again."""
        self._process.kill()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self._health_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
