"""What the gateway costs a request, beside LiteLLM's proxy, a bare FastAPI + aiohttp pass-through, and the upstream itself.

    python -m benchmarks gateway [--seconds 2] [--rounds 3] [--callers 32] [--no-litellm] [-o json]

All in the same run. Each server is a process of its own with one worker, asked in turns. CPU is the server process's own, from
the kernel, so that it does not matter who else has the cores; requests/s on one core is what that CPU comes to. Added latency
is the median with one caller, less that of the upstream asked directly. Memory is resident, after the load, children included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import aiohttp

from benchmarks import litellm_proxy
from hack.process import free_ports
from tests.eventually import eventually

ROOT: Final = Path(__file__).resolve().parent.parent
TICKS: Final = os.sysconf("SC_CLK_TCK")
PROMPT: Final = "Say hello in a hundred and fifty characters. " * 3
BODY: Final = json.dumps({"model": "chat", "messages": [{"role": "user", "content": PROMPT}]}).encode()
HEADERS: Final = {"Authorization": "Bearer key-chat", "Content-Type": "application/json"}
PATH: Final = "/v1/chat/completions"


@dataclass(slots=True)
class Subject:
    """One server under measurement, and what it did in each round."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)
    """Latencies with one caller."""

    def family(self) -> list[int]:
        """The process and its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, task.read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return sum(_cpu_seconds(pid) for pid in self.family())

    def memory_mb(self) -> float:
        """Resident memory."""
        return sum(_memory_mb(pid) for pid in self.family())

    def figures(self) -> dict[str, Any]:
        """Everything measured, in the units of the names."""
        cuts = quantiles(self.alone_ms, n=100)
        return {
            "name": self.name,
            "per_second": median(self.per_second),
            "per_core_second": 1000 / median(self.cpu_ms),
            "cpu_ms_per_request": median(self.cpu_ms),
            "alone_p50_ms": cuts[49],
            "alone_p99_ms": cuts[98],
            "memory_mb": self.memory_mb(),
        }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def ask_for(subject: Subject, session: aiohttp.ClientSession, callers: int, seconds: float) -> list[float]:
    """Ask from `callers` at once for some time; returns the latencies in ms. Raises when an answer is not 200."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def call() -> None:
        while (began := time.perf_counter()) < until:
            async with session.post(subject.url, data=BODY, headers=HEADERS) as got:
                text = await got.read()
                if got.status != 200:
                    raise RuntimeError(f"{subject.name} answered {got.status}: {text[:300]!r}")
            latencies.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(call() for _ in range(callers)))
    return latencies


async def measure(subjects: list[Subject], rounds: int, callers: int, seconds: float) -> None:
    """Ask all subjects in turns, so that whatever the machine does meets all of them."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for subject in subjects:
            await ask_for(subject, session, callers, 0.5)
        for _ in range(rounds):
            for subject in subjects:
                subject.alone_ms += await ask_for(subject, session, 1, seconds / 2)
                before, began = subject.cpu_seconds(), time.perf_counter()
                count = len(await ask_for(subject, session, callers, seconds))
                subject.per_second.append(count / (time.perf_counter() - began))
                subject.cpu_ms.append((subject.cpu_seconds() - before) * 1000 / count)


@contextmanager
def server(
    name: str, port: int, command: Sequence[str], folder: Path, extra: dict[str, str], seconds: float = 90
) -> Iterator[Subject]:
    """Run a server until the end of the block; yields when it listens."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", **extra}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        eventually(lambda: _listens(port), within_seconds=seconds)
        yield Subject(name, f"http://127.0.0.1:{port}{PATH}", process)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == 0, f"nothing listens on {port}"


