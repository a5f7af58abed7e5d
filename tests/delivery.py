"""From an edit to the pods and back to the status, with everything real but the kubelet: for tests of delivery and proof.

`Fleet` runs pods whose workers keep ledgers (`tests/reading_pod.py`); `StatusRecord` follows what the GatewayConfig says, and
`assert_honest` compares the two: a status that claims what some worker did not run yet is a lie. Not a test module.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from hack.audit import AuditMark
from hack.kubelet import FAST, KubeletVolumes, StandInPod
from hack.kubelet.pods import PYTHON
from hack.kubelet.timing import Timing
from hack.kubelet.watch import Collection, follow
from hack.process import free_ports
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.background import LoopThread
from tests.eventually import eventually
from tests.operators import USER
from tests.pods import ask, mount_template

PROGRAM = Path(__file__).resolve().parent / "reading_pod.py"
SELECTOR = {"matchLabels": {"app": "gateway"}}
SEEN_SECONDS = 0.5
"""A pod that turned ready less than this before a status was written need not be known to the operator yet."""


def backends(**more: Any) -> list[dict[str, Any]]:
    """Return the two backends of the tests' models, each with a key of its own."""
    small = {"name": "small", "model": "small-model", "apiKeySecretRef": {"name": "keys", "key": "small"}}
    return [small, {"name": "big", "model": "big-model", "apiKeySecretRef": {"name": "keys", "key": "big"}, **more}]


def furnish(world: World, port: int, *models: str, spec: dict[str, Any] | None = None, **delivery: Any) -> None:
    """Create Secret, models and a gateway that selects pods, in this order: the first revision has all of the models.

    An operator runs already and is given time to have seen the models: tests count revisions.
    """
    names = models or ("chat",)
    world.create(secret(proxy="caller-key", small="small-model-key", big="big-model-key"))
    world.create(*(virtual_model(name, backends=backends()) for name in names))

    def seen() -> None:
        for name in names:
            assert world.get("VirtualModel", name)["status"].get("observedGeneration"), name

    eventually(seen, within_seconds=20)
    world.create(gateway_config(**(spec or {}), delivery={"podSelector": SELECTOR, "statusPort": port, **delivery}))


