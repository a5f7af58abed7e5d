"""Counts of what the webhook decided, and how long it took. Cheap: a review adds to two numbers that are looked up once.

Called by `server`; read at the health port. Labels are few and fixed; nothing that a caller sends becomes one.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1, 0.5)


class AdmissionMetrics:
    """The webhook's counters in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["kind", "operation", "verdict"]
        self._reviews = Counter(
            "aigateway_admission_reviews", "Reviews answered: allowed, warned (allowed with warnings) or refused.", labels,
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "aigateway_admission_review_seconds",
            "Seconds from the last byte of a review to its verdict.",
            ["kind", "operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._turned_away = Counter(
            "aigateway_admission_turned_away",
            "Requests without verdict: malformed, not_found, method, content_type, too_large, slow, busy, fault.",
            ["reason"],
            registry=registry,
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}

    def decided(self, kind: str, operation: str, verdict: str, seconds: float) -> None:
        """Count one verdict. The arguments are of our own vocabulary."""
        key = (kind, operation, verdict)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (self._reviews.labels(*key), self._seconds.labels(kind, operation))
        found[0].inc()
        found[1].observe(seconds)

    def turned_away(self, reason: str) -> None:
        """Count a request without verdict."""
        self._turned_away.labels(reason).inc()
