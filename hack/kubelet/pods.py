"""A Pod object with a process behind it: what a node would do with a pod template, on this machine.

The object is real (created, given an address and conditions through `pods/status`, deleted as a kubelet does); its files are
those of `KubeletVolumes`; its address is one of 127.0.0.0/8, so that every pod may listen on the same port. The process is a
plain child: no image, no isolation. Called by tests and the demo.
"""

from __future__ import annotations

import http.client
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from hack.kubelet.sources import field_of
from hack.kubelet.volumes import KubeletVolumes
from hack.process import ServerError, ServerProcess

Template = Mapping[str, Any]
"""`metadata` (labels, annotations) and `spec` of a pod, as in a Deployment's `spec.template`."""

STATUS_HOST: Final = "AIGATEWAY_STATUS_HOST"
"""Where the program behind a stand-in listens: its pod's address, since all pods share one machine."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_MERGE_PATCH: Final = "application/merge-patch+json"


def loopback_address() -> str:
    """Return an address of this machine that no other pod is likely to have, in this test run or another."""
    dice = random.SystemRandom()
    return f"127.{dice.randint(1, 254)}.{dice.randint(0, 255)}.{dice.randint(1, 254)}"


class StandInPod:
    """One pod on the kubelet's node. Made by `start`; ended by `delete`.

    `name`, `ip`, `uid` are the object's; `process` is what runs (None: nothing does, the test itself listens on `ip`);
    `log` is what it has said.
    """

    def __init__(self, kubelet: KubeletVolumes, name: str, ip: str) -> None:
        """Use `start`."""
        self.kubelet = kubelet
        self.name = name
        self.ip = ip
        self.uid = ""
        self.process: ServerProcess | None = None
        self._command: Sequence[str | Path] = ()

    @classmethod
    def start(
        cls, kubelet: KubeletVolumes, name: str, template: Template, command: Sequence[str | Path] | None = None, *,
        environment: Mapping[str, str] | None = None, ip: str | None = None, ready_within_seconds: float | None = 20.0,
    ) -> Self:  # fmt: skip
        """Create the Pod, mount its volumes, start `command` and return when the pod is ready.

        The process gets the environment of the template's first container, with mount paths replaced by the folders on
        this machine and `fieldRef`s by what they stand for, then `environment`, where `{volume:NAME}` stands for the folder of
        a volume and `{ip}` for the pod's address. Ready is when the container's `readinessProbe` (httpGet) succeeds, or at
        once without one. `ready_within_seconds` None: do not wait, `become_ready` does. ServerError when it is refused or late;
        nothing is left then.
        """
        pod = cls(kubelet, name, ip or loopback_address())
        try:
            body = pod._create(template)
            folders = kubelet.wait_mounted(name)
            pod.set_status(phase="Running", ready=False)
            if command is not None:
                pod._run(body, command, folders, environment or {})
            if ready_within_seconds is not None:
                pod.become_ready(ready_within_seconds)
        except BaseException:
            pod.delete()
            raise
        return pod

    @property
    def path(self) -> str:
        """Path of the object."""
        return f"/api/v1/namespaces/{self.kubelet.namespace}/pods/{self.name}"

    @property
    def log(self) -> str:
        """Everything the process has printed."""
        return "" if self.process is None else self.process.log.read_text(errors="replace")

    def folder(self, volume: str) -> Path:
        """Return where a volume is mounted."""
        return self.kubelet.folder(self.name, volume)

    def body(self) -> dict[str, Any]:
        """Return the object as it is stored now. ServerError when it is gone."""
        answer = self.kubelet.plane.request("GET", self.path)
        if answer.status != 200:
            raise ServerError(f"pod {self.name}: HTTP {answer.status}: {answer.body}")
        return dict(answer.body)

    def become_ready(self, within_seconds: float = 20.0) -> float:
        """Wait for the readiness probe of the template, say in status that the pod is ready, and return the seconds."""
        probe, started = _readiness(self.body(), self.ip), time.monotonic()
        if self.process is not None:
            self.process.wait_ready(probe, within_seconds)
        self.set_status(phase="Running", ready=True)
        return time.monotonic() - started

    def set_status(self, *, phase: str, ready: bool) -> None:
        """Write phase, addresses and conditions as a kubelet does. ServerError when it is refused."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {True: "True", False: "False"}[ready]
        conditions = [
            {"type": kind, "status": value, "lastTransitionTime": now}
            for kind, value in (
                ("Initialized", "True"),
                ("PodScheduled", "True"),
                ("ContainersReady", answer),
                ("Ready", answer),
            )
        ]
        addresses = {"hostIP": "127.0.0.1", "podIP": self.ip, "podIPs": [{"ip": self.ip}]} if phase == "Running" else {}
        status = {"phase": phase, "conditions": conditions, **addresses}
        done = self.kubelet.plane.request("PATCH", f"{self.path}/status", {"status": status}, content_type=_MERGE_PATCH)
        if done.status != 200:
            raise ServerError(f"status of pod {self.name}: HTTP {done.status}: {done.body}")

    def restart(self, within_seconds: float = 20.0) -> None:
        """Kill the process and start it again, as a kubelet does with a container that died: same pod, same files."""
        assert self.process is not None
        self.process.kill()
        self.set_status(phase="Running", ready=False)
        self.process.start(self._command)
        self.become_ready(within_seconds)

    def terminate(self, grace_seconds: float = 5.0) -> None:
        """Delete the pod as a rollout does: terminating first, SIGTERM, and gone when the process has ended."""
        whole = max(1, round(grace_seconds))
        self.kubelet.plane.request("DELETE", self.path, {"gracePeriodSeconds": whole})
        if self.process is not None:
            self.process.terminate(grace_seconds)
        self.delete()

    def delete(self) -> None:
        """Kill the process and remove the object at once. May be called again, also while the API server is away."""
        if self.process is not None:
            self.process.kill()
        try:
            self.kubelet.plane.request("DELETE", self.path, {"gracePeriodSeconds": 0})
        except OSError:
            return

    def _create(self, template: Template) -> dict[str, Any]:
        metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key in ("labels", "annotations")}
        spec = {"terminationGracePeriodSeconds": 5, **template["spec"], "nodeName": self.kubelet.node}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": self.name}, "spec": spec}
        answer = self.kubelet.plane.request("POST", self.path.rpartition("/")[0], manifest)
        if answer.status != 201:
            raise ServerError(f"pod {self.name} was refused: HTTP {answer.status}: {answer.body}")
        self.uid = answer.body["metadata"]["uid"]
        return dict(answer.body)

    def _run(self, body: dict[str, Any], command: Sequence[str | Path], folders: Path, environment: Mapping[str, str]) -> None:
        container = body["spec"]["containers"][0]
        given = _environment(container, {**body, "status": {"podIP": self.ip}}, folders)
        own = {name: _filled(text, folders, self.ip) for name, text in environment.items()}
        measured = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        base = {"PYTHONPATH": str(_ROOT / "operator"), "PYTHONUNBUFFERED": "1", STATUS_HOST: self.ip, **measured}
        self._command = [_filled(str(part), folders, self.ip) for part in command]
        log = self.kubelet.directory / "logs" / f"{self.name}-{self.uid[:8]}.log"  # outlives the pod's volumes
        log.parent.mkdir(exist_ok=True)
        self.process = ServerProcess(f"pod {self.name}", log, environment={**base, **given, **own})
        self.process.start(self._command)


