"""Composition root of the controller: reads settings, joins adapters to ports, starts and stops everything in order.

Nothing here decides anything about resources, nor how long the process lives. Called by `serving`, and by tests that run an
operator in their own loop.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final

from loguru import logger
from prometheus_client import CollectorRegistry

from aigateway_logs import DualLog
from aigateway_operator import __version__, measures
from aigateway_operator.admission.certificate_keeper import CertificateKeeper
from aigateway_operator.admission.certificate_plan import CertificateSettings
from aigateway_operator.datastores.checking import make_checker
from aigateway_operator.datastores.connecting import Connector
from aigateway_operator.datastores.prober import HealthProber
from aigateway_operator.footprint import give_back
from aigateway_operator.handlers import KopfSource
from aigateway_operator.health import HealthServer
from aigateway_operator.kube.certificates import CertificateNames, CertificateObjects
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.events import EventPoster
from aigateway_operator.kube.lease import LeaderElection
from aigateway_operator.kube.lease_thread import LeaderThread
from aigateway_operator.kube.owned import OwnedWatch
from aigateway_operator.kube.owner import Owner
from aigateway_operator.kube.pods import PodWatch
from aigateway_operator.kube.resources import PODS
from aigateway_operator.kube.secrets import SecretWatch
from aigateway_operator.logs import follow_uri
from aigateway_operator.metrics.controller import ControllerMetrics, Sources
from aigateway_operator.metrics.process import process_metrics
from aigateway_operator.reconcile.controller import Controller, Ports
from aigateway_operator.rollout.asker import HttpAsker
from aigateway_operator.rollout.mirror import RedisMirrors
from aigateway_operator.rollout.resolve import Resolver
from aigateway_operator.rollout.rollouts import Rollouts
from aigateway_operator.rules import RuleContext
from aigateway_operator.settings import Settings
from aigateway_operator.webhook import WebhookThread

RESTART_SOURCE_SECONDS: Final = 30.0
"""How long the watch may owe changes before kopf's thread is restarted; liveness gives up only at twice that."""
SUPERVISE_SECONDS: Final = 1.0
MANY_CHANGES: Final = 200
"""After so many changes of objects memory is given back, once there is nothing left to do about them."""
PART_SECONDS: Final = 5.0
"""How long one part may take to stop; five of them come one after the other, within the 30 s that a pod has."""
ELECTION: Final = "election"


class _AlwaysLeader:
    """Leadership without a Lease, for one process that is certainly alone."""

    is_leader = True


@dataclass(slots=True)
class Operator:
    """A running controller."""

    settings: Settings
    controller: Controller
    source: KopfSource
    ports: Ports
    registry: CollectorRegistry
    election: LeaderThread | None
    prober: HealthProber
    closing: tuple[Callable[[], Awaitable[None]], ...] = ()
    certificates: CertificateKeeper | None = None
    health_port: int = 0
    webhook: WebhookThread | None = None
    identity: str = ""
    logs: DualLog | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def is_leader(self) -> bool:
        """Whether this process may write now."""
        return self.election is None or self.election.is_leader

    def why_not_ready(self) -> str | None:
        """Return why the process is not ready for its role, None if it is."""
        if not self.controller.store.listed:
            return "resources have not been listed completely yet"
        return None if self.webhook is None else self.webhook.why_not_ready()


@asynccontextmanager
async def running(settings: Settings, logs: DualLog | None = None) -> AsyncIterator[Operator]:
    """Run a controller for as long as the context lasts; a clean end gives the Lease back and leaves no thread behind.

    `logs` keep the audit trail; None: nobody does.
    """
    async with KubeClient.connect(
        settings.kubeconfig, settings.context, user_agent=f"aigateway-operator/{__version__} (controller)"
    ) as client:
        operator = _compose(settings, client, logs)
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            operator.controller.repairer.owed_seconds,
            operator.why_not_ready,
            operator.registry,
            _metrics(operator).take,
        )
        operator.health_port = await health.start()
        try:
            operator.webhook = await _start_webhook(operator)
            election, keeper = operator.election, operator.certificates
            if election is not None:
                election.start()
            operator.tasks = [
                asyncio.create_task(operator.controller.run(), name="controller"),
                asyncio.create_task(_supervise(operator), name="supervisor"),
                *([asyncio.create_task(election.watch(), name=ELECTION)] if election is not None else []),
                *([asyncio.create_task(keeper.run(), name="certificates")] if keeper is not None else []),
                *([asyncio.create_task(operator.webhook.watch(), name="webhook")] if operator.webhook is not None else []),
                *(
                    [asyncio.create_task(follow_uri(settings, logs), name="log settings")]
                    if logs is not None and settings.log_mongodb_uri_file
                    else []
                ),
            ]
            yield operator
        finally:
            await asyncio.gather(_stop(operator), *([operator.webhook.stop()] if operator.webhook is not None else []))
            await health.stop()


