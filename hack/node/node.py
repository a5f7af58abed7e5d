"""The stand-in node: takes every pod that no node has, runs it, and leads connections to Services.

A thread with an event loop watches pods and Services of the whole cluster and serves the proxy; each pod has a thread of its
own (`hack.node.pod`). It starts nothing that is not a pod's. Called by `hack.node.cluster`.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from hack.controlplane import ControlPlane
from hack.kubelet import FAST, KubeletVolumes, Timing
from hack.kubelet.watch import Collection, follow
from hack.node.pod import RunningPod
from hack.node.proxy import ConnectProxy
from hack.node.services import Address, Services
from hack.process import ServerError

JsonObject = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
_STOP_SECONDS: Final = 20.0
_GOODBYE_SECONDS: Final = 0.05


class Node:
    """One node. `start` and `stop`; `pods` is what runs on it, by namespace and name; `proxy` is the API server's way in.

    `directory` takes logs and volumes. `timing` is that of its volumes. `endpoint_lag_seconds` is how late connections follow
    a pod that turned ready or is being deleted, as on a real node, and may be changed at any time.
    """

    def __init__(
        self, plane: ControlPlane, directory: Path, socket: Path, *, name: str = "node-1", timing: Timing = FAST,
        endpoint_lag_seconds: float = 0.3,
    ) -> None:  # fmt: skip
        self.plane, self.directory, self.name = plane, directory, name
        self.pods: dict[Key, RunningPod] = {}
        self.services = Services()
        self.proxy = ConnectProxy(socket, self.services.resolve)
        self._timing, self.endpoint_lag_seconds = timing, endpoint_lag_seconds
        self._volumes: dict[str, KubeletVolumes] = {}
        self._ended: list[RunningPod] = []
        self._shown_until = 0.0
        self._ready, self._failure = threading.Event(), list[BaseException]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"node {name}", daemon=True)

    def start(self, within_seconds: float = 15.0) -> None:
        """Register the node, and return when the proxy listens. ServerError when it does not in time."""
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
        }
        answer = self.plane.request("POST", "/api/v1/nodes", node)
        if answer.status not in (201, 409):
            raise ServerError(f"node {self.name} was refused: HTTP {answer.status}: {answer.body}")
        self._thread.start()
        if not self._ready.wait(within_seconds) or self._failure:
            self.stop()
            raise ServerError(f"node {self.name} did not start: {self._failure or 'too late'}")

    def stop(self) -> None:
        """Kill every pod's processes and end the threads. May be called again."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(main.cancel)
            self._thread.join(_STOP_SECONDS)
        pods = [*self.pods.values(), *self._ended]
        ending = [threading.Thread(target=pod.abandon) for pod in pods]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
        for volumes in self._volumes.values():
            volumes.stop()
        self._volumes.clear()

    def address(self, namespace: str, service: str, port: int | str) -> Address:
        """Return where a client of a Service's port (number or name) is led now: one ready pod. NoEndpoint if there is none."""

        async def find() -> Address:
            return self.services.endpoint(namespace, service, self.services.target_port(namespace, service, port))

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(find(), self._loop).result(5)

    def of_namespace(self, namespace: str) -> dict[str, RunningPod]:
        """Return the pods of a namespace by name."""
        return {name: pod for (space, name), pod in list(self.pods.items()) if space == namespace}

    # What runs on the loop.

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits in `start`
            self._failure.append(error)
        self._ready.set()

    async def _watch(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        await self.proxy.start()
        headers = {"Authorization": f"Bearer {self.plane.admin_token}", "User-Agent": "aigateway-node"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.plane.ca_file)))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._ready.set()
        try:
            async with aiohttp.ClientSession(self.plane.url, headers=headers, connector=connector, timeout=timeout) as session:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(follow(session, Collection("/api/v1/pods", {}, self._pods_listed, self._pod_event)))
                    services = Collection("/api/v1/services", {}, self._services_listed, self._service_event)
                    tasks.create_task(follow(session, services))
        finally:
            await self.proxy.stop()
            await asyncio.sleep(_GOODBYE_SECONDS)

    def _services_listed(self, items: Sequence[JsonObject]) -> None:
        self.services.set_services({_key(item): item for item in items})

    def _service_event(self, kind: str, body: JsonObject) -> None:
        self.services.set_service(_key(body), None if kind == "DELETED" else body)

    def _pods_listed(self, items: Sequence[JsonObject]) -> None:
        present = {_key(item) for item in items}
        for key in [key for key in self.pods if key not in present]:
            self._gone(key)
        for item in items:
            self._pod_event("MODIFIED", item)

    def _pod_event(self, kind: str, body: JsonObject) -> None:
        key = _key(body)
        known = self.pods.get(key)
        if known is not None and (kind == "DELETED" or known.uid != body["metadata"]["uid"]):
            self._gone(key)
            known = None
        if kind == "DELETED":
            return
        self._show_later(key, body)
        if known is not None:
            known.update(body)
        elif body["spec"].get("nodeName", "") in ("", self.name) and not body["spec"].get("schedulingGates"):
            self._begin(key, body)

    def _begin(self, key: Key, body: JsonObject) -> None:
        if "deletionTimestamp" in body["metadata"] and not body["spec"].get("nodeName"):
            return
        namespace = body["metadata"]["namespace"]
        volumes = self._volumes.get(namespace)
        if volumes is None:
            volumes = KubeletVolumes(
                self.plane, namespace, self.directory / "volumes" / namespace, timing=self._timing, node=self.name
            )
            self._volumes[namespace] = volumes
            threading.Thread(target=volumes.start, name=f"volumes {namespace}", daemon=True).start()  # it lists; we go on
        pod = RunningPod(self.plane, volumes, self.directory / "pods", body)
        self.pods[key] = pod
        pod.start()
        pod.update(body)

    def _show_later(self, key: Key, body: JsonObject | None) -> None:
        """Let connections follow a pod, late, and never back to an older state when the lag was made shorter meanwhile."""
        assert self._loop is not None
        now = self._loop.time()
        self._shown_until = max(self._shown_until, now + self.endpoint_lag_seconds)
        self._loop.call_at(self._shown_until, self.services.set_pod, key, body)

    def _gone(self, key: Key) -> None:
        self._show_later(key, None)
        pod = self.pods.pop(key)
        self._ended = [one for one in self._ended if not one.finished]
        if not pod.finished:
            self._ended.append(pod)
            threading.Thread(target=pod.abandon, daemon=True).start()


def _key(body: JsonObject) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]
