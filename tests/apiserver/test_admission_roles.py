"""The webhook as it is run: a process of its own, and a thread beside the controller; beginning, certificate, end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from aigateway_operator.errors import SettingsError
from hack.controlplane import ControlPlane
from tests.apiserver.conftest import StartOperator
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import ROOT, InProcess
from tests.webhooks import Authority, configured, reviews_in


def write_pair(folder: Path, authority: Authority) -> None:
    """Put a new certificate and key into a folder."""
    folder.mkdir(exist_ok=True)
    chain, key = authority.leaf()
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.crt").write_bytes(chain)


@dataclass
class WebhookProcess:
    """`aigateway webhook` with certificates from a folder; ports are read from its log."""

    folder: Path
    authority: Authority = field(default_factory=Authority)
    process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> WebhookProcess:
        """Start, and return once both ports are known."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            "AIGATEWAY_WEBHOOK_CERTIFICATES": "files",
            "AIGATEWAY_WEBHOOK_CERT_DIR": str(self.folder / "tls"),
            "AIGATEWAY_WEBHOOK_HOST": "127.0.0.1",
            "AIGATEWAY_HEALTH_HOST": "127.0.0.1",
            "AIGATEWAY_LOG_FORMAT": "json",
            **{f"AIGATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        arguments = ["webhook", "--webhook-port", "0", "--health-port", "0"]
        with (self.folder / "log").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aigateway_operator", *arguments], env=environment, stdout=output, stderr=output
            )
        eventually(lambda: self.health_port, within_seconds=40)
        return self

    def _logged(self, name: str) -> int:
        found = re.findall(rf'"{name}": ?(\d+)', (self.folder / "log").read_text())
        assert found, (self.folder / "log").read_text()[-2000:]
        assert int(found[-1]) > 0, "only what was asked for is known yet"
        return int(found[-1])

    @property
    def health_port(self) -> int:
        """Port of readiness and metrics."""
        return self._logged("health_port")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self._logged('port')}"

    def get(self, path: str) -> tuple[int, str]:
        """Ask the health port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def reviews(self) -> float:
        """How many reviews it has decided."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("aigateway_admission_reviews_total{"))

    def stop(self) -> int:
        """Ask it to end; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[WebhookProcess]:
    """A webhook process that is not started yet."""
    webhook = WebhookProcess(tmp_path)
    yield webhook
    if webhook.process is not None and webhook.process.poll() is None:
        webhook.process.kill()
        webhook.process.wait(10)


def test_process_is_ready_with_its_certificate_answers_and_ends_in_order(
    world: World, plane: ControlPlane, process: WebhookProcess
) -> None:
    """Alive from the start, ready with a certificate, in use by the API server; SIGTERM: not ready, then exit code 0."""
    process.start(webhook_drain_seconds="3")
    assert process.get("/healthz") == (200, "ok\n")
    assert process.get("/readyz") == (503, "no serving certificate yet\n")
    write_pair(process.folder / "tls", process.authority)

    def ready() -> None:
        assert process.get("/readyz") == (200, "ok\n")

    eventually(ready, within_seconds=30)
    with configured(plane, process, world.namespace):
        refused = plane.request("POST", world.path("VirtualModel"), virtual_model(baseUrl="http://example.com"))
        assert refused.status == 422, refused.body
        world.create(gateway_config(), virtual_model())
        metrics = process.get("/metrics")[1]
        assert 'aigateway_admission_reviews_total{kind="VirtualModel",operation="CREATE",verdict="refused"} 1.0' in metrics
        assert re.search(r"^aigateway_webhook_certificate_not_after_timestamp_seconds 1\.\d+e\+09$", metrics, re.MULTILINE)
        assert process.process is not None
        process.process.send_signal(signal.SIGTERM)

        def draining() -> None:
            assert process.get("/readyz") == (503, "the webhook is stopping\n")

        eventually(draining, within_seconds=3, every_seconds=0.02)
        world.patch_spec("VirtualModel", "chat", current="big")
    assert process.stop() == 0
    log = (process.folder / "log").read_text()
    assert "Traceback" not in log
    assert "PRIVATE KEY" not in log


def test_edits_go_on_over_a_rolling_restart_of_two_replicas(world: World, plane: ControlPlane, tmp_path: Path) -> None:
    """Behind one address, as a Service: the old one drains while the new one answers; no edit fails."""
    first, second = WebhookProcess(tmp_path / "1"), WebhookProcess(tmp_path / "2")
    for replica in (first, second):
        replica.folder.mkdir()
        replica.authority = first.authority
        write_pair(replica.folder / "tls", first.authority)
    service = Service(first)
    try:
        first.start(webhook_drain_seconds="3")
        second.start(webhook_drain_seconds="3")
        for replica in (first, second):
            eventually(partial(_assert_ready, replica), within_seconds=30)
        service.start()
        with configured(plane, service, world.namespace):
            world.create(gateway_config(), virtual_model())
            stop, failures, edits = threading.Event(), list[object](), [0]

            def edit() -> None:
                while not stop.is_set():
                    answer = plane.request(
                        "PATCH",
                        world.path("VirtualModel", "chat"),
                        {"spec": {"current": ("small", "big")[edits[0] % 2]}},
                        content_type="application/merge-patch+json",
                    )
                    edits[0] += 1
                    if answer.status != 200:
                        failures.append(answer.body)

            worker = threading.Thread(target=edit)
            worker.start()
            eventually(lambda: _assert_more(edits, 50), within_seconds=20)
            assert first.process is not None
            first.process.send_signal(signal.SIGTERM)
            eventually(lambda: _assert_not_ready(first), within_seconds=20)
            service.backend = second  # what the endpoints of a Service do when readiness turns red
            assert first.process.wait(20) == 0
            before = edits[0]
            eventually(lambda: _assert_more(edits, before + 50), within_seconds=20)
            stop.set()
            worker.join(10)
            assert failures == []
            assert second.reviews() > 0
    finally:
        service.stop()
        for replica in (first, second):
            if replica.process is not None:
                replica.stop()


def _assert_ready(replica: WebhookProcess) -> None:
    assert replica.get("/readyz")[0] == 200


def _assert_not_ready(replica: WebhookProcess) -> None:
    assert replica.get("/readyz")[0] == 503


def _assert_more(edits: list[int], count: int) -> None:
    assert edits[0] >= count, edits


class Service:
    """One address in front of replicas, connection by connection, as kube-proxy does it: what is open stays where it is."""

    def __init__(self, backend: WebhookProcess) -> None:
        self.backend = backend
        self.authority = backend.authority
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def reviews(self) -> float:
        """How many reviews the current backend has decided."""
        return self.backend.reviews()

    def start(self) -> None:
        """Accept connections."""
        self._thread(self._accept)

    def stop(self) -> None:
        """Close everything."""
        for sock in [self._socket, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            port = int(self.backend.url.rsplit(":", 1)[1])
            server = socket.create_connection(("127.0.0.1", port), timeout=5)
            server.settimeout(None)
            self._open += [client, server]
            self._thread(self._copy, client, server)
            self._thread(self._copy, server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _thread(self, function: object, *arguments: object) -> None:
        assert callable(function)
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)


@dataclass
class Beside:
    """The webhook of an operator in this process."""

    running: InProcess
    authority: Authority

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self.running.operator is not None
        assert self.running.operator.webhook is not None
        return f"https://127.0.0.1:{self.running.operator.webhook.port}"

    def reviews(self) -> float:
        """How many reviews it has decided."""
        assert self.running.operator is not None
        return reviews_in(self.running.operator.registry)


def test_webhook_beside_the_controller_answers_from_a_thread_of_its_own(
    world: World, plane: ControlPlane, start_operator: StartOperator, tmp_path: Path
) -> None:
    """`--with-webhook`: one process admits, renders and reports; readiness needs both; nothing is left at the end."""
    authority = Authority()
    settings = {"webhook_host": "127.0.0.1", "webhook_port": 0, "webhook_certificates": "files"}
    running = start_operator(with_webhook=True, webhook_cert_dir=tmp_path / "tls", webhook_drain_seconds=0.1, **settings)

    def why_not_ready() -> str | None:
        reason: str | None = running.call(lambda operator: operator.why_not_ready())
        return reason

    def waits_for_its_certificate() -> None:
        assert why_not_ready() == "no serving certificate yet"

    eventually(waits_for_its_certificate, within_seconds=30)
    write_pair(tmp_path / "tls", authority)

    def ready() -> None:
        assert why_not_ready() is None

    eventually(ready, within_seconds=30)
    with configured(plane, Beside(running, authority), world.namespace):
        world.create(secret(), gateway_config(), virtual_model())
        world.wait_ready("chat")
        refused = plane.request("DELETE", world.path("GatewayConfig", "main"))
        assert refused.status == 403, refused.body
        assert "serves 1 accepted model" in refused.body["message"]
        assert "webhook" in {thread.name for thread in threading.enumerate()}
    running.stop()
    assert "webhook" not in {thread.name for thread in threading.enumerate()}


def test_port_that_is_taken_ends_the_start_with_its_name(start_operator: StartOperator, tmp_path: Path) -> None:
    """The error of the thread is the error of the process, and the controller does not go on without it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="AIGATEWAY_WEBHOOK_PORT"):
            start_operator(
                with_webhook=True,
                webhook_host="127.0.0.1",
                webhook_port=port,
                webhook_certificates="files",
                webhook_cert_dir=tmp_path,
                webhook_drain_seconds=0.0,
            )
