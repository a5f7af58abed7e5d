"""Metrics of one worker, in Prometheus' form; several workers are joined by prometheus-client's own files (see `serve`).

Names only of models that are configured become labels: callers cannot make series. Called by `access` and `calls`.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Every series of the gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "aigateway_gateway_requests", "Requests by endpoint, model and status; 499: the caller left.",
            ["endpoint", "model", "status"], registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "aigateway_gateway_request_seconds", "From a request's arrival to the end of its answer.",
            ["endpoint"], registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self.in_flight = Gauge(
            "aigateway_gateway_in_flight", "Requests being worked on.", registry=registry, multiprocess_mode="livesum"
        )
        self.store_up = Gauge(
            "aigateway_gateway_store_up", "1: the datastore answers.", ["store"], registry=registry, multiprocess_mode="livemin"
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """Looked up once: finding a series by its labels costs more than counting."""

    def store_gone(self, name: str) -> None:
        """Say nothing more of a store that is not used any more. Of several workers' joined gauges none can be removed: NaN."""
        self.store_up.labels(name).set(float("nan"))
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            self.store_up.remove(name)

    def count(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        """Count a request that is over."""
        key = endpoint, model, status
        series = self._series.get(key)
        if series is None:
            series = self._requests.labels(endpoint, model, str(status)), self._seconds.labels(endpoint)
            self._series[key] = series
        counter, histogram = series
        counter.inc()
        histogram.observe(seconds)
