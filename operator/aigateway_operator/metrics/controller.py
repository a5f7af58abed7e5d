"""What a scrape of the controller says: taken in the event loop, counted and written in the thread that answers the scrape.

`take` copies what may change and references to the rest, so that a scrape costs the loop next to nothing a model. Gateways are
told by the leader alone: two replicas would count everything twice. Wired by `main`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aigateway_operator import measures
from aigateway_operator.api.conditions import Verdict
from aigateway_operator.datastores.prober import HealthProber
from aigateway_operator.measures import Measure
from aigateway_operator.plan.health import HealthState, StoreTarget
from aigateway_operator.plan.news import READY
from aigateway_operator.reconcile.controller import Controller
from aigateway_operator.reconcile.report import GatewayReport
from aigateway_operator.render.files import LIMIT_BYTES

MAX_NOT_READY: Final = 200
"""VirtualModels that are not Ready and have a series of their own; a broken Secret can concern thousands."""
Certificate = Literal["leaf", "authority"]
_STATES: Final = {"True": "Ready", "False": "NotReady", "Unknown": "Pending"}
_OUTCOMES: Final = ("changed", "unchanged", "conflict", "error", "fault")
_KEPT: Final[tuple[Certificate, ...]] = ("leaf", "authority")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where numbers come from; all are read in the event loop. certificate: when `leaf` or `authority` ends, None: not kept."""

    controller: Controller
    prober: HealthProber
    is_leader: Callable[[], bool]
    source_restarts: Callable[[], int]
    certificate: Callable[[Certificate], float] | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """One moment. numbers: of the metrics without labels."""

    numbers: Mapping[Measure, float]
    rounds: Mapping[str, int]
    checks: Mapping[tuple[str, HealthState], int]
    certificates: Mapping[Certificate, float]
    reports: tuple[GatewayReport, ...]
    latencies: Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class _Models:
    """The VirtualModels of one gateway, counted. not_ready: (name, reason), in order of name."""

    states: Mapping[tuple[str, str], int]
    backends: Mapping[str, int]
    not_ready: tuple[tuple[str, str], ...]


class ControllerMetrics(Collector):
    """Everything that is read at a scrape. `take` belongs to the event loop, `collect` to one thread at a time."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._seen = self._look()

    def take(self) -> None:
        """Note the present moment, for the next `collect`."""
        self._seen = self._look()

    def describe(self) -> Iterable[Metric]:
        """Say nothing in advance: names are in `measures`, and registering must not read anything."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what was noted last."""
        seen = self._seen
        for measure, value in seen.numbers.items():
            family = measure.counter_family() if measure.kind == "counter" else measure.gauge_family()
            family.add_metric((), value)
            yield family
        rounds, probes = measures.ROUNDS.counter_family(), measures.PROBES.counter_family()
        kept = measures.KEPT_CERTIFICATE.gauge_family()
        for outcome in _OUTCOMES:
            rounds.add_metric((outcome,), seen.rounds.get(outcome, 0))
        for (target, state), count in seen.checks.items():
            probes.add_metric((target, state.value), count)
        for certificate, end in seen.certificates.items():
            kept.add_metric((certificate,), end)
        yield from (rounds, probes, kept)
        yield from self._gateways(seen)

    def _look(self) -> _Seen:
        sources, controller = self._sources, self._sources.controller
        numbers: dict[Measure, float] = {
            measures.LEADER: sources.is_leader(),
            measures.WATCH_OWED: controller.repairer.owed_seconds(),
            measures.SOURCE_RESTARTS: sources.source_restarts(),
            measures.WAITING: controller.queue.waiting,
            measures.STATUS_WRITES: controller.statuses.written,
            measures.STATUSES_WAITING: controller.statuses.waiting,
            measures.PROBE_TARGETS: sources.prober.targets,
            measures.DOCUMENT_LIMIT: LIMIT_BYTES,
        }
        latencies: dict[tuple[str, ...], float] = {
            (*key, one.target.store): one.outcome.latency_seconds
            for one in sources.prober.observations()
            if isinstance(one.target, StoreTarget)
            for key in one.gateways
        }
        certificates = {name: sources.certificate(name) for name in _KEPT} if sources.certificate is not None else {}
        reports = tuple(controller.reports())
        return _Seen(numbers, dict(controller.rounds), dict(sources.prober.checks), certificates, reports, latencies)

    def _gateways(self, seen: _Seen) -> Iterator[Metric]:
        families = {measure: measure.gauge_family() for measure in (*measures.GATEWAYS, measures.MODEL_NOT_READY_OMITTED)}
        room = MAX_NOT_READY
        omitted = 0
        for one in seen.reports:
            models = _count(one)
            _add_models(families, one.key, models)
            for name, reason in models.not_ready[:room]:
                families[measures.MODEL_NOT_READY].add_metric((*one.key, name, reason), 1)
            omitted += max(0, len(models.not_ready) - room)
            room = max(0, room - len(models.not_ready))
            _add_gateway(families, one)
        for labels, seconds in seen.latencies.items():
            families[measures.PROBE_LATENCY].add_metric(labels, seconds)
        families[measures.MODEL_NOT_READY_OMITTED].add_metric((), omitted)
        yield from families.values()


def _count(one: GatewayReport) -> _Models:
    """Count the models of one gateway by what their conditions say."""
    states: Counter[tuple[str, str]] = Counter()
    backends: Counter[str] = Counter()
    for standing, count in [(READY, one.models - len(one.standings)), *Counter(one.standings.values()).items()]:
        states[_STATES[standing.status], standing.reason] += count
        if standing.reachable is not None:
            backends[standing.reachable] += count
    not_ready = sorted((name, standing.reason) for name, standing in one.standings.items() if standing.status != "True")
    return _Models(+states, backends, tuple(not_ready))


def _add_models(families: Mapping[Measure, GaugeMetricFamily], key: tuple[str, str], models: _Models) -> None:
    for (state, reason), count in models.states.items():
        families[measures.MODELS].add_metric((*key, state, reason), count)
    for status, count in models.backends.items():
        families[measures.BACKENDS].add_metric((*key, status), count)


def _add_gateway(families: Mapping[Measure, GaugeMetricFamily], one: GatewayReport) -> None:
    """Add what the status of the GatewayConfig says, where there is one."""
    key = one.key
    for file, size in one.document_bytes.items():
        families[measures.DOCUMENT_BYTES].add_metric((*key, file), size)
    if one.mirror_trouble is not None:
        families[measures.MIRROR_UP].add_metric(key, not one.mirror_trouble)
    status = one.status
    if status is None:
        return
    for verdict in status.verdicts:
        families[measures.CONDITION].add_metric((*key, *_told(verdict)), 1)
    fields = status.fields
    if (revision := fields.get("revision")) is not None:
        families[measures.REVISION].add_metric(key, revision)
    families[measures.MODELS_OFF].add_metric(key, fields["models"]["off"])
    if (rollout := fields.get("rollout")) and "desired" in rollout:
        updated, unknown = rollout.get("updated", 0), rollout.get("unknown", 0)
        counts = {"updated": updated, "behind": rollout["desired"] - updated - unknown, "unknown": unknown}
        for state, count in counts.items():
            families[measures.PODS].add_metric((*key, state), max(0, count))
    for store in fields.get("datastores") or ():
        families[measures.DATASTORE_STATE].add_metric((*key, store["name"], store["state"], store.get("reason") or ""), 1)
        if store["state"] != HealthState.UNKNOWN:
            families[measures.DATASTORE_UP].add_metric((*key, store["name"]), store["state"] == HealthState.UP)


def _told(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.type.value, verdict.status, verdict.reason.value
