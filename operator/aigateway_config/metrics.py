"""Gauges of a pod's configuration, in the names that the Prometheus project uses for its own configuration reloads.

    REGISTRY.register(ConfigCollector(reader))

Reads the reader when it is scraped and keeps nothing. Imports prometheus_client, which the base library does not need; so
nothing here imports this module. In a pod with several workers each process has its own numbers; what holds of all of them
is answered on the status port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aigateway_config.configuration import Configuration

PREFIX: Final = "aigateway_config"


class Counted(Protocol):
    """What this needs of `reader.Counters`."""

    @property
    def reloads(self) -> int:
        """Configurations that came into force."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """Files that did not, by reason."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """What sources ignored, as `source:reason`."""

    @property
    def last_success(self) -> datetime | None:
        """When the last reading without a fault was judged."""


class Measured(Protocol):
    """What this needs of a reader, blocking or not."""

    @property
    def current(self) -> Configuration | None:
        """The configuration in force."""

    @property
    def error(self) -> str | None:
        """Why the newest documents are not in force."""

    @property
    def counters(self) -> Counted:
        """What happened so far."""


class ConfigCollector(Collector):
    """Register it in a CollectorRegistry. Series of documents that are no longer in force vanish."""

    def __init__(self, reader: Measured) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        """Yield what the reader says now."""
        current, counters, error = self._reader.current, self._reader.counters, self._reader.error
        yield GaugeMetricFamily(
            f"{PREFIX}_last_reload_successful",
            "Whether the newest documents are in force (1) or the last good ones are kept (0).",
            value=float(current is not None and error is None),
        )
        last = counters.last_success
        yield GaugeMetricFamily(
            f"{PREFIX}_last_reload_success_timestamp_seconds",
            "When the documents were last read without a fault; 0: never.",
            value=0.0 if last is None else last.timestamp(),
        )
        yield CounterMetricFamily(f"{PREFIX}_reloads", "Configurations that came into force.", value=counters.reloads)
        yield _by_label(f"{PREFIX}_rejected", "Files that did not come into force.", "reason", counters.rejected)
        yield _by_label(f"{PREFIX}_ignored", "What sources ignored, as source:reason.", "reason", counters.ignored)
        yield GaugeMetricFamily(
            f"{PREFIX}_models", "Virtual models in force.", value=0.0 if current is None else len(current.models)
        )
        yield from _revisions(current)


def _revisions(current: Configuration | None) -> Iterator[Metric]:
    revisions = GaugeMetricFamily(f"{PREFIX}_revision", "Revision in force by document.", labels=["document"])
    credentials = GaugeMetricFamily(
        f"{PREFIX}_credentials_revision", "Credentials revision in force by manifest.", labels=["manifest"]
    )
    if current is not None:
        for name, state in sorted(current.documents.items()):
            revisions.add_metric([name], state.revision)
        for name, revision in sorted(current.credentials.items()):
            credentials.add_metric([name], revision)
    yield revisions
    yield credentials


def _by_label(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family
