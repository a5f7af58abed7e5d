"""What a pod reports while a real reader follows a real volume: alone, blocking, on another event loop, in several workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from aigateway_config import ConfigReader, MountedVolume, StatusReporter, open_volume
from aigateway_config.documents import CONFIG_FILE, STATUS_PATH, StatusAnswer
from aigateway_config.metrics import ConfigCollector
from tests.eventually import eventually, eventually_async
from tests.unit.config.writer import Mount, Writer, make_mount, make_writer, swap

ROOT = Path(__file__).resolve().parents[3]
UNPROXIED = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """The two folders of a pod."""
    return make_mount(tmp_path)


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def ask(port: int) -> StatusAnswer:
    """Return the pod's answer; an AssertionError if there is none."""
    try:
        with UNPROXIED.open(f"http://127.0.0.1:{port}{STATUS_PATH}", timeout=2) as response:
            return StatusAnswer.model_validate_json(response.read())
    except OSError as error:
        raise AssertionError(f"no answer: {error}") from None


def reports(port: int, writer: Writer) -> StatusAnswer:
    """Assert that the pod reports the writer's newest revisions."""
    answer = ask(port)
    assert answer.lineage == writer.lineage, answer
    assert answer.documents[CONFIG_FILE].revision == writer.revision, answer
    assert answer.credentials_revision == writer.credentials_revision, answer
    return answer


def flip(writer: Writer) -> Writer:
    """Make another backend current."""
    backends = [{"name": name, "model": name} for name in ("small", "big")]
    writer.put(current="big" if writer.revision % 2 else "small", backends=backends, baseUrl="https://api.example.com/v1")
    return writer.write()


def test_a_blocking_program_reports_what_it_runs_and_why_not_more(mount: Mount, port: int, tmp_path: Path) -> None:
    """Before the first configuration lineage is null; a torn document is named while the last good one is reported."""
    writer = make_writer()
    status = StatusReporter(port, host="127.0.0.1", workers_dir=tmp_path / "workers")
    mount.show(writer)
    with open_volume(mount.config, mount.credentials, services=[status]):
        good = eventually(lambda: reports(port, writer), within_seconds=20)
        assert good.error is None
        torn = dict(flip(writer).files)
        torn[CONFIG_FILE] = torn[CONFIG_FILE][:-7]
        swap(mount.config, torn)

        def says_why() -> None:
            answer = ask(port)
            assert answer.documents == good.documents
            assert "DigestMismatch" in (answer.error or "")

        eventually(says_why, within_seconds=20)
        mount.show(writer)
        assert eventually(lambda: reports(port, writer), within_seconds=20).error is None
    assert list((tmp_path / "workers").iterdir()) == []


def test_no_credential_is_in_any_answer_or_file(mount: Mount, port: int, tmp_path: Path) -> None:
    """Neither a value nor its length nor a digest: the answer is the same after a rotation but for the revision."""
    writer = make_writer(values={"chat-keys.proxy": "canary-one", "openai.api-key": "canary-two"})
    status = StatusReporter(port, host="127.0.0.1", workers_dir=tmp_path / "workers")
    mount.show(writer)
    with open_volume(mount.config, mount.credentials, services=[status]):
        before = eventually(lambda: reports(port, writer), within_seconds=20)
        writer.values["chat-keys.proxy"] = "canary-three-which-is-longer"
        mount.show(writer.write())
        after = eventually(lambda: reports(port, writer), within_seconds=20)
        moved = {"credentials": after.credentials, "credentials_revision": 2, "loaded_at": after.loaded_at}
        assert before.model_copy(update=moved) == after
        held = [path.read_text() for path in (tmp_path / "workers").iterdir()]
    assert "canary" not in f"{before} {after} {held}"