async def _start_webhook(operator: Operator) -> WebhookThread | None:
    """Start the webhook beside the controller if settings ask for it."""
    if not operator.settings.with_webhook:
        return None
    webhook = WebhookThread(operator.settings, operator.registry, operator.logs)
    await webhook.start()
    return webhook


def _compose(settings: Settings, client: KubeClient, logs: DualLog | None) -> Operator:
    """Join adapters to the controller's ports. The callbacks name `controller`, which is made last."""
    clock = time.monotonic
    registry = CollectorRegistry()
    identity = settings.identity or f"{socket.gethostname()}-{secrets.token_hex(4)}"
    election = None
    if settings.leader_election:
        election = LeaderThread(
            lambda: KubeClient.connect(
                settings.kubeconfig, settings.context, user_agent=f"aigateway-operator/{__version__} (lease)"
            ),
            lambda own, on_started, on_stopped: LeaderElection(
                own,
                settings.lease_namespace,
                settings.lease_name,
                identity,
                on_started=on_started,
                on_stopped=on_stopped,
                owner=_owner(settings, own),
            ),
            on_started=lambda: _lead(operator),
            on_stopped=lambda: _stand_by(operator),
        )
        client.fence = election.remaining_seconds
    secret_watch = SecretWatch(
        client,
        on_change=lambda namespace, name: controller.on_secret(namespace, name),
        on_listed=lambda namespace: controller.on_namespace_listed(namespace),
        label_selector=settings.secret_selector or None,
        clock=clock,
    )
    owned_watch = OwnedWatch(
        client,
        on_change=lambda resource, namespace, name, version: controller.on_owned(resource, namespace, name, version),
        on_listed=lambda namespace: controller.on_namespace_listed(namespace),
    )
    context = RuleContext(name="", allow_addresses=settings.allow_addresses, cluster_domain=settings.cluster_domain)
    pods, asker = PodWatch(client), HttpAsker(context)
    rollouts = Rollouts(
        pods,
        partial(client.patch_status, PODS),
        asker,
        on_change=lambda key: controller.on_rollout(key),
        clock=clock,
        on_proven=measures.PROPAGATION_SECONDS.histogram(registry).observe,
    )
    connector = Connector(context)
    mirrors = RedisMirrors(
        Resolver(context, Random(), connector.resolver.addresses),  # noqa: S311 - any of the addresses, not a secret
        on_change=lambda key: controller.on_mirror(key),
        may_write=lambda: leadership.is_leader,
        clock=clock,
        channel=settings.redis_channel,
    )
    prober = HealthProber(
        lambda target: make_checker(target, connector), on_change=lambda key: controller.on_health(key), clock=clock
    )
    leadership, poster = election or _AlwaysLeader(), EventPoster(client, identity)
    ports = Ports(client, secret_watch, owned_watch, leadership, poster, rollouts, mirrors, prober)
    rounds = measures.ROUND_SECONDS.histogram(registry)
    controller = Controller(
        ports,
        context,
        settings.namespaces,
        clock,
        on_round=rounds.observe,
        recorder=logs,
        on_listed=lambda: source.start(),
    )
    source = KopfSource(
        controller.on_object,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        namespaces=settings.namespaces,
        busy=lambda: controller.queue.at_work,
    )
    operator = Operator(
        settings,
        controller,
        source,
        ports,
        registry,
        election,
        prober,
        closing=(rollouts.stop, mirrors.stop, prober.stop, pods.stop, asker.close),
        identity=identity,
        logs=logs,
    )
    operator.certificates = _keeper(settings, client, operator)
    return operator


def _lead(operator: Operator) -> None:
    """Begin to write: this process leads from now on."""
    operator.controller.journal.leadership(operator.identity, leads=True)
    operator.controller.on_leading()
    if operator.logs is not None:
        operator.logs.lead(True)
    if operator.certificates is not None:
        operator.certificates.wake()


