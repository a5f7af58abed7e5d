"""What the audit trail costs an edit: with MongoDB taking records, with MongoDB silent, and without any trail.

    python -m benchmarks audit [--models 100] [--edits 40] [--rounds 4] [-o json]

Operator processes of their own on one real control plane, one after the other; MongoDB is silent when its process is stopped
(SIGSTOP): it takes connections and answers nothing. Rounds with and without an answering MongoDB take turns in one operator,
so that both meet the same machine; on a busy one the ratio of two equal halves differs from 1 by up to a tenth. Times are
from an edit's answer to the watch event of the written ConfigMap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, SECRETS
from benchmarks.delivery import ROOT, SPACE, Seen, Spread, create_all, edits_of_one, settled
from hack.controlplane import ControlPlane
from hack.stores import MongoServer
from tests.apiserver.world import gateway_config, secret
from tests.operators import NAMESPACE, Process, operator_kubeconfig

GOAL = 1.05


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. ratio: of the medians, MongoDB silent to MongoDB answering."""

    without: Spread
    answering: Spread
    silent: Spread
    ratio: float

    def as_text(self) -> str:
        """Return the figures for people."""
        met = "met" if self.ratio <= GOAL else "MISSED"
        return "\n".join(
            [
                f"edit → ConfigMap seen, no trail           {self.without}",
                f"edit → ConfigMap seen, MongoDB answering  {self.answering}",
                f"edit → ConfigMap seen, MongoDB silent     {self.silent}",
                f"silent / answering {self.ratio:.3f} (goal {GOAL}: {met})",
            ]
        )


async def measure(models: int, edits: int, rounds: int, folder: Path) -> Figures:
    """Measure on a control plane of its own."""
    with ControlPlane.start(crds=[ROOT / "crds"]) as plane, MongoServer.start() as mongo:
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        kubeconfig = operator_kubeconfig(plane, folder)
        uri = folder / "uri"
        uri.write_text(mongo.url)
        trail = {
            "log_dir": str(folder / "logs"),
            "log_spool_dir": str(folder / "spool"),
            "log_mongodb_uri_file": str(uri),
            "log_mongodb_indexes": "false",
        }
        async with KubeClient.connect(plane.kubeconfig, user_agent="benchmark") as client:
            seen = Seen(client)
            follower = asyncio.create_task(seen.run())
            try:
                operator = Process.start(kubeconfig, folder / "plain.log", lease_namespace=NAMESPACE)
                await client.create(SECRETS, SPACE, secret())
                await client.create(GATEWAY_CONFIGS, SPACE, gateway_config())
                await create_all(client, models)
                await settled(client, models)
                without = await edits_of_one(client, seen, edits * rounds)
                operator.stop()
                operator = Process.start(kubeconfig, folder / "trail.log", lease_namespace=NAMESPACE, **trail)
                await edits_of_one(client, seen, 10)  # warm
                answering: list[float] = []
                silent: list[float] = []
                for number in range(2 * rounds):
                    paused = number % 4 in (1, 2)  # answering, silent, silent, answering: what drifts meets both alike
                    (mongo.pause if paused else mongo.resume)()
                    (silent if paused else answering).extend(await edits_of_one(client, seen, edits))
                operator.kill()
            finally:
                mongo.resume()
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
    return Figures(Spread.of(without), Spread.of(answering), Spread.of(silent), median(silent) / median(answering))


def main(argv: list[str]) -> int:
    """Run it; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks audit", description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--edits", type=int, default=40, help="edits a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(args.models, args.edits, args.rounds, Path(folder)))
    print(json.dumps(asdict(figures), indent=2) if args.output == "json" else figures.as_text())
    return 0