def test_on_uvloop_a_program_reports_as_on_asyncio(mount: Mount, port: int, tmp_path: Path) -> None:
    """The gateway runs on uvloop: answers, clients that wait, and an end that frees the port."""
    writer = make_writer()
    mount.show(writer)

    async def program() -> None:
        status = StatusReporter(port, host="127.0.0.1", workers_dir=tmp_path / "workers")
        async with ConfigReader([MountedVolume(mount.config, mount.credentials)], services=[status]):

            async def reported() -> None:
                await asyncio.to_thread(reports, port, writer)

            await eventually_async(reported, within_seconds=20)
            _, idle = await asyncio.open_connection("127.0.0.1", port)
        idle.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(program())
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.fixture
def uvicorn(mount: Mount, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A uvicorn with three workers."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
        "POD_CONFIG": str(mount.config),
        "POD_CREDENTIALS": str(mount.credentials),
        "POD_WORKERS": str(tmp_path / "workers"),
        "POD_STATUS_PORT": str(port),
    }
    command = [sys.executable, "-m", "uvicorn", "tests.unit.config.asgi_worker:app", "--workers", "3", "--port", "0"]
    process = subprocess.Popen([*command, "--log-level", "warning"], env=environment, cwd=tmp_path)
    yield process
    for child in _workers(tmp_path):
        os.kill(child, signal.SIGCONT)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def test_uvicorn_workers_report_together_through_freeze_and_death(
    uvicorn: subprocess.Popen[bytes], mount: Mount, port: int, tmp_path: Path
) -> None:
    """A frozen worker keeps the pod behind until it wakes; a killed one is replaced, and the pod is done again."""
    writer = make_writer()
    mount.show(writer)

    def all_are_there() -> None:
        assert len(_workers(tmp_path)) == 3
        reports(port, writer)

    eventually(all_are_there, within_seconds=20)
    holder = _holder(port)
    frozen, victim = [worker for worker in _workers(tmp_path) if worker != holder]
    os.kill(frozen, signal.SIGSTOP)
    before = writer.revision
    mount.show(flip(writer))

    def others_have_it() -> None:
        files = [StatusAnswer.model_validate_json(path.read_bytes()) for path in (tmp_path / "workers").glob("[!.]*.json")]
        assert sorted(file.documents[CONFIG_FILE].revision for file in files) == [before, writer.revision, writer.revision]

    eventually(others_have_it, within_seconds=20)
    assert ask(port).documents[CONFIG_FILE].revision == before
    os.kill(frozen, signal.SIGCONT)
    eventually(lambda: reports(port, writer), within_seconds=20)
    os.kill(victim, signal.SIGKILL)
    os.kill(holder, signal.SIGKILL)
    mount.show(flip(writer))
    eventually(lambda: reports(port, writer), within_seconds=20)


def test_metrics_follow_the_reader(mount: Mount) -> None:
    """Success and failure of the last reading, counts by reason, revisions; the names are those of the documentation."""
    writer = make_writer("chat", "code")
    mount.show(writer)
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"aigateway_config_{name}", labels)

    reader = open_volume(mount.config, mount.credentials)
    registry.register(ConfigCollector(reader))
    assert (value("last_reload_successful"), value("models"), value("reloads_total")) == (0, 0, 0)
    assert value("last_reload_success_timestamp_seconds") == 0
    with reader:
        assert (value("last_reload_successful"), value("models"), value("reloads_total")) == (1, 2, 1)
        assert value("revision", document=CONFIG_FILE) == writer.revision
        assert value("credentials_revision", manifest="_manifest.json") == writer.credentials_revision
        first = value("last_reload_success_timestamp_seconds")
        assert first is not None
        assert first > 1_700_000_000
        swap(mount.config, flip(writer).files | {CONFIG_FILE: b"{}"})

        def failed() -> None:
            assert value("last_reload_successful") == 0
            assert (value("rejected_total", reason="DigestMismatch") or 0) >= 1
            assert value("models") == 2

        eventually(failed, within_seconds=20)
        assert value("last_reload_success_timestamp_seconds") == first


def _workers(tmp_path: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in (tmp_path / "workers").glob("[!.]*.lock"))


def _holder(port: int) -> int:
    """Return the process that listens on a port of the loopback address."""
    entry = f"0100007F:{port:04X} 00000000:0000 0A"
    inode = next(line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines() if entry in line)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            continue
    raise AssertionError("nobody listens")
