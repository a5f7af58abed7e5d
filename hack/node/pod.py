"""One pod on the stand-in node, from its binding to its end: what a kubelet does with it, in a thread of its own.

Binds it, mounts its volumes, runs its init containers one after the other, starts its containers, keeps its status true, and
ends it gracefully when it is deleted. Called by `hack.node.node`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hack.controlplane import ControlPlane
from hack.kubelet import KubeletVolumes, loopback_address
from hack.kubelet.sources import values_of
from hack.node.container import Container
from hack.node.containers import CannotStart, has_token, needed, program_of
from hack.node.status import pod_status
from hack.process import ServerError

JsonObject = dict[str, Any]
_LOOK_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 0.3
_MERGE_PATCH: Final = "application/merge-patch+json"
_PATHS: Final = {"ConfigMap": "configmaps", "Secret": "secrets"}


class RunningPod:
    """A pod of this node. Told of the object by `update`, ended by `leave`; `ip` is its address."""

    def __init__(self, plane: ControlPlane, volumes: KubeletVolumes, directory: Path, body: JsonObject) -> None:
        """`directory` takes logs and what the pod is given beside its volumes."""
        self.ip = loopback_address()
        self.name, self.namespace = body["metadata"]["name"], body["metadata"]["namespace"]
        self.uid = body["metadata"]["uid"]
        self._plane, self._volumes = plane, volumes
        self._folder = directory / f"{self.namespace}-{self.name}-{self.uid[:8]}"
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._body, self._status = body, JsonObject()
        self._leave, self._abandon = threading.Event(), threading.Event()
        spec = body["spec"]
        self.initial = [self._container(one) for one in spec.get("initContainers") or []]
        self.containers = [self._container(one) for one in spec["containers"]]
        self._thread = threading.Thread(target=self._run, name=f"pod {self.name}", daemon=True)

    @property
    def path(self) -> str:
        """Path of the object."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs any more."""
        return not self._thread.is_alive()

    def log(self) -> str:
        """Everything its containers have printed, init containers first."""
        found = [one.log for one in (*self.initial, *self.containers) if one.log.exists()]
        return "".join(log.read_text(errors="replace") for log in found)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def update(self, body: JsonObject) -> None:
        """Take the object as it is stored now."""
        self._body = body
        if "deletionTimestamp" in body["metadata"]:
            self._leave.set()

    def abandon(self, within_seconds: float = 15.0) -> None:
        """Kill everything at once: the object is gone, or the node ends."""
        self._abandon.set()
        self._leave.set()
        self._thread.join(within_seconds)

    def _container(self, spec: JsonObject) -> Container:
        return Container(spec, self._folder / f"{spec['name']}.log")

    # What runs in the pod's thread.

    def _run(self) -> None:
        try:
            if self._bind() and (folders := self._mount()) is not None and self._initialize(folders):
                self._work(folders)
        finally:
            self._end()

    def _bind(self) -> bool:
        if self._body["spec"].get("nodeName"):
            return True
        target = {"apiVersion": "v1", "kind": "Node", "name": self._volumes.node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name}, "target": target}
        return self._persist("POST", f"{self.path}/binding", body) in (201, 409)

    def _mount(self) -> Path | None:
        """Wait until all volumes are there; None when the pod is to go before."""
        while not self._leave.is_set():
            try:
                return self._volumes.wait_mounted(self.name, within_seconds=_RETRY_SECONDS)
            except ServerError as problem:
                for container in (*self.initial, *self.containers):
                    container.state.message = str(problem)
                self._tell("Pending")
        return None

    def _initialize(self, folders: Path) -> bool:
        """Run the init containers one after the other; False when the pod is to go, or is not to try again."""
        for container in self.initial:
            while container.state.phase != "terminated":
                self._tell("Pending")
                if not self._begin([container], folders) or self._leave.wait(_LOOK_SECONDS):
                    return False
                container.look("Never" if self._policy == "Never" else "OnFailure")
            if container.state.exit_code != 0:
                self._tell("Failed")
                return False
        return True

    def _work(self, folders: Path) -> None:
        while not self._leave.is_set():
            if self._begin(self.containers, folders):
                for container in self.containers:
                    container.look(self._policy)
            phase = self._phase()
            self._tell(phase)
            if phase in ("Succeeded", "Failed"):
                self._leave.wait()
                return
            self._leave.wait(_LOOK_SECONDS)

    def _begin(self, containers: Sequence[Container], folders: Path) -> bool:
        """Start what has not been started; False when something it needs is missing."""
        for container in containers:
            if container.state.phase != "waiting" or container.state.reason == "CrashLoopBackOff":
                continue
            try:
                body = {**self._body, "status": {"podIP": self.ip, "hostIP": "127.0.0.1"}}
                program = program_of(container.spec, body, self._values(), folders)
                program.environment.update(self._account())
                container.start(program, folders, self.ip)
            except CannotStart as problem:
                container.wait_with(problem)
                self._leave.wait(_RETRY_SECONDS)
                return False
        return True

    def _values(self) -> dict[tuple[str, str], Mapping[str, bytes]]:
        found: dict[tuple[str, str], Mapping[str, bytes]] = {}
        for kind, name in set(needed(self._body)):
            answer = self._plane.request("GET", f"/api/v1/namespaces/{self.namespace}/{_PATHS[kind]}/{name}")
            if answer.status == 200:
                found[kind, name] = values_of(kind, answer.body)
        return found

    def _account(self) -> dict[str, str]:
        """Return the variables by which a program finds the API server and its own token; none without a token.

        A container finds both at a fixed path, which this machine cannot give to each process: a kubeconfig stands for it.
        """
        if not has_token(self._body):
            return {}
        kubeconfig = self._folder / "kubeconfig"
        account = self._body["spec"].get("serviceAccountName", "default")
        pod = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}
        spec = {"expirationSeconds": 3607, "boundObjectRef": pod}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        answer = self._plane.request(
            "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        )
        if answer.status != 201:
            raise CannotStart("CreateContainerConfigError", f"no token for ServiceAccount {account}: HTTP {answer.status}")
        self._plane.kubeconfig_for(account, answer.body["status"]["token"], kubeconfig)
        return {"KUBECONFIG": str(kubeconfig), "AIGATEWAY_KUBECONFIG": str(kubeconfig)}

    @property
    def _policy(self) -> str:
        return str(self._body["spec"].get("restartPolicy", "Always"))

    def _phase(self) -> str:
        states = [container.state for container in self.containers]
        if all(state.phase == "terminated" for state in states):
            return "Succeeded" if all(state.exit_code == 0 for state in states) else "Failed"
        return "Running" if any(state.phase == "running" or state.restarts for state in states) else "Pending"

    def _tell(self, phase: str) -> None:
        """Write the status if it has changed. One that cannot be written now is written with the next look."""
        states = [one.state for one in self.containers], [one.state for one in self.initial]
        status = pod_status(self._status, self.ip, phase, *states)
        if status == self._status:
            return
        try:
            answer = self._plane.request("PATCH", f"{self.path}/status", {"status": status}, content_type=_MERGE_PATCH)
        except OSError:
            return
        if answer.status == 200:
            self._status = status

    def _end(self) -> None:
        """Pre-stop hooks, SIGTERM, SIGKILL, and the object is removed."""
        if self._abandon.is_set():
            self._stop_all(0)
            return
        self._leave.wait()
        grace = float(self._body["metadata"].get("deletionGracePeriodSeconds") or 0)
        deadline = time.monotonic() + grace
        for container in self.containers:
            hook = (container.spec.get("lifecycle") or {}).get("preStop")
            if hook and container.running and not self._abandon.is_set():
                container.run_hook(hook, grace)
        self._stop_all(max(0.0, deadline - time.monotonic()))
        if not self._abandon.is_set():
            self._persist("DELETE", self.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})

    def _stop_all(self, grace_seconds: float) -> None:
        stopping = [threading.Thread(target=one.stop, args=(grace_seconds,)) for one in (*self.initial, *self.containers)]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def _persist(self, method: str, path: str, body: JsonObject) -> int:
        """Send a request until the API server answers; its status, 0 when the pod was abandoned first."""
        while not self._abandon.is_set():
            try:
                answer = self._plane.request(method, path, body)
            except OSError:
                self._abandon.wait(_RETRY_SECONDS)
                continue
            if answer.status < 500:
                return answer.status
            self._abandon.wait(_RETRY_SECONDS)
        return 0
