"""Counts of what the webhook decided, and how long it took. Cheap: a review adds to two numbers that are looked up once.

Called by `server`; read at the health port. Labels are few and fixed; nothing that a caller sends becomes one.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from aigateway_operator.measures import REVIEW_SECONDS, REVIEWS, TURNED_AWAY, UNRECORDED


class AdmissionMetrics:
    """The webhook's counters in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reviews = REVIEWS.counter(registry)
        self._seconds = REVIEW_SECONDS.histogram(registry)
        self._turned_away = TURNED_AWAY.counter(registry)
        self._unrecorded = UNRECORDED.counter(registry)
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

    def unrecorded(self) -> None:
        """Count a decision whose record was not kept in time."""
        self._unrecorded.inc()
