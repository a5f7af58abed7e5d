"""The webhook: CPU a review against the plainest server with the same rules, latency that the API server adds, and memory.

Both servers are processes of their own and are asked in turns by the same client in the same run; their CPU time is the
kernel's. Latency is that of edits at the real API server, in turns with the webhook, with the bare server and with neither:
what the bare one adds is the call of the API server over TLS and Python's server. Called by `__main__`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import orjson

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS
from benchmarks.spread import Spread
from hack.controlplane import ControlPlane
from tests.apiserver.world import gateway_config, virtual_model
from tests.eventually import eventually
from tests.webhooks import Authority, configured

ROOT: Final = Path(__file__).resolve().parent.parent
SPACE: Final = "bench"
CALLERS: Final = 16
ROUNDS: Final = 5
TICKS: Final = os.sysconf("SC_CLK_TCK")
GOALS: Final = "goals: CPU ≤ 1.2 × the bare server; added latency p50 1.5 ms, p99 5 ms; memory ≤ 60 MB"


@dataclass(slots=True)
class Server:
    """A webhook process."""

    process: subprocess.Popen[bytes]
    port: int
    authority: Authority
    count: int = 0

    @property
    def url(self) -> str:
        """Where it listens, without the path."""
        return f"https://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Resident memory now."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def reviews(self) -> float:
        """Pretend one more review each time: `configured` asks only whether the number grows, and the bench need not know."""
        self.count += 1
        return self.count


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds of CPU a review, milliseconds at the API server, MB."""

    bytes_per_review: int
    cpu_ms: float
    bare_cpu_ms: float
    ratios: list[float]
    per_second: float
    bare_per_second: float
    direct: Spread
    added_p50_ms: float
    added_p99_ms: float
    bare_added_p50_ms: float
    bare_added_p99_ms: float
    with_webhook: Spread
    with_bare: Spread
    without_webhook: Spread
    rss_start_mb: float
    rss_mb: float
    reviews: int
    stored: int
    stored_cpu_ms: float
    stored_added_p50_ms: float

    def as_text(self) -> str:
        """Return the figures for people."""
        ratio = self.cpu_ms / self.bare_cpu_ms
        return "\n".join(
            [
                f"reviews of {self.bytes_per_review} bytes over TLS, {CALLERS} callers",
                f"  CPU a review         {self.cpu_ms:.3f} ms; bare server {self.bare_cpu_ms:.3f} ms (ratio {ratio:.2f})",
                f"  reviews a second     {self.per_second:.0f}; bare server {self.bare_per_second:.0f}",
                f"  answer, 1 caller     {self.direct}",
                f"  edit with webhook    {self.with_webhook}",
                f"  edit with the bare   {self.with_bare}",
                f"  edit without         {self.without_webhook}",
                f"  added                p50 {self.added_p50_ms:.1f} ms, p99 {self.added_p99_ms:.1f} ms",
                f"  added by the bare    p50 {self.bare_added_p50_ms:.1f} ms, p99 {self.bare_added_p99_ms:.1f} ms",
                f"  RSS                  {self.rss_start_mb:.0f} MB, after {self.reviews} reviews {self.rss_mb:.0f} MB",
                f"  {self.stored} models stored: CPU {self.stored_cpu_ms:.3f} ms, added p50 {self.stored_added_p50_ms:.1f} ms",
                GOALS,
            ]
        )


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks admission", description=__doc__)
    parser.add_argument("--reviews", type=int, default=100_000, help="reviews after which memory is measured (default: 100000)")
    parser.add_argument("--each", type=int, default=4000, help="reviews of each server in each of 5 rounds (default: 4000)")
    parser.add_argument("--edits", type=int, default=400, help="edits at the API server, each way (default: 400)")
    parser.add_argument("--stored", type=int, default=1000, help="objects that are stored for the last figures (default: 1000)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(Path(folder), chosen.reviews, chosen.edits, chosen.stored, chosen.each))
    print(json.dumps(asdict(figures), indent=2) if chosen.output == "json" else figures.as_text())
    return 0


async def _measure(folder: Path, reviews: int, edits: int, stored: int, each: int) -> Figures:
    body = review_body()
    with ControlPlane.start(crds=[ROOT / "crds"]) as plane, _servers(folder) as (ours, bare):
        start_mb = ours.rss_mb()
        cpu, bare_cpu, ratios, rates, bare_rates = await _against(ours, bare, body, each)
        direct = Spread.of(await post_reviews(ours, body, min(each, 1000), callers=1))
        _say(f"{reviews} reviews for memory …")
        await post_reviews(ours, body, reviews)
        rss_mb = ours.rss_mb()
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        async with KubeClient.connect(plane.kubeconfig, user_agent="benchmark") as client:
            await client.create(GATEWAY_CONFIGS, SPACE, gateway_config())
            await client.create(VIRTUAL_MODELS, SPACE, virtual_model("edited"))
            with_webhook, with_bare, without = await _edits(plane, client, (ours, bare, None), edits)
            _say(f"storing {stored} models …")
            await _store(client, stored)
            stored_with, stored_without = await _edits(plane, client, (ours, None), edits)
            used = ours.cpu_seconds()
            await post_reviews(ours, body, each)
            stored_cpu = (ours.cpu_seconds() - used) / each
    added, plain, floor = Spread.of(with_webhook), Spread.of(with_bare), Spread.of(without)
    return Figures(
        bytes_per_review=len(body),
        cpu_ms=round(cpu * 1000, 4),
        bare_cpu_ms=round(bare_cpu * 1000, 4),
        ratios=[round(ratio, 3) for ratio in ratios],
        per_second=round(rates),
        bare_per_second=round(bare_rates),
        direct=direct,
        added_p50_ms=round(added.p50 - floor.p50, 2),
        added_p99_ms=round(added.p99 - floor.p99, 2),
        bare_added_p50_ms=round(plain.p50 - floor.p50, 2),
        bare_added_p99_ms=round(plain.p99 - floor.p99, 2),
        with_webhook=added,
        with_bare=plain,
        without_webhook=floor,
        rss_start_mb=round(start_mb, 1),
        rss_mb=round(rss_mb, 1),
        reviews=reviews,
        stored=stored,
        stored_cpu_ms=round(stored_cpu * 1000, 4),
        stored_added_p50_ms=round(Spread.of(stored_with).p50 - Spread.of(stored_without).p50, 2),
    )


async def _against(ours: Server, bare: Server, body: bytes, each: int) -> tuple[float, float, list[float], float, float]:
    """Ask both in turns; returns seconds of CPU a review of each (median of the rounds), the ratio of each round, and reviews
    a second of each.
    """
    cpu: dict[int, list[float]] = {ours.port: [], bare.port: []}
    rate: dict[int, list[float]] = {ours.port: [], bare.port: []}
    for server in (ours, bare):
        await post_reviews(server, body, min(each, 1000))
    for number in range(ROUNDS):
        _say(f"round {number + 1} of {ROUNDS} …")
        for server in (ours, bare) if number % 2 else (bare, ours):
            used, began = server.cpu_seconds(), time.perf_counter()
            await post_reviews(server, body, each)
            cpu[server.port].append((server.cpu_seconds() - used) / each)
            rate[server.port].append(each / (time.perf_counter() - began))
    ratios = [mine / theirs for mine, theirs in zip(cpu[ours.port], cpu[bare.port], strict=True)]
    return median(cpu[ours.port]), median(cpu[bare.port]), ratios, median(rate[ours.port]), median(rate[bare.port])


async def post_reviews(server: Server, body: bytes, count: int, callers: int = CALLERS) -> list[float]:
    """Post so many reviews by keep-alive connections; returns the seconds of each."""
    context = ssl.create_default_context(cadata=server.authority.pem.decode())
    times: list[float] = []
    numbers = iter(range(count))
    connector = aiohttp.TCPConnector(limit=callers)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as client:

        async def call() -> None:
            for _ in numbers:
                began = time.perf_counter()
                async with client.post(f"{server.url}/validate", data=body, ssl=context) as answer:
                    content = await answer.read()
                times.append(time.perf_counter() - began)
                assert b'"allowed":true' in content, content

        await asyncio.gather(*(call() for _ in range(callers)))
    return times


async def _edits(
    plane: ControlPlane, client: KubeClient, servers: Sequence[Server | None], edits: int
) -> tuple[list[float], ...]:
    """Time edits of one model with each of these webhooks, and with none for None, in four turns each."""
    times: tuple[list[float], ...] = tuple([] for _ in servers)
    for _ in range(4):
        for server, taken in zip(servers, times, strict=True):
            with configured(plane, server, SPACE) if server is not None else nullcontext():
                await asyncio.sleep(1.5)  # the API server heeds it by then
                await _edit(client, edits // 4, taken)
    return times


async def _edit(client: KubeClient, edits: int, times: list[float]) -> None:
    for number in range(edits):
        began = time.perf_counter()
        await client.patch(VIRTUAL_MODELS, SPACE, "edited", {"spec": {"current": ("small", "big")[number % 2]}})
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)


async def _store(client: KubeClient, count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await client.create(VIRTUAL_MODELS, SPACE, virtual_model(f"model-{number:05d}"))

    await asyncio.gather(*(work() for _ in range(8)))


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Start the webhook and the bare server, both with a certificate of one authority."""
    authority = Authority()
    chain, key = authority.leaf()
    (folder / "tls.crt").write_bytes(chain)
    (folder / "tls.key").write_bytes(key)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "AIGATEWAY_WEBHOOK_CERT_DIR": str(folder)}
    environment |= {"AIGATEWAY_WEBHOOK_CERTIFICATES": "files", "AIGATEWAY_LOG_FORMAT": "json"}
    environment |= {"AIGATEWAY_HEALTH_HOST": "127.0.0.1", "AIGATEWAY_WEBHOOK_HOST": "127.0.0.1"}
    command = [sys.executable, "-m", "aigateway_operator", "webhook", "--webhook-port", "0", "--health-port", "0"]
    log = folder / "log"
    with log.open("wb") as output:
        ours = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    bare = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_webhook", str(folder)], env=environment, stdout=subprocess.PIPE
    )
    try:
        assert bare.stdout is not None
        port = int(bare.stdout.readline())
        yield Server(ours, eventually(lambda: port_in(log), within_seconds=20), authority), Server(bare, port, authority)
    finally:
        for process in (ours, bare):
            process.kill()
            process.wait(10)


def port_in(log: Path) -> int:
    """Return the port that a webhook says it listens on; AssertionError until it does."""
    found = re.findall(r'"port": ?(\d+)', log.read_text())
    assert found, log.read_text()
    return int(found[-1])


def review_body() -> bytes:
    """Return the review of an edit as the API server sends it, managed fields and all."""
    old: dict[str, Any] = virtual_model("chat")
    fields: dict[str, Any] = {
        "f:spec": {"f:current": {}, "f:use": {}, "f:backends": {".": {}, 'k:{"name":"small"}': {".": {}, "f:model": {}}}}
    }
    old["metadata"] |= {
        "namespace": SPACE,
        "uid": "0b5d12a6-9f0b-4e0f-8f0c-6f4dcb6d1e3a",
        "resourceVersion": "12345",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": orjson.dumps(virtual_model("chat")).decode()},
        "managedFields": [
            {
                "manager": "kubectl",
                "operation": "Update",
                "apiVersion": "ai-gateway.io/v1alpha1",
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        ],
    }
    old["status"] = {
        "modelName": "chat",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "x" * 60}],
    }
    new = {**old, "spec": {**old["spec"], "current": "big"}}
    kind = {"group": "ai-gateway.io", "version": "v1alpha1", "kind": "VirtualModel"}
    resource = {"group": "ai-gateway.io", "version": "v1alpha1", "resource": "virtualmodels"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": "chat",
        "namespace": SPACE,
        "operation": "UPDATE",
        "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
        "object": new,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
