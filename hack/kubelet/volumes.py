"""One node's kubelet as far as volumes go: watches its pods and what they mount, and keeps their files up to date.

Runs in a thread with a loop of its own. Pods are its own when their `spec.nodeName` is `node`. A pod's volumes are written
when a sync is due (see `timing`), never otherwise, so that a test sees late, missed and coalesced updates as on a real node.
It starts no programs (see `pods`) and writes nothing to the API server.

    with KubeletVolumes(plane, namespace, timing=FAST) as kubelet:
        StandInPod.start(kubelet, "gateway-0", template, command)
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from hack.controlplane import ControlPlane
from hack.kubelet.sources import Key, MountError, names_in, payload_of, values_of
from hack.kubelet.timing import REAL, TOGETHER_SECONDS, Loop, Schedule, Timing
from hack.kubelet.watch import Collection, follow
from hack.kubelet.writer import Payload, write_volume
from hack.process import REAPER, ServerError

JsonObject = dict[str, Any]
_STOP_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 0.05
"""Until TLS connections of watches that were cut off are closed; aiohttp's documentation on graceful shutdown says so."""
_WATCHED: Final = {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets"}


@dataclass(frozen=True, slots=True)
class Swap:
    """One volume that was written, at a time of `time.monotonic()`."""

    pod: str
    volume: str
    at: float


@dataclass(slots=True)
class _Pod:
    """What is known of one pod. `problem` is why its volumes are not what they should be."""

    body: JsonObject
    schedule: Schedule
    folder: Path
    mounted: bool = False
    held: bool = False
    problem: str | None = "not looked at yet"
    payloads: dict[str, Payload] = field(default_factory=dict, repr=False)
    syncs: int = 0
    synced_annotations: Mapping[str, str] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class Writing:
    """How long the files of pods that are synced together take to write: so much before they are due it begins.

    Delays were measured until the last of two pods had its files, written by a kubelet on a machine of its own. Here one thread
    writes them, one pod after the other, beside all that is measured.
    """

    def __init__(self, timing: Timing) -> None:
        self.lead_seconds = 0.0
        self._longest = timing.poked_seconds[0] / 2  # or files would be written before what is to be in them is known
        self._sum = 0.0
        self._ended = -math.inf

    def took(self, began: float, ended: float) -> None:
        """Note a sync; those that follow each other within TOGETHER_SECONDS count as one."""
        self._sum = ended - began + (self._sum if began - self._ended < TOGETHER_SECONDS else 0.0)
        self._ended = ended
        self.lead_seconds = min(self._sum, self._longest)


class KubeletVolumes:
    """The volumes of all pods of one node in one namespace. Start and end it by `with`.

    `directory` takes one folder a pod (`<uid>/volumes/<volume>`); None makes a temporary one that goes with it. `seed` decides
    every drawn delay. `swaps` is what was written so far, oldest first.
    """

    def __init__(
        self, plane: ControlPlane, namespace: str, directory: Path | None = None, *, timing: Timing = REAL, seed: int = 0,
        node: str = "stand-in",
    ) -> None:  # fmt: skip
        self.plane = plane
        self.namespace = namespace
        self.node = node
        self.swaps: list[Swap] = []
        self._temporary = directory is None
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="aigateway-kubelet-"))
            REAPER.tell("+folder", directory)
        self.directory = directory.resolve()
        self._timing = timing
        self._random = Random(seed)  # noqa: S311 - delays, no secrets
        self._pokes = Loop(self._random, timing.relist_seconds)
        self._writing = Writing(timing)
        self._pods: dict[str, _Pod] = {}
        self._values: dict[Key, dict[str, bytes]] = {}
        self._listed: set[str] = set()
        self._changed = threading.Condition(threading.RLock())
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, within_seconds: float = 15.0) -> None:
        """Return when pods, ConfigMaps and Secrets have been listed once. ServerError when they are not in time."""
        self._thread.start()
        if not self._wait(lambda: self._listed == set(_WATCHED) or self._failure is not None, within_seconds) or self._failure:
            self.stop()
            raise ServerError(f"the kubelet's stand-in could not list pods and what they mount: {self._failure or 'too late'}")

    def stop(self) -> None:
        """End the thread and remove a temporary folder. May be called again."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(main.cancel)
            self._thread.join(_STOP_SECONDS)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
            REAPER.tell("-folder", self.directory)

    # What tests ask and do, from any thread.

    def folder(self, pod: str, volume: str) -> Path:
        """Return where a volume of a pod is mounted. KeyError for a pod that is not on this node (yet)."""
        with self._changed:
            return self._pods[pod].folder / volume

    def wait_mounted(self, pod: str, within_seconds: float = 15.0) -> Path:
        """Wait until a pod could start, and return the folder that holds one folder a volume. ServerError says why not."""

        def mounted() -> bool:
            return pod in self._pods and self._pods[pod].mounted

        if not self._wait(mounted, within_seconds):
            raise ServerError(f"the volumes of pod {pod} are not mounted after {within_seconds} s: {self.problem(pod)}")
        with self._changed:
            return self._pods[pod].folder

    def wait_swap(self, pod: str, volume: str, after: float, within_seconds: float = 15.0) -> Swap:
        """Wait for the first swap of a volume later than `after` (`time.monotonic()`) and return it. ServerError if late."""
        found: list[Swap] = []

        def swapped() -> bool:
            found[:] = [swap for swap in self.swaps if (swap.pod, swap.volume) == (pod, volume) and swap.at > after]
            return bool(found)

        if not self._wait(swapped, within_seconds):
            raise ServerError(f"volume {volume} of pod {pod} was not written within {within_seconds} s; {self.problem(pod)}")
        return found[0]

    def problem(self, pod: str) -> str | None:
        """Return why the volumes of a pod are not what they should be, in a kubelet's words; None: they are."""
        with self._changed:
            return self._pods[pod].problem if pod in self._pods else f"no pod {pod} on node {self.node}"

    def syncs(self, pod: str) -> int:
        """Return how often a pod has been synced, whether or not a file was written."""
        with self._changed:
            return self._pods[pod].syncs

    def synced_annotations(self, pod: str) -> Mapping[str, str]:
        """Return the annotations the pod had at its last sync: which poke has been answered."""
        with self._changed:
            return self._pods[pod].synced_annotations

    def hold(self, pod: str) -> None:
        """Do not sync this pod until `release`: its node hangs."""
        self._do(self._set_held, pod, True)

    def release(self, pod: str) -> None:
        """Sync this pod again, the first time at once."""
        self._do(self._set_held, pod, False)

    def _do(self, call: Callable[..., None], *arguments: object) -> None:
        """Run a call on the loop and wait for it, so that its effect is there when we return."""
        loop, done, errors = self._loop, threading.Event(), []
        assert loop is not None

        def run() -> None:
            try:
                call(*arguments)
            except Exception as error:  # noqa: BLE001 - raised below, where the caller is
                errors.append(error)
            done.set()

        loop.call_soon_threadsafe(run)
        if not done.wait(_STOP_SECONDS):
            raise ServerError("the kubelet's stand-in does not answer")
        if errors:
            raise errors[0]

    def _wait(self, check: Callable[[], bool], within_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(check, within_seconds)

    # What runs on the loop.

    def _run(self) -> None:
        try:
            asyncio.run(self._watch_all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits in `start`
            self._failure = error
        with self._changed:
            self._changed.notify_all()

    async def _watch_all(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        headers = {"Authorization": f"Bearer {self.plane.admin_token}", "User-Agent": "aigateway-kubelet"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.plane.ca_file)))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with aiohttp.ClientSession(self.plane.url, headers=headers, connector=connector, timeout=timeout) as session:
                async with asyncio.TaskGroup() as tasks:
                    for kind in _WATCHED:
                        tasks.create_task(follow(session, self._collection(kind)))
        finally:
            await asyncio.sleep(_GOODBYE_SECONDS)

    def _collection(self, kind: str) -> Collection:
        path = f"/api/v1/namespaces/{self.namespace}/{_WATCHED[kind]}"
        query = {"fieldSelector": f"spec.nodeName={self.node}"} if kind == "Pod" else {}
        if kind == "Pod":
            return Collection(path, query, self._pods_listed, self._pod_event)
        return Collection(path, query, partial(self._sources_listed, kind), partial(self._source_event, kind))

    def _pods_listed(self, items: Sequence[JsonObject]) -> None:
        names = {item["metadata"]["name"] for item in items}
        for gone in self._pods.keys() - names:
            self._forget(gone)
        for item in items:
            self._pod_event("MODIFIED", item)
        self._note_listed("Pod")

    def _pod_event(self, kind: str, body: JsonObject) -> None:
        name = body["metadata"]["name"]
        known = self._pods.get(name)
        if known is not None and (kind == "DELETED" or known.body["metadata"]["uid"] != body["metadata"]["uid"]):
            self._forget(name)
            known = None
        if kind == "DELETED":
            return
        if known is None:
            folder = self.directory / body["metadata"]["uid"] / "volumes"
            with self._changed:
                self._pods[name] = known = _Pod(body, Schedule(self._timing, self._random, self._pokes), folder)
                self._changed.notify_all()
        elif _seen_by_kubelet(known.body) == _seen_by_kubelet(body):
            known.body = body
            return
        known.body = body
        known.schedule.poked(time.monotonic())
        self._arm(known)

    def _forget(self, name: str) -> None:
        with self._changed:
            pod = self._pods.pop(name)
            self._changed.notify_all()
        if pod.timer is not None:
            pod.timer.cancel()
        shutil.rmtree(pod.folder.parent, ignore_errors=True)

    def _sources_listed(self, kind: str, items: Sequence[JsonObject]) -> None:
        found = {(kind, item["metadata"]["name"]): values_of(kind, item) for item in items}
        for key in [key for key in self._values if key[0] == kind and key not in found]:
            self._set_values(key, None)
        for key, values in found.items():
            self._set_values(key, values)
        self._note_listed(kind)

    def _source_event(self, kind: str, event: str, body: JsonObject) -> None:
        self._set_values((kind, body["metadata"]["name"]), None if event == "DELETED" else values_of(kind, body))

    def _set_values(self, key: Key, values: dict[str, bytes] | None) -> None:
        if self._values.get(key) == values:
            return
        if values is None:
            del self._values[key]
        else:
            self._values[key] = values
        for pod in self._pods.values():
            if key in names_in(pod.body):
                pod.schedule.changed(time.monotonic())
                self._arm(pod)

    def _note_listed(self, kind: str) -> None:
        with self._changed:
            self._listed.add(kind)
            self._changed.notify_all()

    def _set_held(self, name: str, held: bool) -> None:
        pod = self._pods[name]
        pod.held = held
        if not held:
            pod.schedule.poked(time.monotonic())
        self._arm(pod)

    def _arm(self, pod: _Pod) -> None:
        """Set the one timer of a pod to when its next sync is due."""
        if pod.timer is not None:
            pod.timer.cancel()
            pod.timer = None
        due, leaving = pod.schedule.due, "deletionTimestamp" in pod.body["metadata"]
        if due is not None and not pod.held and not leaving:  # a pod that is leaving keeps the files it has
            assert self._loop is not None
            due -= self._writing.lead_seconds
            pod.timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._sync, pod)

    def _sync(self, pod: _Pod) -> None:
        """Write the volumes as they should be now. A source that is missing leaves its volume as it is."""
        now, swaps = time.monotonic(), len(self.swaps)
        problems = ["ConfigMaps and Secrets are not listed yet"] if self._listed != set(_WATCHED) else self._write(pod)
        if len(self.swaps) > swaps:
            self._writing.took(now, time.monotonic())
        if problems and not pod.mounted:
            pod.schedule.failed(now)
        else:
            pod.schedule.synced(now)
        with self._changed:
            pod.problem = "; ".join(problems) or None
            pod.syncs += 1
            pod.synced_annotations = pod.body["metadata"].get("annotations") or {}
            pod.mounted = pod.mounted or not problems
            self._changed.notify_all()
        self._arm(pod)

    def _write(self, pod: _Pod) -> list[str]:
        problems = []
        for volume in pod.body["spec"].get("volumes") or []:
            folder = pod.folder / volume["name"]
            try:
                payload = payload_of(volume, pod.body, self._values)
                if payload is None:
                    self._make_folder(folder, volume)
                elif pod.payloads.get(volume["name"]) != payload and write_volume(folder, payload):
                    with self._changed:
                        self.swaps.append(Swap(pod.body["metadata"]["name"], volume["name"], time.monotonic()))
                pod.payloads[volume["name"]] = payload or {}  # so that a sync of many large files reads none of them
            except MountError as error:
                problems.append(f'MountVolume.SetUp failed for volume "{volume["name"]}": {error}')
        return problems

    def _make_folder(self, folder: Path, volume: Mapping[str, Any]) -> None:
        """Make an empty folder that goes with its pod; for a claim, one that the next pod with that claim finds again."""
        claim = volume.get("persistentVolumeClaim")
        if claim is None:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_symlink():
            kept = self.directory / "claims" / claim["claimName"]
            kept.mkdir(parents=True, exist_ok=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(kept)


def _seen_by_kubelet(pod: Mapping[str, Any]) -> str:
    """Return what a kubelet compares to tell whether a pod has changed: not its status."""
    metadata = pod["metadata"]
    parts = [metadata.get("labels"), metadata.get("annotations"), metadata.get("deletionTimestamp"), pod["spec"]]
    return json.dumps(parts, sort_keys=True)
