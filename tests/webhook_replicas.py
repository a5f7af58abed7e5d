"""Webhook replicas as processes of their own behind one port, as a Service is: for tests of rotation and restarts.

Replicas run under their own ServiceAccount, which may read one Secret. A replica leaves the port before it ends, as endpoints
do. Used by tests/apiserver/test_certificates.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.controlplane import ControlPlane
from hack.process import free_ports
from tests.eventually import eventually
from tests.operators import NAMESPACE, ROOT

ACCOUNT = "aigateway-webhook"
_REVIEWS = re.compile(r"^aigateway_admission_reviews_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


def webhook_kubeconfig(plane: ControlPlane, directory: Path) -> Path:
    """Return a kubeconfig with the token of the webhook's ServiceAccount, which hack/manifests/operator.yaml holds."""
    token = plane.token_for_service_account(NAMESPACE, ACCOUNT)
    return plane.kubeconfig_for(ACCOUNT, token, directory / "webhook.kubeconfig")


@dataclass
class Replica:
    """`aigateway webhook` on free ports of 127.0.0.1."""

    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    log: Path

    @classmethod
    def start(cls, kubeconfig: Path, log: Path) -> Replica:
        """Start; see `wait_ready`."""
        port, health_port = free_ports(2)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            "AIGATEWAY_KUBECONFIG": str(kubeconfig),
            "AIGATEWAY_LEASE_NAMESPACE": NAMESPACE,
            "AIGATEWAY_WEBHOOK_HOST": "127.0.0.1",
            "AIGATEWAY_WEBHOOK_PORT": str(port),
            "AIGATEWAY_HEALTH_HOST": "127.0.0.1",
            "AIGATEWAY_HEALTH_PORT": str(health_port),
        }
        with log.open("wb") as output:
            command = [sys.executable, "-m", "aigateway_operator", "webhook"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        return cls(process, port, health_port, log)

    def wait_ready(self) -> Replica:
        """Wait until it has a certificate to serve."""
        eventually(lambda: self._assert_answer("/readyz"), within_seconds=40)
        return self

    def reviews(self) -> float:
        """Return how many reviews it has decided."""
        return sum(float(value) for value in _REVIEWS.findall(self._assert_answer("/metrics")))

    def stop(self) -> None:
        """End it and assert that it ended as it should."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(15)
        assert code == 0, f"exit code {code}:\n{self.log.read_text(errors='replace')[-2000:]}"

    def _assert_answer(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError as error:
            raise AssertionError(f"{path}: {error}\n{self.log.read_text(errors='replace')[-1000:]}") from None


@dataclass
class Port:
    """One port in front of several: each new connection goes to the next of `targets`. Made by `start`."""

    targets: list[int] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _pipes: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self) -> Port:
        """Listen on a free port."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="port", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, family=socket.AF_INET)

    async def _close(self) -> None:
        self._server.close()
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        self.connections += 1
        target = self.targets[self.connections % len(self.targets)]
        writers = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", target)
            writers.append(back)
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in writers:
                one.close()
                with suppress(OSError):
                    await one.wait_closed()
            self._pipes.discard(task)

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        finally:
            with suppress(OSError):
                writer.close()
