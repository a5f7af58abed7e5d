"""Pods of a test that are not processes: a Pod object on the real API server, and a small listener at its own loopback address.

The listener answers as the pod library does, or as a test bids it; it takes up the live ConfigMaps and Secrets a moment after
it was poked, as a kubelet would let it. For tests of the operator; pods that really read files are in `tests/pods.py`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aigateway_config.documents import STATUS_PATH
from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from tests.apiserver.world import World

_ADDRESSES: Iterator[int] = itertools.count(2)
SYNC_SECONDS = 0.1


def free_port() -> int:
    """Return a port that is free at every loopback address a stub may get."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pod: StubPod = self.server.pod  # type: ignore[attr-defined]  # set by StubPod
        pod.asked += 1
        time.sleep(pod.delay_seconds)
        body = pod.body if pod.body is not None else json.dumps(pod.told()).encode()
        with suppress(OSError):
            self.send_response(pod.code if self.path == STATUS_PATH else 404)
            for name, value in pod.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class StubPod:
    """One pod. `frozen`: it takes up nothing. `lie`: its digests are wrong. `body`, `code`, `headers`, `delay_seconds`: what it
    answers instead, and when.
    """

    def __init__(self, world: World, name: str, port: int, *, labels: dict[str, str] | None = None, ready: bool = True) -> None:
        self.world, self.name = world, name
        number = next(_ADDRESSES)
        self.ip = f"127.0.{number // 250}.{number % 250 + 2}"
        self.asked, self.delay_seconds, self.code, self.frozen, self.lie = 0, 0.0, 200, False, False
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.answer: dict[str, Any] = {}
        self._server = _Server((self.ip, port), _Handler)
        self._server.pod = self  # type: ignore[attr-defined]  # for the handler
        self._stopping = threading.Event()
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {"app": "gateway"}},
            "spec": {"nodeName": "none", "automountServiceAccountToken": False, "containers": [{"name": "a", "image": "a"}]},
        }
        made = world.plane.request("POST", self._path(), manifest)
        assert made.status == 201, made.body
        self.load()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._kubelet, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.set_ready(ready)

    def _path(self, name: str = "", subresource: str = "") -> str:
        parts = ["/api/v1/namespaces", self.world.namespace, "pods", name, subresource]
        return "/".join(part for part in parts if part)

    def set_ready(self, ready: bool = True) -> None:
        """Report as a kubelet does."""
        status = {
            "phase": "Running",
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        path = self._path(self.name, "status")
        answer = self.world.plane.request("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body

    @property
    def poked(self) -> str:
        """What the annotation says."""
        obj = self.world.plane.request("GET", self._path(self.name)).body
        return str((obj["metadata"].get("annotations") or {}).get(CONFIG_REVISION_ANNOTATION, ""))

    def told(self) -> dict[str, Any]:
        """Return what it says that it runs."""
        wrong = {"digest": "f" * 64} if self.lie else {}
        documents = {file: {**state, **wrong} for file, state in self.answer.get("documents", {}).items()}
        return {**self.answer, "documents": documents}

    def load(self) -> None:
        """Run what the API server has now."""
        documents, credentials, lineage = {}, {}, None
        if self.world.exists("ConfigMap", "main-config"):
            data = self.world.data("main-config")
            manifest = json.loads(data["config.manifest.json"])
            lineage = manifest["lineage"]
            digest = hashlib.sha256(data["config.yml"].encode()).hexdigest()
            documents["config.yml"] = {"revision": manifest["revision"], "digest": digest}
        if self.world.exists("Secret", "main-credentials"):
            data = self.world.get("Secret", "main-credentials")["data"]
            credentials["_manifest.json"] = json.loads(base64.b64decode(data["_manifest.json"]))["credentialsRevision"]
        self.answer = {
            "lineage": lineage,
            "documents": documents,
            "credentials": credentials,
            "credentialsRevision": max(credentials.values(), default=None),
            "loadedAt": None,
            "restartRequired": [],
            "error": None,
        }

    def _kubelet(self) -> None:
        """Sync a moment after each poke."""
        before = ""
        while not self._stopping.wait(0.03):
            with suppress(OSError, AssertionError, KeyError):
                now = self.poked
                if now != before and not self._stopping.wait(SYNC_SECONDS):
                    before = now
                    if not self.frozen:
                        self.load()

    def stop(self) -> None:
        """Delete the pod and end its listener."""
        self._stopping.set()
        self.world.plane.request("DELETE", f"{self._path(self.name)}?gracePeriodSeconds=0")
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(5)
