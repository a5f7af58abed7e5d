"""Composition root of the webhook role: settings in, a server that answers reviews, joined to where its certificate comes from.

A process of its own (`aigateway webhook`) or a thread with a loop of its own beside the controller (`aigateway run
--with-webhook`): a burst of events must not delay a review. Knows neither kopf nor, with certificates from files, the
Kubernetes client. Called by `cli.webhook` and `main`; nothing here decides anything about resources.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from loguru import logger
from prometheus_client import CollectorRegistry, Gauge

from aigateway_logs import DualLog
from aigateway_operator import __version__
from aigateway_operator.admission.certificate_files import CertificateFiles
from aigateway_operator.admission.ports import CertificateSource
from aigateway_operator.admission.review import Policy
from aigateway_operator.admission.server import WebhookServer
from aigateway_operator.admission.serving_certificate import ServingCertificate
from aigateway_operator.collecting import freeze_what_is_there
from aigateway_operator.errors import SettingsError
from aigateway_operator.footprint import stay_small
from aigateway_operator.health import HealthServer
from aigateway_operator.logs import follow_uri, logging_to
from aigateway_operator.measures import SERVED_CERTIFICATE
from aigateway_operator.metrics.process import process_metrics
from aigateway_operator.settings import Settings

_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """A running webhook: its server, and the task that follows the certificate and never ends by itself."""

    server: WebhookServer
    following: asyncio.Task[None]


@asynccontextmanager
async def serving(settings: Settings, registry: CollectorRegistry, logs: DualLog | None = None) -> AsyncIterator[Webhook]:
    """Answer reviews for as long as the context lasts; the end waits for what is under way, see `webhook_drain_seconds`.

    `logs` keep a record of every decision; None: nobody does.
    """
    certificate = ServingCertificate(settings.webhook_client_ca)
    policy = Policy(settings.allow_addresses, settings.cluster_domain)
    server = WebhookServer(settings.webhook_host, settings.webhook_port, certificate, policy, registry, journal=logs)
    Gauge(SERVED_CERTIFICATE.name, SERVED_CERTIFICATE.text, registry=registry).set_function(
        lambda: certificate.not_after.timestamp() if certificate.not_after else 0.0
    )
    async with _certificate_source(settings) as source:
        await server.start()
        logger.bind(port=server.port).info("Webhook listening")
        following = asyncio.create_task(source.run(certificate.use), name="certificate source")
        try:
            yield Webhook(server, following)
        finally:
            await server.stop(settings.webhook_drain_seconds)
            following.cancel()
            await asyncio.wait([following], timeout=_STOP_SECONDS)


@asynccontextmanager
async def _certificate_source(settings: Settings) -> AsyncIterator[CertificateSource]:
    if settings.webhook_certificates == "files":
        yield CertificateFiles(settings.webhook_cert_dir)
        return
    if settings.webhook_certificates == "off":
        raise SettingsError(
            "The webhook has no certificate to serve: AIGATEWAY_WEBHOOK_CERTIFICATES is off. "
            "Set it to files and mount one at AIGATEWAY_WEBHOOK_CERT_DIR, or to self."
        )
    # Brings the Kubernetes client, which a replica with certificates from files does without.
    from aigateway_operator.kube.certificates import SecretCertificateSource
    from aigateway_operator.kube.client import KubeClient

    agent = f"aigateway-operator/{__version__} (webhook)"
    async with KubeClient.connect(settings.kubeconfig, settings.context, user_agent=agent) as client:
        namespace = settings.webhook_secret_namespace or settings.lease_namespace
        yield SecretCertificateSource(client, namespace, settings.webhook_secret_name)


@dataclass(slots=True)
class WebhookThread:
    """The webhook beside the controller. Made and stopped in the controller's loop; reviews run in the thread's own."""

    settings: Settings
    registry: CollectorRegistry
    logs: DualLog | None = None
    port: int = field(default=0, init=False)
    _server: WebhookServer | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _stop: asyncio.Event | None = field(default=None, init=False)
    _ended: asyncio.Future[None] | None = field(default=None, init=False)

    async def start(self) -> None:
        """Return once it listens. Raises what `serving` raises."""
        home = asyncio.get_running_loop()
        started, ended = home.create_future(), home.create_future()
        self._ended = ended
        threading.Thread(target=self._run, args=(home, started, ended), name="webhook", daemon=True).start()
        await asyncio.wait([started, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()

    async def watch(self) -> None:
        """Return when the thread has ended; raises what ended it."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Drain and end; bounded in time by the settings."""
        if self._loop is None or self._stop is None or self._ended is None or self._ended.done():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.wait([self._ended], timeout=self.settings.webhook_drain_seconds + _STOP_SECONDS)

    def why_not_ready(self) -> str | None:
        """Return why no review should come here, None if they may."""
        return "the webhook is not running" if self._server is None else self._server.why_not_ready()

    def _run(self, home: asyncio.AbstractEventLoop, started: asyncio.Future[None], ended: asyncio.Future[None]) -> None:
        failure: Exception | None = None
        try:
            asyncio.run(self._main(home, started))
        except Exception as error:  # noqa: BLE001 - handed to whoever watches
            failure = error
        self._server = None
        try:
            home.call_soon_threadsafe(_settle, ended, failure)
        except RuntimeError:
            logger.debug("The controller's loop ended before the webhook's")

    async def _main(self, home: asyncio.AbstractEventLoop, started: asyncio.Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self.settings, self.registry, self.logs) as webhook:
            self._server, self.port = webhook.server, webhook.server.port
            home.call_soon_threadsafe(_settle, started, None)
            await _until_over(self._stop, webhook.following)


def _settle(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)


async def _until_over(stop: asyncio.Event, *parts: asyncio.Task[None]) -> bool:
    """Wait for the end; returns whether it was asked for, and not a breakdown of a part, which is logged."""
    waiter = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiter, *parts], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    for part in done & set(parts):
        logger.opt(exception=part.exception()).error("{} ended although it never should", part.get_name())
    return waiter in done


async def serve(settings: Settings, logs: DualLog | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code. A part that breaks down ends the process with 1."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    process_metrics(registry, logs)
    async with serving(settings, registry, logs) as webhook:
        server = webhook.server
        health = HealthServer(settings.health_host, settings.health_port, lambda: 0.0, server.why_not_ready, registry)
        await health.start()
        uri = []
        if logs is not None and settings.log_mongodb_uri_file:
            uri.append(asyncio.create_task(follow_uri(settings, logs), name="log settings"))
        try:
            freeze_what_is_there()
            logger.bind(pid=os.getpid(), port=server.port, health_port=health.port).info("Webhook {} started", __version__)
            asked = await _until_over(stop, webhook.following, *uri)
            logger.info("Webhook stopping")
            server.draining = True  # readiness is red, and seen to be, while the rest is answered
            await asyncio.sleep(settings.webhook_drain_seconds)
        finally:
            for task in uri:
                task.cancel()
            await health.stop()
    return 0 if asked else 1


def run_webhook(settings: Settings) -> int:
    """Configure logging, print the settings and run. The body of `aigateway webhook`."""
    with logging_to(settings) as logs:
        logger.bind(**settings.model_dump(mode="json")).info("Settings")
        if settings.allow_addresses:
            logger.warning("Addresses that rules refuse are allowed: {}", ", ".join(map(str, settings.allow_addresses)))
        stay_small()
        return asyncio.run(serve(settings, logs))
