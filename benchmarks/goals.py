"""The promises, in one table: what each is, which figure decides it, and what stands beside it. Pure.

A goal is met when the median of its figure is; for times that are one number over all repeats (p99), that number is. A goal
whose figure was not measured in a run says so; one that is missed is printed as MISSED.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.book import Figure, short

Verdict = Literal["pass", "MISSED", "not measured"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise. `at_least`: more is better. `floor` and `peers` (label → figure) are printed beside it."""

    text: str
    figure: str
    limit: float
    suite: str
    at_least: bool = False
    floor: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)

    def judge(self, figures: Mapping[str, Figure]) -> Verdict:
        """Return whether it is met."""
        found = figures.get(self.figure)
        if found is None:
            return "not measured"
        met = found.middle >= self.limit if self.at_least else found.middle <= self.limit
        return "pass" if met else "MISSED"


@dataclass(frozen=True, slots=True)
class Row:
    """A goal as it is printed: every cell a text."""

    goal: str
    limit: str
    measured: str
    floor: str
    peers: str
    verdict: Verdict


def _edit(models: int, p50: float, p99: float) -> Iterator[Goal]:
    floor = f"edit.{models}.floor"
    for way, shown in (("api", "API watch"), ("redis", "Redis")):
        for part, limit in (("p50", p50), ("p99", p99)):
            text = f"one edit → served by a pod, {shown}, {models:,} models, {part}"
            peers = {"controller-runtime, written": f"edit.{models}.controller-runtime.written.{part}"} if way == "api" else {}
            yield Goal(text, f"edit.{models}.{way}.quiet.{part}", limit, "edits", floor=f"{floor}.{part}", peers=peers)


def _burst(models: int, lag: float, suite: str) -> Iterator[Goal]:
    def peers(what: str) -> dict[str, str]:
        return {peer: f"burst.{models}.{peer}.{what}" for peer in ("controller-runtime", "plain-kopf")}

    name = f"burst.{models}.operator"
    yield Goal(f"{models:,} applied: last 201 → last served", f"{name}.lag", lag, suite, peers=peers("lag"))
    wall = f"{models:,} applied: wall, × the same creates with nobody there"
    yield Goal(wall, f"{name}.wall", 1.25, "bursts", floor=f"burst.{models}.nobody.created", peers=peers("wall"))
    requests = f"{models:,} applied: API requests an object, all kinds but Lease"
    yield Goal(requests, f"{name}.requests", 1.10, suite, peers=peers("requests"))
    yield Goal(f"{models:,} applied: ConfigMap writes an object", f"{name}.configmaps", 0.08, suite, peers=peers("configmaps"))
    etcd = f"{models:,} applied: bytes etcd wrote, × the final documents"
    yield Goal(etcd, f"{name}.amplification", 20, suite, floor=f"burst.{models}.nobody.etcd", peers=peers("amplification"))
    yield Goal(f"{models:,} models: RSS a 1,000 above rest", f"{name}.growth", 3, suite, peers=peers("growth"))


GOALS: Final = (
    *_edit(1_000, 10, 30),
    *_edit(10_000, 15, 50),
    Goal("one edit, 10,000 models ÷ 10 of the same bytes a shard, p50", "edit.flatness", 1.5, "edits"),
    Goal("one edit by mounted volume, quiet, p50", "edit.1000.volume.quiet.p50", 150, "edits"),
    Goal("one edit by mounted volume, quiet, p99", "edit.1000.volume.quiet.p99", 300, "edits"),
    Goal("one edit by mounted volume, among 20 a second, p99", "edit.1000.volume.busy.p99", 1100, "edits"),
    *_burst(1_000, 0.3, "bursts"),
    *_burst(10_000, 1.0, "life"),
    Goal("writes but Lease when idle", "idle.writes", 0, "idle"),
    Goal("writes but Lease on a restart, 10,000 models", "cold.10000.writes", 0, "life"),
    Goal("writes but Lease when applied again unchanged", "noop.writes", 0, "life"),
    Goal("admission: CPU a review, × a bare server with the same rules", "admission.ratio", 1.2, "admission"),
    Goal("admission: added to an edit, p50", "admission.added.p50", 1.5, "admission", floor="admission.without.p50", peers={
        "bare server": "admission.bare.added.p50"
    }),
    Goal("admission: added to an edit, p99", "admission.added.p99", 5, "admission", floor="admission.without.p99", peers={
        "bare server": "admission.bare.added.p99"
    }),
    Goal("RSS of the controller at rest", "rest.operator.rss", 95, "bursts", peers={
        peer: f"rest.{peer}.rss" for peer in ("controller-runtime", "plain-kopf")
    }),
    Goal("RSS of the webhook", "admission.rss", 60, "admission"),
    Goal("RSS at its peak in a cold start, 10,000 models", "cold.10000.peak", 170, "life"),
    Goal("RSS of a pod's process a 1,000 models", "edit.1000.pod.growth", 3, "edits"),
    Goal("cold start, 10,000 models, nothing changed", "cold.10000.seconds", 5, "life"),
    Goal("fail-over after SIGKILL, until an edit is written", "failover.10000", 5, "life"),
    Goal("churn: growth of RSS from the second quarter to the last", "churn.rss.growth", 5, "churn"),
    Goal("churn: growth of file descriptors", "churn.descriptors.growth", 2, "churn"),
    Goal("churn: growth of tasks", "churn.tasks.growth", 2, "churn"),
    Goal("logs: lost or doubled through outages and SIGKILL", "logs.lost", 0, "logs"),
    Goal("logs: records a second, end to end", "logs.rate", 10_000, "logs", at_least=True, floor="logs.bare", peers={
        "against a server that keeps nothing": "logs.own",
    }),
    Goal("logs: drain, × a bare insert_many", "logs.drain", 0.8, "logs", at_least=True),
    Goal("gateway: CPU a request, × a bare pass-through", "gateway.ratio", 1.4, "gateway"),
)  # fmt: skip
"""In the order in which docs/performance.md prints them."""


def rows(figures: Mapping[str, Figure], goals: tuple[Goal, ...] = GOALS) -> list[Row]:
    """Return every goal with what was measured; those that were not come too."""
    return [_row(goal, figures) for goal in goals]


def _row(goal: Goal, figures: Mapping[str, Figure]) -> Row:
    found = figures.get(goal.figure)
    peers = [f"{label} {short(figures[name].middle)}" for label, name in goal.peers.items() if name in figures]
    return Row(
        goal=goal.text,
        limit=f"{'≥' if goal.at_least else '≤'} {short(goal.limit)} {'' if found is None else found.unit}".strip(),
        measured="" if found is None else str(found),
        floor=str(figures[goal.floor]) if goal.floor in figures else "",
        peers=", ".join(peers),
        verdict=goal.judge(figures),
    )


def missed(figures: Mapping[str, Figure]) -> int:
    """Return how many goals were missed."""
    return sum(goal.judge(figures) == "MISSED" for goal in GOALS)
