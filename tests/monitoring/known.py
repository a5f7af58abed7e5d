"""Every metric that dashboard and alerts may name, with its labels: the operator's, the gateway's, and what a scrape adds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from aigateway_gateway.metrics import Metrics
from aigateway_operator import measures

SCRAPED = frozenset({"job", "instance"})
PROCESS = ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds")


def known_metrics() -> dict[str, frozenset[str]]:
    """Return name as exposed → labels."""
    found = {
        name: frozenset(measure.labels) | ({"le"} if name.endswith("_bucket") else frozenset())
        for measure in measures.MEASURES
        for name in measure.exposed
    }
    gateway = Metrics(CollectorRegistry())
    gateway.count("chat", "chat", 200, 0.1)
    gateway.store_up.labels("redis").set(1)
    for family in gateway.registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found[sample.name] = found.get(sample.name, frozenset()) | frozenset(sample.labels)
    found.update(dict.fromkeys(PROCESS, frozenset()))
    return {name: labels | SCRAPED for name, labels in found.items()}
