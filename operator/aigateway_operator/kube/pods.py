"""The pods that a selector selects, kept small: what decides whether a pod is poked and asked, and nothing else.

One watch per namespace and selector, narrowed by the server; it ends when nobody follows it any more. Reads pods, never writes.
Fulfils `Pods` of `rollout/ports.py`; wired by `main`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from aigateway_operator.errors import ClusterError, Forbidden
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import PODS, JsonObject
from aigateway_operator.kube.watching import Selection, Watcher
from aigateway_operator.plan.proof import PodState

BLIND_SECONDS: Final = 30.0
"""How long a watch may be interrupted before it counts as unknown which pods there are; a missing right counts at once."""


def parse_pod(obj: Mapping[str, Any]) -> PodState:
    """Reduce a pod as the API server has it."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = status.get("conditions") or []
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        ip=status.get("podIP") or None,
        running=status.get("phase") == "Running",
        ready=any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions),
        terminating="deletionTimestamp" in metadata,
        host_network=(obj.get("spec") or {}).get("hostNetwork") is True,
        poked=(metadata.get("annotations") or {}).get(CONFIG_REVISION_ANNOTATION, ""),
    )


class PodWatch:
    """Follows pods for whoever asks. `stop` ends everything."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._stopping: set[asyncio.Task[None]] = set()
        self._followed: set[SelectedPods] = set()

    def follow(self, namespace: str, label_selector: str, on_change: Callable[[], None]) -> SelectedPods:
        """Follow the pods of a selector from now on; see `rollout.ports.Pods`."""
        selected = SelectedPods(self._client, Selection(PODS, namespace, label_selector), on_change, self._end)
        self._followed.add(selected)
        return selected

    async def stop(self) -> None:
        """Follow nothing any more."""
        for selected in list(self._followed):
            selected.stop()
        await asyncio.gather(*self._stopping)

    def _end(self, selected: SelectedPods) -> None:
        if selected in self._followed:
            self._followed.discard(selected)
            task = asyncio.create_task(selected.watcher.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


class SelectedPods:
    """The pods of one selector."""

    def __init__(
        self, client: KubeClient, selection: Selection, on_change: Callable[[], None], end: Callable[[SelectedPods], None]
    ) -> None:
        self._pods: dict[str, PodState] = {}
        self._on_change = on_change
        self._end = end
        self._stopped = False
        self._failing_since: float | None = None
        self.watcher: Watcher[PodState] = Watcher(
            client, selection, reduce=parse_pod, on_listed=self._listed, on_event=self._event, on_error=self._failed
        )
        self.watcher.start()

    @property
    def listed(self) -> bool:
        """Whether the pods have been listed completely once."""
        return self.watcher.listed

    @property
    def pods(self) -> Mapping[str, PodState]:
        """Pods by uid, as a view."""
        return MappingProxyType(self._pods)

    @property
    def trouble(self) -> str | None:
        """Why it is not known which pods there are; None: it is, or the interruption is short."""
        error = self.watcher.last_error
        if error is None or self._failing_since is None:
            self._failing_since = None
            return None
        if isinstance(error, Forbidden):
            return "the operator may not list and watch them; give its ServiceAccount the verbs list and watch on pods"
        lasting = time.monotonic() - self._failing_since >= BLIND_SECONDS
        return "they cannot be watched; look at the operator's log" if lasting else None

    def stop(self) -> None:
        """Follow them no more; nothing is told from now on."""
        self._stopped = True
        self._end(self)

    def _failed(self, _error: ClusterError) -> None:
        """Called for every attempt that fails, every few seconds."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self._tell()

    def _listed(self, pods: list[PodState], _version: str) -> None:
        self._pods = {pod.uid: pod for pod in pods}
        self._tell()

    def _event(self, kind: str, obj: JsonObject) -> None:
        pod = parse_pod(obj)
        before = self._pods.get(pod.uid)
        if kind == "DELETED":
            self._pods.pop(pod.uid, None)
        else:
            self._pods[pod.uid] = pod
        if kind == "DELETED" or before != pod:
            self._tell()

    def _tell(self) -> None:
        if not self._stopped:
            self._on_change()
