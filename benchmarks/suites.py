"""Every suite there is, in the order in which they run; the quick checks of the frame come first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import (
    admission,
    audit,
    blackhole,
    bursts,
    churn,
    crowd,
    edits,
    floors,
    gateway,
    idle,
    joined,
    life,
    logs,
    many,
    mirror,
    outage,
    probes,
    reader,
    trail,
)
from benchmarks.suite import Suite

SUITES: Final = (
    Suite("floors", "what nothing here can be faster than", (0.2, 0.4, 0.4), floors.measure),
    Suite("edits", "one edit until pods run it, by API, Redis and volume", (1, 3.2, 12), edits.measure),
    Suite("bursts", "many models at once, beside peers and nobody", (0.6, 3.8, 20), bursts.measure),
    Suite("life", "10,000 models: rotated, restarted, failed over, emptied", (0.5, 1.6, 3), life.measure),
    Suite("churn", "an hour of changes compressed: no growth", (0.5, 1, 11), churn.measure),
    Suite("gateways", "fifty gateways in one namespace", (0.3, 0.5, 0.5), many.measure),
    Suite("crowd", "200 pods polled", (0.4, 0.8, 3.5), crowd.measure),
    Suite("admission", "a review beside the plainest server", (0.4, 1, 4), joined.admission),
    Suite("gateway", "a request through the gateway beside a bare pass-through", (0.2, 0.5, 3), joined.gateway),
    Suite("logs", "the ledger, records a second, the drain", (0.7, 1.2, 8), joined.logs),
    Suite("idle", "nothing to do", (0.8, 1.2, 11), joined.idle),
)

OWN: Final[Mapping[str, Callable[[list[str]], int]]] = {
    "admission": admission.main,
    "audit": audit.main,
    "blackhole": blackhole.main,
    "crowd": crowd.main,
    "delivery": edits.main,
    "gateway": gateway.main,
    "idle": idle.main,
    "logs": logs.main,
    "mirror": mirror.main,
    "outage": outage.main,
    "probes": probes.main,
    "reader": reader.main,
    "trail": trail.main,
}
"""Name → a command of its own, with options and a report of its own; some are not part of the table of goals."""
