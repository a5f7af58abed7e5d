"""`python -m benchmarks [--models 10,1000] [--edits 100] [-o json]`: run the measurements and print one table.

`python -m benchmarks admission` measures the webhook instead, `python -m benchmarks mirror` the Redis mirror,
`python -m benchmarks reader` the pod library, `python -m benchmarks probes` health checks, `python -m benchmarks logs` logs,
`python -m benchmarks gateway` what the gateway costs a request, `python -m benchmarks delivery` the way of an edit into pods,
`python -m benchmarks audit` what the audit trail costs an edit, `python -m benchmarks idle` what nothing to do costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import admission, audit, gateway, idle, logs, mirror, pods, probes, reader
from benchmarks.delivery import Figures, measure

GOALS = (
    "goals: quiet edit p50 10 ms and p99 30 ms at 1,000 models in 8 shards; controller at rest 95 MB; 1.10 requests an object"
)

OTHERS: Final[Mapping[str, Callable[[list[str]], int]]] = {
    "admission": admission.main,
    "audit": audit.main,
    "delivery": pods.main,
    "gateway": gateway.main,
    "idle": idle.main,
    "logs": logs.main,
    "mirror": mirror.main,
    "probes": probes.main,
    "reader": reader.main,
}


def main() -> int:
    """Run each size on a control plane of its own; returns 0."""
    if (other := OTHERS.get("".join(sys.argv[1:2]))) is not None:
        return other(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--models", default="10,1000", help="sizes to measure, with commas (default: 10,1000)")
    parser.add_argument("--edits", type=int, default=100, help="edits of one model that are timed (default: 100)")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    results: list[Figures] = []
    for count in (int(text) for text in arguments.models.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            print(f"measuring with {count} models …", file=sys.stderr, flush=True)
            results.append(asyncio.run(measure(count, shards_for(count), arguments.edits, Path(folder))))
    if arguments.output == "json":
        print(json.dumps([result.as_dict() for result in results], indent=2))
    else:
        for result in results:
            print(result.as_text())
        print(GOALS)
    return 0


def shards_for(count: int) -> int:
    """Return the number of shards that a gateway of that size would be given."""
    return 1 if count < 1000 else 8 if count < 10_000 else 64


if __name__ == "__main__":
    sys.exit(main())