def _stand_by(operator: Operator) -> None:
    """Write no more: another process leads, or may."""
    operator.controller.on_standby()
    operator.controller.journal.leadership(operator.identity, leads=False)
    if operator.logs is not None:
        operator.logs.lead(False)


def _owner(settings: Settings, client: KubeClient) -> Owner | None:
    """Return what the Lease and the webhook's Secret go with; None: they stay."""
    return Owner(client, settings.lease_namespace, settings.owner) if settings.owner else None


def _keeper(settings: Settings, client: KubeClient, operator: Operator) -> CertificateKeeper | None:
    """Return what keeps the webhook's certificates; None where they come from elsewhere."""
    if settings.webhook_certificates != "self":
        return None
    namespace = settings.webhook_secret_namespace or settings.lease_namespace
    service = f"{settings.webhook_service}.{namespace}.svc"
    names = (service, f"{service}.{settings.cluster_domain}", *settings.webhook_names)
    objects = CertificateObjects(
        client,
        CertificateNames(namespace, settings.webhook_secret_name, settings.webhook_configuration),
        on_change=lambda: keeper.wake(),
        owner=_owner(settings, client) if namespace == settings.lease_namespace else None,
    )
    lives = CertificateSettings(
        names,
        leaf_life=timedelta(seconds=settings.webhook_leaf_seconds),
        authority_life=timedelta(seconds=settings.webhook_authority_seconds),
        settle=timedelta(seconds=settings.webhook_settle_seconds),
    )
    keeper = CertificateKeeper(objects, lambda: operator.is_leader, lives)
    return keeper


def _metrics(operator: Operator) -> ControllerMetrics:
    """Register everything that is read at a scrape."""
    keeper = operator.certificates
    sources = Sources(
        operator.controller,
        operator.prober,
        lambda: operator.is_leader,
        lambda: operator.source.restarts,
        None if keeper is None else keeper.expiry,
    )
    metrics = ControllerMetrics(sources)
    process_metrics(operator.registry, operator.logs)
    operator.registry.register(metrics)
    return metrics


async def _supervise(operator: Operator) -> None:
    """Restart the event source when it owes changes for long, and then give it as long again before the next restart.

    Also when kinds are known that were not: kopf looks for them when it starts, and never again. Each restart asks for a
    LIST, which tells whether they are known. And give back the memory that a burst, or a start, has left behind.
    """
    starts = changes = 0
    while True:
        await asyncio.sleep(SUPERVISE_SECONDS)
        if operator.controller.idle and operator.controller.store.changes - changes >= MANY_CHANGES:
            changes = operator.controller.store.changes
            give_back()
        if starts != operator.source.starts:
            # The first too: kopf may begin seconds after our LIST, and of what was deleted in between, were it all there
            # was, nobody tells.
            starts = operator.source.starts
            operator.controller.repairer.sign_of_relist()
        if operator.controller.repairer.take_kinds_came_back():
            logger.warning("The API server knows our kinds again: restarting the watch")
            operator.source.restart()
        if operator.controller.repairer.owed_seconds() > RESTART_SOURCE_SECONDS:
            logger.warning("The watch owes changes for more than {:.0f} s: restarting it", RESTART_SOURCE_SECONDS)
            operator.source.restart()
            await asyncio.sleep(RESTART_SOURCE_SECONDS)


async def _stop(operator: Operator) -> None:
    """Stop in order: no new events, no new writes, then the Lease given back.

    Each part is bounded in time, and one that fails keeps none of the others from ending: a Lease that is not given back is a
    fail-over that takes seconds.
    """
    writing = [task for task in operator.tasks if task.get_name() != ELECTION]

    async def end_writing() -> None:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)

    await _end("the watch", operator.source.stop())
    await _end("rounds", end_writing())
    await asyncio.gather(*(_end(getattr(close, "__qualname__", "a part"), close()) for close in operator.closing))
    if operator.election is not None:
        await _end("the election", operator.election.stop())
    adapters = (operator.ports.secrets, operator.ports.owned, operator.ports.announcer)
    await asyncio.gather(*(_end(type(adapter).__name__, adapter.stop()) for adapter in adapters))


async def _end(what: str, ending: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(PART_SECONDS):
            await ending
    except TimeoutError:
        logger.warning("Stopping {} took longer than {:.0f} s", what, PART_SECONDS)
    except Exception:  # noqa: BLE001 - at the end of the process: what is left has to end too
        logger.exception("Stopping {} failed", what)
