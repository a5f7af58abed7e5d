"""Every metric of operator and webhook: its name, kind, labels and meaning, said once.

`metrics`, `admission.metrics`, `main` and `webhook` make their metrics from these; docs/metrics.md is generated from them;
tests compare a scrape, the alert rules and the dashboard with them. A leaf: knows prometheus-client and no room. Names follow
Prometheus' conventions: base units, `_total` on counters, `_info` on what is always 1.
Labels are of our own vocabulary, or names of objects that exist; how many series there can be is said with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Kind = Literal["counter", "gauge", "histogram", "info"]
GATEWAY: Final = ("namespace", "gateway")


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. `name`: as exposed, but for `_bucket`, `_sum` and `_count` of a histogram. `series`: how many at most."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    series: str = "1"
    buckets: tuple[float, ...] = ()

    @property
    def family_name(self) -> str:
        """Its name as prometheus-client takes and gives it: without `_total` and `_info`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name.removesuffix("_info")

    @property
    def exposed(self) -> tuple[str, ...]:
        """Names of its series in a scrape."""
        return (self.name,) if self.kind != "histogram" else tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))

    def counter(self, registry: CollectorRegistry) -> Counter:
        """Return a counter that is counted up where things happen."""
        return Counter(self.family_name, self.text, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """Return a histogram that is observed where things happen."""
        return Histogram(self.name, self.text, self.labels, buckets=self.buckets, registry=registry)

    def gauge_family(self) -> GaugeMetricFamily:
        """Return an empty family for one scrape."""
        return GaugeMetricFamily(self.name, self.text, labels=self.labels)

    def counter_family(self) -> CounterMetricFamily:
        """Return an empty family for one scrape."""
        return CounterMetricFamily(self.family_name, self.text, labels=self.labels)


BUILD = Measure("aigateway_build_info", "info", "1; the label tells the version of this process.", ("version",))
PROCESS_TASKS = Measure("aigateway_tasks", "gauge", "Tasks of the event loop that answers scrapes.")

LEADER = Measure("aigateway_leader", "gauge", "1 while this process holds the Lease, else 0.")
WATCH_OWED = Measure("aigateway_watch_owed_seconds", "gauge", "How long the watch has owed a change that a LIST showed.")
SOURCE_RESTARTS = Measure("aigateway_source_restarts_total", "counter", "Restarts of the event source.")
ROUNDS = Measure(
    "aigateway_reconcile_rounds_total",
    "counter",
    "Rounds by outcome: changed, unchanged, conflict (somebody else wrote first), error (of the API server), fault (of ours).",
    ("outcome",),
    "5",
)
ROUND_SECONDS = Measure(
    "aigateway_reconcile_round_seconds",
    "histogram",
    "How long a round of one gateway takes, its writes included, those of statuses not.",
    series="14",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
WAITING = Measure("aigateway_reconcile_gateways_waiting", "gauge", "Gateways that wait for a round or have one under way.")
STATUS_WRITES = Measure("aigateway_status_writes_total", "counter", "Statuses written.")
STATUSES_WAITING = Measure("aigateway_statuses_waiting", "gauge", "Statuses that wait to be written or are being written.")

CONDITION = Measure(
    "aigateway_gatewayconfig_condition",
    "gauge",
    "1 for the status and reason that each condition of a GatewayConfig has.",
    (*GATEWAY, "condition", "status", "reason"),
    "6 a gateway",
)
REVISION = Measure("aigateway_revision", "gauge", "Revision of the rendered documents.", GATEWAY, "1 a gateway")
DOCUMENT_BYTES = Measure(
    "aigateway_document_bytes",
    "gauge",
    "Size of each rendered document.",
    (*GATEWAY, "document"),
    "1 a document: at most 65 a gateway",
)
DOCUMENT_LIMIT = Measure("aigateway_document_limit_bytes", "gauge", "What one ConfigMap may hold.")
MODELS = Measure(
    "aigateway_virtualmodels",
    "gauge",
    "VirtualModels by state (Ready, NotReady, Pending) and reason.",
    (*GATEWAY, "state", "reason"),
    "at most 12 a gateway: the reasons there are",
)
MODELS_OFF = Measure("aigateway_virtualmodels_off", "gauge", "Accepted VirtualModels with use: false.", GATEWAY, "1 a gateway")
MODEL_NOT_READY = Measure(
    "aigateway_virtualmodel_not_ready",
    "gauge",
    "1 for each VirtualModel that is not Ready, only as long as it is not.",
    (*GATEWAY, "virtualmodel", "reason"),
    "1 a VirtualModel that is not Ready, at most 200 in all",
)
MODEL_NOT_READY_OMITTED = Measure(
    "aigateway_virtualmodel_not_ready_omitted", "gauge", "VirtualModels that are not Ready beyond the 200 that have a series."
)
PODS = Measure(
    "aigateway_pods",
    "gauge",
    "Ready pods by state: updated (runs the newest documents), behind (runs something else), unknown (cannot be asked).",
    (*GATEWAY, "state"),
    "3 a gateway with a podSelector",
)
PROPAGATION_SECONDS = Measure(
    "aigateway_propagation_seconds",
    "histogram",
    "From the end of a write to the answer of the last pod that runs it.",
    series="15",
    # Around what a poked kubelet takes (0.1 s), and one that is left alone (a minute).
    buckets=(0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 120.0),
)
MIRROR_UP = Measure(
    "aigateway_redis_mirror_up",
    "gauge",
    "1: the Redis mirror holds the newest documents; 0: status says what is wrong.",
    GATEWAY,
    "1 a gateway with redisNotify",
)
DATASTORE_UP = Measure(
    "aigateway_datastore_up",
    "gauge",
    "1: the store does what the gateway needs of it; 0: it does not. No series while it is not judged.",
    (*GATEWAY, "store"),
    "1 an enabled store",
)
DATASTORE_STATE = Measure(
    "aigateway_datastore_state",
    "gauge",
    "1 for the state (Up, NotReady, Denied, Down, Unknown) and reason that status tells of each store.",
    (*GATEWAY, "store", "state", "reason"),
    "1 an enabled store",
)
PROBE_LATENCY = Measure(
    "aigateway_datastore_probe_latency_seconds",
    "gauge",
    "How long the last check of each store took, whatever it brought.",
    (*GATEWAY, "store"),
    "1 an enabled store",
)
PROBES = Measure(
    "aigateway_probe_checks_total",
    "counter",
    "Checks by kind of target (mongodb, redis, qdrant, backend) and what each brought (Up, NotReady, Denied, Down).",
    ("target", "state"),
    "16",
)
PROBE_TARGETS = Measure("aigateway_probe_targets", "gauge", "Different targets that are probed.")
BACKENDS = Measure(
    "aigateway_backends_reachable",
    "gauge",
    "VirtualModels with probe.enabled by the status of BackendsReachable.",
    (*GATEWAY, "status"),
    "3 a gateway",
)
KEPT_CERTIFICATE = Measure(
    "aigateway_kept_certificate_not_after_timestamp_seconds",
    "gauge",
    "When leaf or authority that the leader keeps expires, seconds since 1970; NaN while this process has not led.",
    ("certificate",),
    "2",
)

SERVED_CERTIFICATE = Measure(
    "aigateway_webhook_certificate_not_after_timestamp_seconds",
    "gauge",
    "When the serving certificate expires, seconds since 1970; 0: there is none.",
)
REVIEWS = Measure(
    "aigateway_admission_reviews_total",
    "counter",
    "Reviews answered: allowed, warned (allowed with warnings) or refused.",
    ("kind", "operation", "verdict"),
    "18",
)
REVIEW_SECONDS = Measure(
    "aigateway_admission_review_seconds",
    "histogram",
    "Seconds from the last byte of a review to its verdict.",
    ("kind", "operation"),
    "66",
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1, 0.5),
)
TURNED_AWAY = Measure(
    "aigateway_admission_turned_away_total",
    "counter",
    "Requests without verdict: malformed, not_found, method, content_type, too_large, slow, busy, fault.",
    ("reason",),
    "8",
)
UNRECORDED = Measure(
    "aigateway_admission_unrecorded_total",
    "counter",
    "Decisions that were answered although no record of them was kept in time: the disk fails, is full, or is slow.",
)

LOG_SPOOLED = Measure("aigateway_log_spooled_total", "counter", "Records that were taken for MongoDB.")
LOG_SHIPPED = Measure(
    "aigateway_log_shipped_total", "counter", "Records that MongoDB acknowledged, those of dead processes included."
)
LOG_DROPPED = Measure(
    "aigateway_log_dropped_total",
    "counter",
    "Records that found no room in the spool, which takes system records only up to a part of its bound.",
    ("stream", "level"),
    "8",
)
LOG_LOST = Measure(
    "aigateway_log_lost_total",
    "counter",
    "Records lost otherwise: refused (by MongoDB for good), damaged or missing (in the spool), file (its disk took no line).",
    ("reason",),
    "4",
)
LOG_SHIP_FAILURES = Measure(
    "aigateway_log_ship_failures_total", "counter", "Attempts to ship records that failed; they are repeated."
)
LOG_SPOOL_BYTES = Measure("aigateway_log_spool_bytes", "gauge", "Bytes on disk that wait for MongoDB.")
LOG_MEMORY_BYTES = Measure("aigateway_log_memory_bytes", "gauge", "Bytes in memory that wait for the disk.")
LOG_LAST_SHIP = Measure(
    "aigateway_log_last_ship_timestamp_seconds",
    "gauge",
    "When MongoDB last acknowledged records, seconds since 1970; 0: never.",
)

LOGS: Final = (
    LOG_SPOOLED, LOG_SHIPPED, LOG_DROPPED, LOG_LOST, LOG_SHIP_FAILURES, LOG_SPOOL_BYTES, LOG_MEMORY_BYTES, LOG_LAST_SHIP,
)  # fmt: skip
BOTH: Final = (BUILD, PROCESS_TASKS)
CONTROLLER: Final = (
    LEADER, WATCH_OWED, SOURCE_RESTARTS, ROUNDS, ROUND_SECONDS, WAITING, STATUS_WRITES, STATUSES_WAITING, KEPT_CERTIFICATE,
    PROPAGATION_SECONDS, PROBES, PROBE_TARGETS, DOCUMENT_LIMIT, MODEL_NOT_READY_OMITTED,
)  # fmt: skip
GATEWAYS: Final = (
    CONDITION, REVISION, DOCUMENT_BYTES, MODELS, MODELS_OFF, MODEL_NOT_READY, PODS, MIRROR_UP, DATASTORE_UP, DATASTORE_STATE,
    PROBE_LATENCY, BACKENDS,
)  # fmt: skip
WEBHOOK: Final = (REVIEWS, REVIEW_SECONDS, TURNED_AWAY, UNRECORDED, SERVED_CERTIFICATE)
MEASURES: Final[Sequence[Measure]] = (*BOTH, *LOGS, *CONTROLLER, *GATEWAYS, *WEBHOOK)
"""All of them; docs/metrics.md lists them so."""
