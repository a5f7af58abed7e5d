"""What the logs of a process tell at a scrape: how much waits, was shipped, and was lost. Called by `process`.

Reads counters that may be read in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aigateway_logs import Counters
from aigateway_operator import measures


class LogMetrics(Collector):
    """The spool and the files of one process. `read`: the counters of now."""

    def __init__(self, read: Callable[[], Counters]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Say nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read."""
        now = self._read()
        counts = {
            measures.LOG_SPOOLED: now.spooled,
            measures.LOG_SHIPPED: now.shipped,
            measures.LOG_SHIP_FAILURES: now.ship_failures,
        }
        for measure, count in counts.items():
            family = measure.counter_family()
            family.add_metric((), count)
            yield family
        dropped, lost = measures.LOG_DROPPED.counter_family(), measures.LOG_LOST.counter_family()
        for name, count in now.dropped.items():
            stream, _, level = name.partition(".")
            dropped.add_metric((stream, level), count)
        reasons = {"refused": now.refused, "damaged": now.damaged, "missing": now.missing, "file": now.file_dropped}
        for reason, count in reasons.items():
            lost.add_metric((reason,), count)
        yield from (dropped, lost)
        sizes = {
            measures.LOG_SPOOL_BYTES: now.backlog_bytes,
            measures.LOG_MEMORY_BYTES: now.memory_bytes,
            measures.LOG_LAST_SHIP: now.last_ship_time or 0.0,
        }
        for measure, size in sizes.items():
            gauge = measure.gauge_family()
            gauge.add_metric((), size)
            yield gauge