@dataclass
class Pod:
    """A pod of a `Fleet`. `ready`: from when to when (None: still) the API server has had it ready, in monotonic seconds."""

    stand_in: StandInPod
    ledger: Path
    ready: list[tuple[float, float | None]] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.stand_in.name

    def records(self) -> dict[int, list[dict[str, Any]]]:
        """Return, by pid, what each worker has written."""
        found = {}
        for file in self.ledger.glob("*.jsonl"):
            lines = file.read_text().splitlines()
            found[int(file.stem)] = [json.loads(line) for line in lines if line.endswith("}")]
        return found

    @property
    def workers(self) -> list[int]:
        """Pids of the workers that were not killed."""
        return sorted(self.records().keys() - self.dead)

    def holder(self, port: int) -> int:
        """Return the pid of the worker that holds the status port."""
        inodes = _listening(self.stand_in.ip, port)
        for pid in self.workers:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    if str(link.readlink()) in inodes:
                        return pid
                except FileNotFoundError:
                    continue
        raise AssertionError(f"no worker of {self.name} listens on {self.stand_in.ip}:{port}")

    def freeze(self, pid: int) -> None:
        """Stop one worker where it stands."""
        assert pid in self.workers
        os.kill(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """Let it go on."""
        os.kill(pid, signal.SIGCONT)

    def kill(self, pid: int) -> None:
        """End one worker as the kernel does when memory is short."""
        os.kill(pid, signal.SIGKILL)
        self.dead.add(pid)

    def lacks(self) -> list[str]:
        """Return what requests lacked."""
        return [record["lacks"] for records in self.records().values() for record in records if "lacks" in record]

    def served(self) -> int:
        """Return how many requests were served."""
        counts = [[record["served"] for record in records if "served" in record] for records in self.records().values()]
        return sum(count[-1] for count in counts if count)

    def ran(self, pid: int, at: float) -> dict[str, Any]:
        """Return what a worker ran at a time; {} before its first configuration."""
        states = [record for record in self.records()[pid] if record["at"] <= at and "documents" in record]
        return states[-1] if states else {}

    def credentials_of(self, pid: int, at: float) -> list[int]:
        """Return the revisions of credentials that a worker ran, one after the other, until a time; not empty."""
        states = [record for record in self.records()[pid] if record["at"] <= at and record.get("credentials")]
        return [max(state["credentials"].values()) for state in states] or [-1]

    def now(self, pid: int | None = None) -> dict[str, Any]:
        """Return what a worker, by default the first, runs now."""
        return self.ran(self.workers[0] if pid is None else pid, time.monotonic())

    def runs(self, within_seconds: float = 20.0, **documents: int) -> float:
        """Wait until every worker runs these revisions (`config=2`); return when the last one began to."""
        wanted = {f"{name.replace('_', '-')}.yml": revision for name, revision in documents.items()}

        def check() -> float:
            found: list[float] = []
            for records in (self.records()[pid] for pid in self.workers):
                began = [one["at"] for one in records if (one.get("documents") or {}).items() >= wanted.items()]
                assert began, f"{self.name} runs {records[-1].get('documents')}, not {wanted}: {self.stand_in.log}"
                found.append(min(began))
            return max(found)

        return eventually(check, within_seconds=within_seconds, every_seconds=0.02)

    def set_ready(self, ready: bool) -> None:
        """Report as a kubelet does."""
        if not ready:
            self._end()
        self.stand_in.set_status(phase="Running", ready=ready)
        if ready:
            self.ready.append((time.monotonic(), None))

    def delete(self) -> None:
        """Take it away at once."""
        self._end()
        self.stand_in.delete()

    def terminate(self) -> None:
        """Delete it as a rollout does: it is on its way out first."""
        self._end()
        self.stand_in.terminate()

    def _end(self) -> None:
        if self.ready and self.ready[-1][1] is None:
            self.ready[-1] = self.ready[-1][0], time.monotonic()

    def ready_at(self, at: float) -> bool:
        """Tell whether the pod counts for a status that was written at a time."""
        return any(since + SEEN_SECONDS <= at and (until is None or at < until) for since, until in self.ready)


def _listening(ip: str, port: int) -> set[str]:
    """Return the sockets, as links of /proc/<pid>/fd say them, that listen at an address."""
    packed = "".join(f"{int(part):02X}" for part in reversed(ip.split(".")))
    wanted, found = f"{packed}:{port:04X}", set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == "0A":
            found.add(f"socket:[{fields[9]}]")
    return found


class Fleet:
    """Pods of one gateway `main` on one stand-in kubelet. Made by `fleet`."""

    def __init__(self, world: World, kubelet: KubeletVolumes, folder: Path, shards: int) -> None:
        self.world, self.kubelet, self.shards = world, kubelet, shards
        self.port = free_ports(1)[0]
        self.pods: list[Pod] = []
        self._folder = folder

    def start(self, name: str, *, workers: int = 1, ready: bool = True, load: bool = False, **environment: Any) -> Pod:
        """Start a pod and wait until it runs something; it is ready then, if `ready`."""
        ledger = self._folder / f"{name}-{len(self.pods)}"
        ledger.mkdir(parents=True)
        names = {"LEDGER": str(ledger), "STATUS_PORT": str(self.port), "WORKERS": str(workers), "PYTHONPATH": _PATHS}
        names |= {"LOAD": "1"} if load else {}
        template = mount_template("main", shards=self.shards)
        stand_in = StandInPod.start(
            self.kubelet, name, template, [PYTHON, PROGRAM], environment={**names, **environment}, ready_within_seconds=None
        )
        pod = Pod(stand_in, ledger)
        self.pods.append(pod)

        def runs() -> None:
            assert len(pod.workers) == workers, stand_in.log
            assert ask(stand_in, self.port)["lineage"] is not None, stand_in.log

        eventually(runs, within_seconds=40)
        if ready:
            pod.set_ready(True)
        return pod

    def stop(self) -> None:
        """End everything."""
        for pod in self.pods:
            pod.delete()


_PATHS = os.pathsep.join(str(PROGRAM.parent.parent / part) for part in ("operator", "."))


@contextmanager
def fleet(world: World, folder: Path, *, shards: int = 1, timing: Timing = FAST) -> Iterator[Fleet]:
    """Run pods on a stand-in kubelet for as long as the context lasts."""
    with KubeletVolumes(world.plane, world.namespace, timing=timing) as kubelet:
        made = Fleet(world, kubelet, folder, shards)
        try:
            yield made
        finally:
            made.stop()


@dataclass(frozen=True)
class Said:
    """One status as the watch delivered it. `at`: monotonic seconds."""

    at: float
    status: dict[str, Any]

    @property
    def propagated(self) -> tuple[str, str]:
        """Status and reason."""
        for condition in self.status.get("conditions") or []:
            if condition["type"] == "Propagated":
                return condition["status"], condition["reason"]
        return "", ""

    @property
    def rollout(self) -> dict[str, Any]:
        return self.status.get("rollout") or {}


class Record:
    """Every status of GatewayConfig `main`, and every revision of its documents, from `record` on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[Said] = []
        self.revisions: dict[str, set[int]] = {}
        self._changes = 0
        self._mark: AuditMark = world.plane.audit_mark()
        self._offset = time.time() - time.monotonic()
        self._listed = threading.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        headers = {"Authorization": f"Bearer {self.world.plane.admin_token}"}
        async with aiohttp.ClientSession(self.world.plane.url, headers=headers, connector=_tls(self.world)) as session:
            gateways = Collection(self.world.path("GatewayConfig"), {}, self._gateways, self._gateway)
            maps = Collection(self.world.path("ConfigMap"), {}, self._config_maps, self._config_map)
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(session, gateways))
                group.create_task(follow(session, maps))

    def wait_listed(self) -> None:
        """Return once nothing is missed any more."""
        assert self._listed.wait(10)

    def _gateways(self, items: Any) -> None:
        for item in items:
            self._gateway("LISTED", item)
        self._listed.set()

    def _gateway(self, kind: str, obj: dict[str, Any]) -> None:
        status = obj.get("status") or {}
        if obj["metadata"]["name"] == "main" and (not self.said or self.said[-1].status != status):
            self.said.append(Said(time.monotonic(), status))
            self._changes += kind == "MODIFIED"

    def _config_maps(self, items: Any) -> None:
        for item in items:
            self._config_map("LISTED", item)

    def _config_map(self, _kind: str, obj: dict[str, Any]) -> None:
        for file, text in (obj.get("data") or {}).items():
            if file.endswith(".manifest.json"):
                self.revisions.setdefault(file.replace(".manifest.json", ".yml"), set()).add(json.loads(text)["revision"])

    def writes(self) -> tuple[list[Said], list[float]]:
        """Return the statuses of the gateway, and when the operator asked for each, in monotonic seconds, both in order.

        A status is seen before the request that wrote it has been answered and recorded, and the next may come meanwhile:
        what has no write of its own yet would be held against the one before.
        """
        said, changes = list(self.said), self._changes

        def of_every_change() -> list[float]:
            records = self.world.plane.audit_since(self._mark, user=USER, resource="gatewayconfigs/status")
            mine = [record for record in records if record.namespace == self.world.namespace and record.code == 200]
            assert len(mine) >= changes
            return sorted(datetime.fromisoformat(record.time).timestamp() - self._offset for record in mine)

        return said, eventually(of_every_change, within_seconds=10)

    def assert_honest(self, pods: list[Pod]) -> int:
        """Assert that each status that says True was true when it was written; return how many there were."""
        told, writes = self.writes()
        checked = 0
        for said in told:
            if said.propagated[0] != "True":
                continue
            at = max((write for write in writes if write <= said.at), default=None)
            if at is None:
                continue  # it was there before the record began
            checked += 1
            revision, credentials = said.rollout["revision"], said.rollout["credentialsRevision"]
            wanted = {file: max(one for one in known if one <= revision) for file, known in self.revisions.items()}
            for pod in pods:
                for pid in pod.workers if pod.ready_at(at) else ():
                    ran = pod.ran(pid, at)
                    assert ran.get("documents") == wanted, f"{said.propagated} of {wanted}: worker {pid} of {pod.name}: {ran}"
                    # It may run more by now: keys that no document names any more went after the proof, and a poke was faster
                    # than the status. But it must have run the very ones, unless it began with more.
                    had = pod.credentials_of(pid, at)
                    text = f"worker {pid} of {pod.name} ran credentials {had}: {said.rollout}"
                    assert credentials in had or min(had) > credentials, text
        return checked


def _tls(world: World) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(world.plane.ca_file)))


@contextmanager
def record(world: World) -> Iterator[Record]:
    """Record for as long as the context lasts."""
    made = Record(world)
    with LoopThread(made.run, "status record"):
        made.wait_listed()
        yield made


def propagated(world: World, status: str, reason: str, within_seconds: float = 20.0) -> dict[str, Any]:
    """Wait for a status and reason of Propagated; return the condition."""
    return world.wait_condition("GatewayConfig", "main", "Propagated", status, reason, within_seconds=within_seconds)


def wait_all_run(world: World, pods: int, within_seconds: float = 20.0, **rollout: int) -> dict[str, Any]:
    """Wait until all of so many pods run the newest documents, and `rollout` has these numbers; return status.rollout."""

    def check() -> dict[str, Any]:
        obj = world.get("GatewayConfig", "main")
        status = obj["status"]
        said: dict[str, Any] = status.get("rollout") or {}
        conditions = {one["type"]: (one["status"], one.get("observedGeneration")) for one in status.get("conditions") or []}
        assert conditions.get("Propagated") == ("True", obj["metadata"]["generation"]), status
        assert status["pods"] == f"{pods}/{pods}", status
        assert said.items() >= rollout.items(), said
        return said

    return eventually(check, within_seconds=within_seconds, every_seconds=0.02)


def api_reader(world: World, folder: Path) -> dict[str, Any]:
    """Let pods of the namespace watch ConfigMaps; return the environment by which `reading_pod` does."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
    group = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}"
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": world.namespace}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    for plural, body in (("roles", {"rules": rules}), ("rolebindings", {"subjects": subjects, "roleRef": reference})):
        made = world.plane.request("POST", f"{group}/{plural}", {"metadata": {"name": "reader"}, **body})
        assert made.status == 201, made.body
    token = world.plane.token_for_service_account(world.namespace, "default")

    def in_force() -> None:  # the authorizer learns of a Role by a watch of its own
        assert world.plane.request("GET", world.path("ConfigMap"), token=token).status == 200

    eventually(in_force, within_seconds=10)
    file = folder / "reader-token"
    file.write_text(token)
    return {
        "API_SERVER": world.plane.url,
        "API_NAMESPACE": world.namespace,
        "API_TOKEN_FILE": str(file),
        "API_CA_FILE": str(world.plane.ca_file),
    }