def run(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Start everything, measure, and return the figures of upstream, control, gateway and, if it is there, LiteLLM."""
    ports = free_ports(4)
    upstream = f"http://127.0.0.1:{ports[0]}/v1"
    bare = [sys.executable, "-m", "benchmarks.bare_gateway"]
    gateway = [sys.executable, "-m", "aigateway_gateway"]
    with ExitStack() as stack:

        def start(name: str, port: int, command: Sequence[str], extra: dict[str, str]) -> Subject:
            return stack.enter_context(server(name, port, command, folder, extra))

        subjects = [
            start("upstream", ports[0], [*bare, "upstream", str(ports[0])], {}),
            start("control", ports[1], [*bare, "control", str(ports[1]), upstream], {}),
            start("gateway", ports[2], gateway, gateway_settings(folder, ports[2], upstream, arguments.log_level)),
        ]
        if (python := _litellm(arguments)) is not None:
            command = litellm_proxy.command_of(python, ports[3], upstream, folder)
            # Nothing of this project's environment is for it.
            subjects.append(start("litellm", ports[3], command, {**litellm_proxy.ENVIRONMENT, "PYTHONPATH": ""}))
        asyncio.run(measure(subjects, arguments.rounds, arguments.callers, arguments.seconds))
        return [subject.figures() for subject in subjects]


def gateway_settings(folder: Path, port: int, upstream: str, log_level: str) -> dict[str, str]:
    """Write a plain configuration into `folder`; return the environment of a gateway that serves it."""
    entry = {"use": True, "current": "small", "proxy_key": "key-chat", "small": {"model": "up-small", "api_key": "sk-backend"}}
    config = {"ai-gateway": {"virtual_models": {"chat": {**entry, "base_url": upstream}}}}
    (folder / "config.yml").write_text(json.dumps(config))
    return {
        "AIGATEWAY_ALLOW_ADDRESSES": "127.0.0.0/8",
        "AIGATEWAY_GATEWAY_CONFIG_FILE": str(folder / "config.yml"),
        "AIGATEWAY_GATEWAY_HOST": "127.0.0.1",
        "AIGATEWAY_GATEWAY_PORT": str(port),
        "AIGATEWAY_GATEWAY_STATUS_HOST": "127.0.0.1",
        "AIGATEWAY_GATEWAY_STATUS_PORT": "0",
        "AIGATEWAY_GATEWAY_LOG_LEVEL": log_level,
    }


def _litellm(arguments: argparse.Namespace) -> Path | None:
    if arguments.no_litellm:
        return None
    try:
        return litellm_proxy.ensure()
    except litellm_proxy.NotThere as error:
        print(f"LiteLLM is not measured: {error}", file=sys.stderr)
        return None


def print_row(row: dict[str, Any], direct: dict[str, Any]) -> None:
    """Print what one server did; `direct`: the upstream, asked without anything in between."""
    p50, p99 = row["alone_p50_ms"], row["alone_p99_ms"]
    added = f"(+{p50 - direct['alone_p50_ms']:.2f}, +{p99 - direct['alone_p99_ms']:.2f})"
    print(
        f"{row['name']:9} {row['per_second']:6.0f}/s  {row['per_core_second']:6.0f}/s on one core  "
        f"CPU {row['cpu_ms_per_request']:.3f} ms a request  alone p50 {p50:.2f} ms p99 {p99:.2f} ms {added}  "
        f"{row['memory_mb']:.0f} MB"
    )


def judge(rows: Sequence[dict[str, Any]]) -> list[tuple[str, float, bool]]:
    """Return each goal with what was reached and whether it was met."""
    upstream, control, gateway, *more = rows
    ratio = gateway["cpu_ms_per_request"] / control["cpu_ms_per_request"]
    found = [("CPU a request ≤ 1.4 × the control", ratio, ratio <= 1.4)]
    for litellm in more:
        faster = gateway["per_core_second"] / litellm["per_core_second"]
        added, theirs = (row["alone_p50_ms"] - upstream["alone_p50_ms"] for row in (gateway, litellm))
        memory = gateway["memory_mb"] / litellm["memory_mb"]
        found += [
            ("requests/s on one core ≥ 15 × LiteLLM", faster, faster >= 15),
            ("added latency p50 ≤ 0.125 × LiteLLM", added / theirs, added <= theirs / 8),
            ("memory ≤ 0.333 × LiteLLM", memory, memory <= 1 / 3),
        ]
    return found


def main(arguments_given: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0, or 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gateway", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server (default: 3)")
    parser.add_argument("--callers", type=int, default=32, help="requests at once (default: 32)")
    parser.add_argument("--log-level", default="INFO", help="log level of the gateway; DEBUG has a line a request")
    parser.add_argument("--no-litellm", action="store_true", help="do not install or measure LiteLLM's proxy")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args(arguments_given)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(arguments, Path(folder))
    goals = judge(rows)
    if arguments.output == "json":
        print(json.dumps({"servers": rows, "goals": {text: value for text, value, _ in goals}}, indent=2))
    else:
        for row in rows:
            print_row(row, rows[0])
        for text, value, met in goals:
            print(f"goal: {text}: {value:.3f}, {'met' if met else 'MISSED'}")
    return 0 if all(met for _, _, met in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
