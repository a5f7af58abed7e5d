"""What any process of ours tells at a scrape: its version, memory, CPU, open files, tasks and logs.

Must not import what the webhook role does without: kopf and the Kubernetes client. Called by `main` and `webhook`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Info, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aigateway_logs import DualLog
from aigateway_operator import __version__, measures
from aigateway_operator.metrics.logs import LogMetrics


def process_metrics(registry: CollectorRegistry, logs: DualLog | None = None) -> None:
    """Register them; to be called in the loop whose tasks are counted. `logs`: None where nobody keeps records."""
    Info(measures.BUILD.family_name, measures.BUILD.text, registry=registry).info({"version": __version__})
    ProcessCollector(registry=registry)
    registry.register(_Tasks(asyncio.get_running_loop()))
    if logs is not None:
        registry.register(LogMetrics(logs.counters))


class _Tasks(Collector):
    """Counts the tasks of one loop; may be read in any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def describe(self) -> Iterable[Metric]:
        """Say nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Count."""
        family = measures.PROCESS_TASKS.gauge_family()
        family.add_metric((), len(asyncio.all_tasks(self._loop)))
        yield family
