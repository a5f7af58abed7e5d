"""`aigateway local DIR --serve` as a program: a real caller, and edits of files that are felt at the next request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from hack.process import free_ports
from tests.cli_suite import CALLER_KEY, gateway, keys, model, write_manifests
from tests.eventually import eventually
from tests.stub_upstream import StubUpstream

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 4.0
"""Of processor time. The goal is 2 s on a quiet machine, without what measures coverage; CI's is not quiet."""
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "operator"),
    "PATH": "/usr/bin:/bin",
    **{name: value for name, value in os.environ.items() if name.startswith("COV")},
}


class Program:
    """The running command; `events` is what it has said so far."""

    def __init__(self, *arguments: str) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aigateway_operator", "local", *arguments, "-o", "json"],
            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []
        self.err = ""
        self._threads = [threading.Thread(target=self._read, daemon=True), threading.Thread(target=self._listen, daemon=True)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line

    def processor_seconds(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, event: str, *, after: int = 0, within_seconds: float = 40) -> dict[str, Any]:
        """Return the first event of a kind that came after the first `after` events."""

        def said() -> dict[str, Any]:
            found = [one for one in self.events[after:] if one["event"] == event]
            assert found, f"no {event} in {self.events[after:]}\n{self.err}"
            return found[0]

        return eventually(said, within_seconds=within_seconds, every_seconds=0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(40)
        for thread in self._threads:
            thread.join(5)
        return code

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(40)
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    """A model server without keys, as on one's own machine."""
    with StubUpstream() as stub:
        yield stub


@pytest.fixture
def folder(tmp_path: Path, upstream: StubUpstream) -> Path:
    """A gateway, a model of two backends, and its keys, a file each."""
    write_manifests(tmp_path / "gateway.yaml", gateway())
    write_manifests(tmp_path / "keys.yaml", keys())
    write_manifests(tmp_path / "chat.yaml", model(baseUrl=upstream.base_url))
    return tmp_path


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command; what still runs is killed afterwards."""
    programs: list[Program] = []

    def begin(*arguments: str | Path) -> Program:
        programs.append(Program(*map(str, arguments)))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


def caller(url: str, key: str = CALLER_KEY) -> OpenAI:
    """Return an official client that does not try again."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)


def ask(client: OpenAI, upstream: StubUpstream, model_name: str = "chat") -> str:
    """Ask, and return which model the upstream was asked for."""
    client.chat.completions.create(model=model_name, messages=[{"role": "user", "content": "hello"}])
    return str(upstream.requests[-1].body["model"])


def status_of(client: OpenAI, model_name: str = "chat") -> int:
    """Ask, and return the status: 200, or that of the error."""
    try:
        client.chat.completions.create(model=model_name, messages=[{"role": "user", "content": "hello"}])
    except APIStatusError as error:
        return error.status_code
    return 200


def test_edits_of_files_are_felt_by_the_next_caller(folder: Path, upstream: StubUpstream, start: Start) -> None:
    """Up in time; a flip, a mistake, a rotated key and a deleted file each do to callers what they would in a cluster."""
    program = start(folder, "--serve", "--port", 0)
    url = program.wait("serving")["url"]
    assert program.processor_seconds() < START_SECONDS
    assert time.monotonic() - program.started_at < 5 * START_SECONDS, "it waited for something"
    with caller(url) as client, caller(url, "rotated") as rotated:
        assert ask(client, upstream) == "gpt-4o-mini"

        said = len(program.events)
        write_manifests(folder / "chat.yaml", model(baseUrl=upstream.base_url, current="big"))
        program.wait("rendered", after=said)
        eventually(lambda: _is(ask(client, upstream), "gpt-4o"), within_seconds=20, every_seconds=0.01)

        said = len(program.events)
        write_manifests(folder / "chat.yaml", model(baseUrl=upstream.base_url, current="huge"))
        finding = program.wait("finding", after=said)
        assert (Path(finding["file"]).name, finding["rule"]) == ("chat.yaml", "R4")
        assert finding["line"] > 0
        assert program.wait("kept", after=said)["what"] == ["VirtualModel/chat"]
        assert ask(client, upstream) == "gpt-4o"

        said = len(program.events)
        write_manifests(folder / "keys.yaml", keys(proxy="rotated"))
        program.wait("rendered", after=said)
        eventually(lambda: _is(status_of(client), 401), within_seconds=20, every_seconds=0.01)
        assert status_of(rotated) == 200

        said = len(program.events)
        (folder / "chat.yaml").unlink()
        program.wait("mended", after=said)
        eventually(lambda: _is_one_of(status_of(rotated), 401, 404), within_seconds=20, every_seconds=0.01)
    assert program.end() == 0
    assert "Traceback" not in program.err


def _is(found: object, expected: object) -> None:
    assert found == expected


def _is_one_of(found: object, *expected: object) -> None:
    assert found in expected


def test_neither_kopf_nor_kubernetes_is_imported(folder: Path) -> None:
    """Rules, plan and render know nothing of a cluster, nor does what is around them here; nor does serving."""
    code = (
        "import sys; from aigateway_operator.cli import main; import aigateway_gateway.serve\n"
        f"assert main(['local', {str(folder)!r}, '--once']) == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'kopf', 'kubernetes', 'kubernetes_asyncio'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_gateway_that_is_not_there_yet_is_served_as_soon_as_it_is(folder: Path, upstream: StubUpstream, start: Start) -> None:
    """It may be started before the files are right; a port that changes later is told, since a socket stays where it is."""
    (folder / "gateway.yaml").unlink()
    program = start(folder, "--serve", "--gateway", "main")
    program.wait("waiting")
    first, second = free_ports(2)
    write_manifests(folder / "gateway.yaml", gateway(app={"port": first}))
    url = program.wait("serving")["url"]
    assert url == f"http://127.0.0.1:{first}"
    with caller(url) as client:
        assert ask(client, upstream) == "gpt-4o-mini"
        write_manifests(folder / "gateway.yaml", gateway(app={"port": second}))
        assert f"{first} → {second}" in program.wait("restartRequired")["what"]
        assert ask(client, upstream) == "gpt-4o-mini"
    assert program.end(signal.SIGINT) == 130


def test_port_that_is_taken_ends_with_a_sentence(folder: Path, upstream: StubUpstream, start: Start) -> None:
    """2, which port, and which flag; no traceback, and the folder is free again."""
    program = start(folder, "--serve", "--port", upstream.port)
    assert program.process.wait(40) == 2
    program.close()
    assert f"127.0.0.1:{upstream.port}" in program.err
    assert "--port" in program.err
    assert "Traceback" not in program.err


def test_without_serving_a_mounted_gateway_follows(folder: Path, start: Start) -> None:
    """The folder alone is enough for a gateway in another process or container; files in folders inside it on request."""
    (folder / "more").mkdir()
    program = start(folder, "-R")
    program.wait("rendered")
    said = len(program.events)
    write_manifests(folder / "more" / "more.yaml", model("more"))
    assert program.wait("rendered", after=said)["models"] == ["chat", "more"]
    said = len(program.events)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "yet").mkdir()
    write_manifests(folder / "deeper" / "yet" / "third.yaml", model("third"))
    assert program.wait("rendered", after=said)["models"] == ["chat", "more", "third"]
    assert program.end() == 0
