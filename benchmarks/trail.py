"""What keeping records costs a request and a review: processor time with records to MongoDB, against without.

    python -m benchmarks trail [--each 2000] [--rounds 8] [-o json]

Two gateways and two webhooks, one of each with a spool and a MongoDB, are processes of their own and asked in turns; their
processor time is the kernel's, so that it does not matter who else has the cores. The server takes all and keeps nothing
(`quick_mongodb`): what a database costs is not the point. Called by `__main__`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from pymongo import MongoClient

from benchmarks import gateway
from benchmarks.admission import Server, port_in, post_reviews, review_body
from benchmarks.quick_mongodb import quick_mongodb
from benchmarks.usage import cpu_seconds
from hack.process import free_ports
from tests.eventually import eventually
from tests.webhooks import Authority

SHIP_SECONDS: Final = 0.5
"""How long after a turn its records may still be under way: their shipping counts."""
CALLERS: Final = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time a request, medians of the turns; `most` and `least`: the differences of pairs."""

    what: str
    without: float
    kept: float
    least: float
    most: float
    records: int

    def __str__(self) -> str:
        """Return the figures for people."""
        more = self.kept - self.without
        return (
            f"{self.what}: CPU {self.without:.3f} ms without records, {self.kept:.3f} with them "
            f"({more:+.3f} ms, ratio {self.kept / self.without:.2f}; pairs {self.least:+.3f} to {self.most:+.3f}); "
            f"{self.records:,} records arrived"
        )


Ask = Callable[[int], Awaitable[object]]


async def paired(what: str, pids: tuple[int, int], asks: tuple[Ask, Ask], each: int, rounds: int) -> Cost:
    """Ask the one without records and the one with them in turns, in the order a b b a."""
    spent: tuple[list[float], list[float]] = ([], [])
    for ask in asks:
        await ask(each)
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            before = cpu_seconds(pids[index])
            await asks[index](each)
            await asyncio.sleep(SHIP_SECONDS)
            spent[index].append((cpu_seconds(pids[index]) - before) * 1000 / each)
    more = [kept - without for without, kept in zip(*spent, strict=True)]
    return Cost(what, median(spent[0]), median(spent[1]), min(more), max(more), 0)


def measure(each: int, rounds: int, folder: Path) -> list[Cost]:
    """Measure both."""
    found: list[Cost] = []
    for run in (gateways, webhooks):
        with quick_mongodb() as url:
            cost = run(url, each, rounds, folder / run.__name__)
            time.sleep(1)
            with MongoClient[dict[str, Any]](url) as client:
                taken = int(client["x"].command("count", "x")["n"])
        found.append(Cost(cost.what, cost.without, cost.kept, cost.least, cost.most, taken))
    return found


def gateways(url: str, each: int, rounds: int, folder: Path) -> Cost:
    """A request through the gateway, answered by an upstream here."""
    ports = free_ports(3)
    upstream = f"http://127.0.0.1:{ports[0]}/v1"
    program = [sys.executable, "-m", "aigateway_gateway"]
    with ExitStack() as stack:
        folder.mkdir()
        bare = [sys.executable, "-m", "benchmarks.bare_gateway", "upstream", str(ports[0])]
        stack.enter_context(gateway.server("upstream", ports[0], bare, folder, {}))
        subjects = []
        for name, port in (("without", ports[1]), ("kept", ports[2])):
            place = folder / name
            place.mkdir()
            settings = gateway.gateway_settings(place, port, upstream, "INFO")
            if name == "kept":
                settings |= {"AIGATEWAY_GATEWAY_LOG_SPOOL_DIR": str(place / "spool")}
                named = json.loads((place / "config.yml").read_text())
                named["storage"] = {"mongodb": {"host": "127.0.0.1", "port": urlsplit(url).port}}
                (place / "config.yml").write_text(json.dumps(named))
            subjects.append(stack.enter_context(gateway.server(name, port, program, place, settings)))
        first, second = (_requests(subject.url) for subject in subjects)
        pids = subjects[0].process.pid, subjects[1].process.pid
        return asyncio.run(paired("request through the gateway", pids, (first, second), each, rounds))


def _requests(url: str) -> Ask:
    async def ask(count: int) -> None:
        numbers = iter(range(count))
        async with aiohttp.ClientSession() as client:

            async def call() -> None:
                for _ in numbers:
                    async with client.post(url, data=gateway.BODY, headers=gateway.HEADERS) as answer:
                        text = await answer.read()
                        assert answer.status == 200, text

            await asyncio.gather(*(call() for _ in range(CALLERS)))

    return ask


def webhooks(url: str, each: int, rounds: int, folder: Path) -> Cost:
    """A review, over TLS."""
    body = review_body()
    more = {"AIGATEWAY_LOG_SPOOL_DIR": str(folder / "spool"), "AIGATEWAY_LOG_MONGODB_URI": url}
    with webhook(folder / "without", {}) as without, webhook(folder / "kept", more) as kept:
        asks: tuple[Ask, Ask] = (
            lambda count: post_reviews(without, body, count, callers=CALLERS),
            lambda count: post_reviews(kept, body, count, callers=CALLERS),
        )
        return asyncio.run(paired("review", (without.process.pid, kept.process.pid), asks, each, rounds))


@contextmanager
def webhook(folder: Path, more: dict[str, str]) -> Iterator[Server]:
    """Run a webhook with a certificate from files."""
    folder.mkdir(parents=True)
    authority = Authority()
    chain, key = authority.leaf()
    (folder / "tls.crt").write_bytes(chain)
    (folder / "tls.key").write_bytes(key)
    environment = os.environ | {
        "PYTHONPATH": f"{gateway.ROOT / 'operator'}:{gateway.ROOT}",
        "AIGATEWAY_WEBHOOK_CERT_DIR": str(folder),
        "AIGATEWAY_WEBHOOK_CERTIFICATES": "files",
        "AIGATEWAY_WEBHOOK_HOST": "127.0.0.1",
        "AIGATEWAY_HEALTH_HOST": "127.0.0.1",
        "AIGATEWAY_LOG_FORMAT": "json",
        **more,
    }
    command = [sys.executable, "-m", "aigateway_operator", "webhook", "--webhook-port", "0", "--health-port", "0"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield Server(process, eventually(lambda: port_in(log), within_seconds=30), authority)
    finally:
        process.kill()
        process.wait(10)


def main(arguments: list[str]) -> int:
    """Run it; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks trail", description=__doc__)
    parser.add_argument("--each", type=int, default=2000, help="requests a turn (default: 2000)")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of turns (default: 8)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(chosen.each, chosen.rounds, Path(folder))
    print(json.dumps([asdict(cost) for cost in costs]) if chosen.output == "json" else "\n".join(map(str, costs)))
    return 0
