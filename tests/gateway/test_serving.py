"""The gateway as a program: a mounted volume, several workers, signals, wrong settings, metrics."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from contextlib import suppress
from pathlib import Path

import httpx

from aigateway_gateway.serve import listen, serve
from aigateway_gateway.settings import GatewaySettings
from tests.eventually import eventually
from tests.gateway.programs import Volume, gateway_program
from tests.gateway_runs import LOOPBACK
from tests.stub_upstream import Behaviour, StubUpstream

AUTH = {"Authorization": "Bearer key-chat"}


def ask(url: str) -> httpx.Response:
    """Send one completion."""
    return httpx.post(f"{url}/v1/chat/completions", headers=AUTH, json={"model": "chat", "messages": []}, timeout=10)


def answered_by(url: str, model: str) -> None:
    """Assert that the next request is answered by a model."""
    assert ask(url).json()["model"] == model


def test_a_flip_in_the_mounted_volume_reaches_the_next_request(volume: Volume, tmp_path: Path) -> None:
    """No restart, no signal: the swap of the folder is enough; metrics name model and status; SIGTERM ends it with 0."""
    with gateway_program(tmp_path, METRICS_HOST="127.0.0.1", METRICS_PORT="0") as program:
        answered_by(program.url, "up-a")
        volume.write("b")
        eventually(lambda: answered_by(program.url, "up-b"), within_seconds=20)
        metrics = httpx.get(program.find(r"Metrics at (http://\S+)")).text
        assert re.search(r'aigateway_gateway_requests_total\{endpoint="chat",model="chat",status="200"\} [2-9]', metrics)
        assert "aigateway_config_last_reload_successful 1.0" in metrics
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == 0


def test_sigterm_lets_a_running_request_end(volume: Volume, stub: StubUpstream, tmp_path: Path) -> None:
    """The answer is whole although the gateway was told to stop while it was being made."""
    stub.behaviours["up-a"] = Behaviour(delay_seconds=1.0)
    with gateway_program(tmp_path) as program:
        url = program.url
        answers: list[httpx.Response] = []
        caller = threading.Thread(target=lambda: answers.append(ask(url)))
        caller.start()

        def running() -> None:
            assert stub.requests

        eventually(running, within_seconds=20)
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == 0
        caller.join(5)
    assert [answer.status_code for answer in answers] == [200]


def test_two_workers_share_the_port_and_a_killed_one_is_replaced(volume: Volume, tmp_path: Path) -> None:
    """All workers follow the volume; after SIGKILL of one, requests go on and another takes its place."""
    with gateway_program(tmp_path, WORKERS="2", METRICS_HOST="127.0.0.1", METRICS_PORT="0") as program:
        url = program.url

        def workers() -> list[int]:
            found = [int(match[1]) for line in program.lines if (match := re.search(r"Started server process \[(\d+)\]", line))]
            assert len(found) >= 2
            return found

        first = eventually(workers, within_seconds=20)[0]
        volume.write("b")
        eventually(lambda: answered_by(url, "up-b"), within_seconds=20)
        os.kill(first, signal.SIGKILL)
        program.find(rf"Worker ({first}) died; starting another")

        seen: list[int] = []

        def three() -> None:
            with suppress(httpx.TransportError):  # a connection that the dead one had accepted
                seen.append(ask(url).status_code)
            assert len(workers()) == 3

        eventually(three, within_seconds=20, every_seconds=0.001)
        seen += [ask(url).status_code for _ in range(50)]
        assert set(seen) == {200}, "a worker took callers before it had a configuration"
        for _ in range(10):
            answered_by(url, "up-b")
        metrics = httpx.get(program.find(r"Metrics at (http://\S+)")).text
        counted = re.search(r'aigateway_gateway_requests_total\{endpoint="chat",model="chat",status="200"\} (\d+)', metrics)
        assert counted is not None
        assert int(counted[1]) >= 10
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == 0


async def test_a_worker_takes_no_callers_before_it_has_a_configuration(stub: StubUpstream, tmp_path: Path) -> None:
    """Its siblings have made the pod ready: a caller whom the shared socket brings early waits, and is not told 503."""
    stop = asyncio.Event()
    settings = GatewaySettings(
        config_dir=tmp_path / "config", credentials_dir=tmp_path / "credentials", status_port=None, drain_seconds=0,
        allow_addresses=LOOPBACK,
    )  # fmt: skip
    with listen("127.0.0.1", 0) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        worker = asyncio.create_task(serve(settings, sock=sock, workers_folder=tmp_path / "workers", stop=stop))
        early = asyncio.create_task(asyncio.to_thread(ask, url))
        done, _ = await asyncio.wait([early, worker], timeout=0.5)
        assert done == set()
        Volume(tmp_path, stub.base_url).write("a")
        assert (await early).status_code == 200
        stop.set()
        await worker


def test_it_listens_without_a_configuration_and_is_not_ready(tmp_path: Path) -> None:
    """A gateway whose ConfigMap is late says so instead of crashing, and takes it up when it comes."""
    (tmp_path / "config").mkdir()
    (tmp_path / "credentials").mkdir()
    with gateway_program(tmp_path, HOST="127.0.0.1", PORT="0") as program:
        assert httpx.get(f"{program.url}/api/v1/health/ready").status_code == 503
        Volume(tmp_path, "http://127.0.0.1:9/v1").write("a")

        def ready() -> None:
            assert httpx.get(f"{program.url}/api/v1/health/ready").status_code == 200

        eventually(ready, within_seconds=30)


def test_wrong_settings_and_a_taken_port_end_it_with_a_sentence(volume: Volume, tmp_path: Path) -> None:
    """Exit code 2 and the name of what is wrong, no traceback."""
    with gateway_program(tmp_path, WORKERS="0", CORS_CREDENTIALS="maybe") as program:
        assert program.end() == 2
        text = "".join(program.lines)
        assert "workers" in text
        assert "cors_credentials" in text
        assert "Traceback" not in text
    with gateway_program(tmp_path) as holder:
        port = holder.url.rpartition(":")[2]
        with gateway_program(tmp_path, HOST="127.0.0.1", PORT=port) as program:
            assert program.end() == 2
            assert "Address already in use" in "".join(program.lines)
