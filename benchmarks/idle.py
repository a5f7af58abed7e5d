"""What an operator costs that has nothing to do: writes, requests, CPU and memory while nobody edits anything.

`python -m benchmarks idle [--seconds 600] [--models 100] [-o json]`. A real API server, Redis and MongoDB wire server that are
up, and a Qdrant that is down; probes at their defaults. Lease renewals are counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hack.audit import WRITES
from hack.controlplane import ControlPlane
from hack.stores import MongoServer, RedisServer
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import NAMESPACE, USER, Process, operator_kubeconfig

ROOT: Final = Path(__file__).resolve().parents[1]
SETTLE_SECONDS: Final = 30


def main(arguments: list[str]) -> int:
    """Measure and print; returns 0 whether goals are met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks idle", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long nothing happens (default: 600)")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(parsed.seconds, parsed.models, Path(folder))
    if parsed.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<40} {value}")
        print("goals: 0 writes but Lease; liveness green throughout")
    return 0


def _measure(seconds: int, models: int, folder: Path) -> dict[str, Any]:
    with RedisServer.start() as redis, MongoServer.start() as mongo, ControlPlane.start(crds=[ROOT / "crds"]) as plane:
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ai"}})
        world, log = World(plane, "ai"), folder / "operator.log"
        operator = Process.start(
            operator_kubeconfig(plane, folder), log, namespaces="ai", lease_namespace=NAMESPACE,
            allow_addresses="127.0.0.0/8", webhook_certificates="off", log_format="json",
        )  # fmt: skip
        try:
            ports = {"redis": redis.port, "mongodb": mongo.port, "qdrant": 1}
            storage = {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()}
            world.create(secret(), gateway_config(storage=storage), *(virtual_model(f"model-{one}") for one in range(models)))
            world.wait_ready(f"model-{models - 1}", within_seconds=60)
            world.wait_condition("GatewayConfig", "main", "DatastoresReady", "False", "Down", within_seconds=60)
            port = eventually(lambda: _health_port(log), within_seconds=10)
            time.sleep(SETTLE_SECONDS)
            return _watch(plane, port, seconds)
        finally:
            operator.stop()


def _watch(plane: ControlPlane, port: int, seconds: int) -> dict[str, Any]:
    mark, cpu, began = plane.audit_mark(), _metric(port, "process_cpu_seconds_total"), time.monotonic()
    red = 0
    while time.monotonic() - began < seconds:
        time.sleep(1)
        red += _get(port, "/healthz")[0] != 200
    spent, wall = _metric(port, "process_cpu_seconds_total") - cpu, time.monotonic() - began
    records = list(plane.audit_since(mark, user=USER))
    writes = Counter(record.resource for record in records if record.verb in WRITES)
    lease = writes.pop("leases", 0)
    return {
        "seconds": round(wall),
        "writes but Lease": sum(writes.values()),
        "of these": dict(writes),
        "Lease renewals": lease,
        "other requests": len(records) - lease - sum(writes.values()),
        "liveness red, of all asked": red,
        "CPU of the operator": f"{spent / wall:.2%} of a core",
        "RSS": f"{_metric(port, 'process_resident_memory_bytes') / 1e6:.0f} MB",
    }


def _health_port(log: Path) -> int:
    for line in log.read_text().splitlines():
        found = _find(json.loads(line), "health_port") if line.startswith("{") else None
        if found:
            return int(found)
    raise AssertionError("the operator has not said where it listens")


def _find(value: Any, key: str) -> Any:
    """Return the first non-zero value of a key at any depth, None if there is none."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    mine = value.get(key) if isinstance(value, dict) else None
    return mine or next((found for found in (_find(one, key) for one in inner) if found), None)


def _get(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.status, answer.read().decode()


def _metric(port: int, name: str) -> float:
    lines = [line for line in _get(port, "/metrics")[1].splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].rsplit(" ", 1)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
