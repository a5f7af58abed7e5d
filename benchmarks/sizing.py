"""From what was measured to what a cluster needs: memory, CPU and etcd by number of models and edits. Pure.

Linear models with the measured slope, rounded up; what they leave out stands in docs/sizing.md. Called by `page`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.book import Figure

MODELS = (100, 1_000, 3_000, 10_000)
EDITS_A_DAY = (100, 1_000, 10_000, 86_400)


def tables(figures: Mapping[str, Figure]) -> str:
    """Return the measured part of docs/sizing.md; says so where a figure was not measured."""
    return "\n".join([*_memory(figures), "", *_edits(figures), "", *_pods(figures)]) + "\n"


def middle(figures: Mapping[str, Figure], *names: str) -> float | None:
    """Return the median of the first figure that was measured."""
    return next((figures[name].middle for name in names if name in figures), None)


def _memory(figures: Mapping[str, Figure]) -> list[str]:
    rest = middle(figures, "rest.operator.rss")
    slope = middle(figures, "cold.10000.growth", "burst.10000.operator.growth", "burst.1000.operator.growth")
    pod = middle(figures, "edit.1000.pod.growth")
    if rest is None or slope is None:
        return ["Memory was not measured."]
    made = [
        "| models | shards | RSS of the controller | memory limit | added to each pod's process |",
        "|---|---|---|---|---|",
    ]
    for models in MODELS:
        resident = rest + slope * models / 1000
        limit = math.ceil(max(192.0, resident * 1.6) / 64) * 64
        added = "" if pod is None else f"{max(1, math.ceil(pod * models / 1000))} MB"
        made.append(f"| {models:,} | {_shards(models)} | {math.ceil(resident)} MB | {limit} Mi | {added} |")
    return made


def _shards(models: int) -> int:
    return 1 if models < 1000 else max(8, 2 ** math.ceil(math.log2(models / 160)))


def _edits(figures: Mapping[str, Figure]) -> list[str]:
    cpu, kilobytes = middle(figures, "churn.cpu"), middle(figures, "churn.etcd")
    requests, idle = middle(figures, "churn.requests"), middle(figures, "idle.cpu")
    if cpu is None or kilobytes is None or requests is None:
        return ["What edits cost was not part of that run: `python -m benchmarks churn` measures it."]
    made = [
        "| edits a day | API requests a day, all but Lease | CPU | etcd a day |",
        "|---|---|---|---|",
    ]
    for edits in EDITS_A_DAY:
        core = cpu * edits / 1000 / 86_400 * 100 + (idle or 0.0)
        made.append(
            f"| {edits:,} | {math.ceil(requests * edits):,} | {core:.2f} % of a core | {kilobytes * edits / 1000:,.1f} MB |"
        )
    return made


def _pods(figures: Mapping[str, Figure]) -> list[str]:
    sizes = [int(name.split(".")[1]) for name in figures if name.startswith("crowd.") and name.endswith(".idle.cpu")]
    if not sizes:
        return ["What pods cost was not part of that run: `python -m benchmarks crowd` measures it."]
    pods = max(sizes)
    idle, edit = figures[f"crowd.{pods}.idle.cpu"].middle, figures[f"crowd.{pods}.edit.cpu"].middle
    return [
        "| pods of a gateway | CPU while nothing changes | CPU an edit, until all are proved |",
        "|---|---|---|",
        f"| {pods} | {idle:.2f} % of a core | {edit:.0f} ms |",
    ]