PYTHON: Final = sys.executable
"""The interpreter that commands of stand-in pods are started with: it has the project's dependencies."""


def _filled(text: str, folders: Path, ip: str) -> str:
    for folder in folders.iterdir() if "{volume:" in text else ():
        text = text.replace(f"{{volume:{folder.name}}}", str(folder))
    return text.replace("{ip}", ip)


def _environment(container: Mapping[str, Any], pod: Mapping[str, Any], folders: Path) -> dict[str, str]:
    """Return the environment of a container, its mount paths being those of this machine."""
    mounts = {mount["mountPath"].rstrip("/"): folders / mount["name"] for mount in container.get("volumeMounts") or []}
    found = {}
    for entry in container.get("env") or []:
        text = entry.get("value", "")
        if "valueFrom" in entry:
            text = field_of(pod, entry["valueFrom"]["fieldRef"]["fieldPath"])
        for path, folder in mounts.items():
            if text == path or text.startswith(f"{path}/"):
                text = f"{folder}{text[len(path) :]}"
                break
        found[entry["name"]] = text
    return found


def _readiness(pod: Mapping[str, Any], ip: str) -> Callable[[], bool]:
    """Return the readiness probe of the first container as a function; always true without one."""
    container = pod["spec"]["containers"][0]
    get = (container.get("readinessProbe") or {}).get("httpGet")
    if get is None:
        return lambda: True
    named = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}
    port = get["port"] if isinstance(get["port"], int) else named[get["port"]]

    def succeeds() -> bool:
        connection = http.client.HTTPConnection(ip, port, timeout=2)
        try:
            connection.request("GET", get.get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return succeeds
