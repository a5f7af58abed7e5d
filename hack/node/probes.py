"""Probes of a container, really asked: httpGet (also HTTPS, unverified, as a kubelet does), tcpSocket and exec.

`Probe` keeps count as a kubelet does and knows no clock but the one it is given. Called by `hack.node.pod`.
Source: kubelet pkg/probe, https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

JsonObject = Mapping[str, Any]
EAGER_SECONDS: Final = 0.2
"""Between questions until the first success, where a kubelet lets a whole period pass: tests need not wait for that."""


def port_of(container: JsonObject, port: int | str) -> int:
    """Return the number of a port given by number or name. KeyError for a name that the container does not have."""
    if isinstance(port, int):
        return port
    return int({one.get("name"): one["containerPort"] for one in container.get("ports") or []}[port])


def ask(probe: JsonObject, container: JsonObject, ip: str, run: Callable[[list[str]], int]) -> bool:
    """Ask once, within the probe's `timeoutSeconds`; `run` runs a command in the container and returns its exit code."""
    timeout = float(probe.get("timeoutSeconds", 1))
    if "exec" in probe:
        return run(probe["exec"]["command"]) == 0
    if "tcpSocket" in probe:
        return _connects(ip, port_of(container, probe["tcpSocket"]["port"]), timeout)
    get = probe["httpGet"]
    return _answers(ip, port_of(container, get["port"]), get, timeout)


def _connects(ip: str, port: int, timeout: float) -> bool:
    try:
        with socket.create_connection((ip, port), timeout):
            return True
    except OSError:
        return False


def _answers(ip: str, port: int, get: JsonObject, timeout: float) -> bool:
    connection: http.client.HTTPConnection
    if get.get("scheme") == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(ip, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(ip, port, timeout=timeout)
    headers = {header["name"]: header["value"] for header in get.get("httpHeaders") or []}
    try:
        connection.request("GET", get.get("path", "/"), headers=headers)
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Probe:
    """One probe over time: when it is due, and what its answers mean. Times are seconds of any monotonic clock."""

    def __init__(self, spec: JsonObject | None, started: float, *, at_first: bool) -> None:
        """`spec` None: always true. `at_first` is what holds until enough answers are in."""
        self.good = at_first if spec is not None else True
        self._spec = spec or {}
        self._due = started + float(self._spec.get("initialDelaySeconds", 0)) if spec is not None else float("inf")
        self._answer, self._in_a_row, self._succeeded = self.good, 0, False

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return now >= self._due

    def note(self, answer: bool, now: float) -> None:
        """Take an answer: `good` changes after as many alike as the thresholds say."""
        self._in_a_row = self._in_a_row + 1 if answer == self._answer else 1
        self._answer, self._succeeded = answer, self._succeeded or answer
        threshold = self._spec.get("successThreshold", 1) if answer else self._spec.get("failureThreshold", 3)
        if self._in_a_row >= threshold:
            self.good = answer
        self._due = now + (float(self._spec.get("periodSeconds", 10)) if self._succeeded else EAGER_SECONDS)
