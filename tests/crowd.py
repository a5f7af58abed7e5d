"""Many pods at little cost: Pod objects on the real API server, and one listener that answers for all of them.

Each pod has a loopback address of its own; the listener tells them apart by the address it was reached at. A pod takes up what
the API server has a moment after it was poked, as a kubelet would let it, and answers as the pod library does. For tests and
benchmarks of what a crowd costs the operator; nothing here reads files.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import aiohttp

from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from hack.kubelet.watch import Collection, follow
from hack.process import free_ports
from tests.apiserver.world import World
from tests.background import LoopThread

CREATING = 8
JsonObject = dict[str, Any]


class Crowd:
    """Pods `pod-000` … of gateway `main`. Made by `crowd`. `asked`: how many questions were answered, so far. `poked_at`: when
    a pod was poked last.

    `sync_seconds`: draws the delay from a poke to the sync that it leads to. `synced`: pod → when it last took something up.
    """

    def __init__(self, world: World, count: int, sync_seconds: Callable[[], float]) -> None:
        self.world, self.count = world, count
        self.port = free_ports(1)[0]
        self.asked = 0
        self.pokes = 0
        self.poked_at = 0.0
        self.synced: dict[str, float] = {}
        self._sync_seconds = sync_seconds
        block = random.SystemRandom().randint(1, 254)
        self._names = {f"127.{block}.{number // 250}.{number % 250 + 1}": f"pod-{number:03d}" for number in range(count)}
        self._poked: dict[str, str] = {}
        self._answers: dict[str, bytes] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        self._credentials: dict[str, int] = {}
        self._lineage: str | None = None

    async def run(self) -> None:
        """Listen and follow until cancelled."""
        context = ssl.create_default_context(cafile=str(self.world.plane.ca_file))
        headers = {"Authorization": f"Bearer {self.world.plane.admin_token}", "User-Agent": "crowd"}
        connector = aiohttp.TCPConnector(ssl=context)
        server = await asyncio.start_server(self._serve, "0.0.0.0", self.port, backlog=512)
        async with server, aiohttp.ClientSession(self.world.plane.url, headers=headers, connector=connector) as session:
            await self._create(session)
            root = f"/api/v1/namespaces/{self.world.namespace}"
            async with asyncio.TaskGroup() as group:
                for plural, take in (("pods", self._pod), ("configmaps", self._config_map), ("secrets", self._secret)):
                    collection = Collection(f"{root}/{plural}", {}, partial(self._listed, take), partial(self._event, take))
                    group.create_task(follow(session, collection))

    async def _create(self, session: aiohttp.ClientSession) -> None:
        path = f"/api/v1/namespaces/{self.world.namespace}/pods"
        spec = {"nodeName": "none", "automountServiceAccountToken": False, "containers": [{"name": "a", "image": "a"}]}
        waiting = iter(list(self._names.items()))

        async def create() -> None:
            for ip, name in waiting:
                body: JsonObject = {"metadata": {"name": name, "labels": {"app": "gateway"}}, "spec": spec}
                async with session.post(path, json=body) as answer:
                    assert answer.status == 201, await answer.text()
                ready = {"type": "Ready", "status": "True"}
                status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
                kind = {"Content-Type": "application/merge-patch+json"}
                text = json.dumps({"status": status})
                async with session.patch(f"{path}/{name}/status", data=text, headers=kind) as answer:
                    assert answer.status == 200, await answer.text()

        await asyncio.gather(*(create() for _ in range(CREATING)))

    def _listed(self, take: Callable[[JsonObject], None], items: Sequence[JsonObject]) -> None:
        for item in items:
            take(item)

    def _event(self, take: Callable[[JsonObject], None], _kind: str, obj: JsonObject) -> None:
        take(obj)

    def _pod(self, obj: JsonObject) -> None:
        name = obj["metadata"]["name"]
        poked = (obj["metadata"].get("annotations") or {}).get(CONFIG_REVISION_ANNOTATION, "")
        if self._poked.get(name) != poked:
            self.pokes += bool(poked)
            self._poked[name], self.poked_at = poked, time.monotonic()
            asyncio.get_running_loop().call_later(self._sync_seconds(), self._sync, name)

    def _config_map(self, obj: JsonObject) -> None:
        for file, text in (obj.get("data") or {}).items():
            if file.endswith(".manifest.json"):
                manifest = json.loads(text)
                self._lineage = manifest["lineage"]
                document = file.replace(".manifest.json", ".yml")
                self._documents[document] = {"revision": manifest["revision"], "digest": manifest["sha256"]}

    def _secret(self, obj: JsonObject) -> None:
        for file, text in (obj.get("data") or {}).items():
            if file.startswith("_manifest"):
                self._credentials[file] = json.loads(base64.b64decode(text))["credentialsRevision"]

    def _sync(self, name: str) -> None:
        """Let a pod run what there is now."""
        body = json.dumps(
            {
                "lineage": self._lineage,
                "documents": self._documents,
                "credentials": self._credentials,
                "credentialsRevision": max(self._credentials.values(), default=None),
                "loadedAt": None,
                "restartRequired": [],
                "error": None,
            }
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        answer = head.encode() + body
        if self._answers.get(name) != answer:
            self._answers[name] = answer
            self.synced[name] = time.monotonic()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self._answers.get(self._names.get(writer.get_extra_info("sockname")[0], ""), b""))
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@contextmanager
def crowd(world: World, count: int, sync_seconds: Callable[[], float] = lambda: 0.1) -> Iterator[Crowd]:
    """Run so many pods for as long as the context lasts."""
    made = Crowd(world, count, sync_seconds)
    with LoopThread(made.run, "crowd"):
        yield made
