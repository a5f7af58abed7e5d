"""A control plane with a stand-in node, and Helm on it: as much of a cluster as a chart needs to be installed.

Joins `hack.controlplane` and `hack.node.node`. Called by tests.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hack.controlplane import CONTROLLERS, NEEDED, ControlPlane
from hack.node.node import Node
from hack.process import REAPER, ServerError

WORKLOADS: Final = (
    *CONTROLLERS, "deployment-controller", "replicaset-controller", "statefulset-controller", "job-controller",
    "disruption-controller",
)  # fmt: skip
"""Controllers that make pods of Deployments, StatefulSets and Jobs, beside those a control plane runs anyway."""
NEEDS: Final = (*NEEDED, "helm")
"""The binaries a cluster is made of."""


class Cluster:
    """A running cluster: `plane`, `node`, and `helm`. Made by `start`; ended by `stop` or by leaving a `with`."""

    def __init__(self, directory: Path, binaries: Mapping[str, Path]) -> None:
        """Use `start`."""
        self.directory = directory
        self._helm = binaries["helm"]
        socket = directory / "egress.sock"
        self.plane = ControlPlane.start(directory / "plane", binaries=binaries, controllers=WORKLOADS, service_proxy=socket)
        self.node = Node(self.plane, directory / "node", socket)

    @classmethod
    def start(cls, *, binaries: Mapping[str, Path] | None = None) -> Self:
        """Start everything, usually within 5 seconds. ServerError when something does not; nothing is left then."""
        if binaries is None:
            from hack.binaries import ensure  # late: those who bring their own need none of it

            binaries = ensure(NEEDS)
        directory = Path(tempfile.mkdtemp(prefix="aigateway-cluster-"))
        REAPER.tell("+folder", directory)
        cluster = cls(directory, binaries)
        try:
            cluster.node.start()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End pods, node and servers, and remove their folder. May be called again."""
        self.node.stop()
        self.plane.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        REAPER.tell("-folder", self.directory)

    def helm(
        self, *arguments: str | Path, check: bool = True, timeout_seconds: float = 120, kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run helm as the administrator, or as `kubeconfig` says. With `check`, ServerError with what helm and pods said."""
        folder = self.directory / "helm"
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "KUBECONFIG": str(kubeconfig or self.plane.kubeconfig),
            "HELM_CACHE_HOME": str(folder / "cache"), "HELM_CONFIG_HOME": str(folder / "config"),
            "HELM_DATA_HOME": str(folder / "data"),
        }  # fmt: skip
        done = subprocess.run(
            [self._helm, *(str(argument) for argument in arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=timeout_seconds, env=environment, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            spoken = " ".join(str(argument) for argument in arguments)
            said = done.stderr.strip() or done.stdout.strip()
            raise ServerError(
                f"helm {spoken}: exit code {done.returncode}: {said}\n{self.pod_report() if '--wait' in arguments else ''}"
            )
        return done

    def pod_report(self, namespaces: Sequence[str] | None = None) -> str:
        """Return each pod's phase, why it waits, and the end of what it has printed, for messages."""
        lines = []
        for (namespace, name), pod in sorted(self.node.pods.items()):
            if namespaces is None or namespace in namespaces:
                states = ", ".join(f"{one.state.name}: {one.state.phase} {one.state.message}" for one in pod.containers)
                lines += [
                    f"pod {namespace}/{name} at {pod.ip}: {states}",
                    *(f"  {line[:300]}" for line in pod.log().splitlines()[-15:]),
                ]
        return "\n".join(lines) or "there are no pods"
