"""Webhook servers for tests: a certificate authority of their own, a server in a thread, its configuration on the API server.

Configurations are for one namespace each, so that tests beside each other on one control plane do not meet.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from aigateway_operator.admission.review import Policy
from aigateway_operator.admission.server import WebhookServer
from aigateway_operator.admission.serving_certificate import ServingCertificate
from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration
from hack.controlplane import ControlPlane
from tests.eventually import eventually

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
HOUR = timedelta(hours=1)


@dataclass
class Authority:
    """A certificate authority; leaves are for 127.0.0.1 and localhost."""

    name: str = "test authority"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        builder = _builder(self.name, self.name, self.key.public_key(), datetime.now(UTC) - HOUR, datetime.now(UTC) + 24 * HOUR)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.certificate = builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The certificate that clients trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(self, *, begins: timedelta = -HOUR, ends: timedelta = HOUR, name: str = "localhost") -> tuple[bytes, bytes]:
        """Return a new (certificate, key) as PEM, valid between two points relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = _builder(name, self.name, key.public_key(), now + begins, now + ends)
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority alone."""
        return ssl.create_default_context(cadata=self.pem.decode())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class WebhookInThread:
    """A webhook server in a thread with its own loop; `start` and `stop` may be repeated, the port stays."""

    authority: Authority = field(default_factory=Authority)
    policy: Policy = field(default_factory=Policy)
    port: int = 0
    certificate: ServingCertificate = field(default_factory=ServingCertificate)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    server: WebhookServer | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stop: asyncio.Event | None = None
    _failure: BaseException | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens, without the path."""
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> WebhookInThread:
        """Start, and return once it listens."""
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the webhook did not start within 10 s"
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop; asserts that it takes no longer than 10 s. Does nothing if it does not run."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the webhook did not stop within 10 s"
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` in the server's loop and return its result."""
        assert self._loop is not None

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def reviews(self) -> float:
        """Return how many reviews were decided since it was made, over starts and stops."""
        return reviews_in(self.registry)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.certificate.use(*self.authority.leaf())
        if self.server is None:
            self.server = WebhookServer("127.0.0.1", self.port, self.certificate, self.policy, self.registry)
        self.server.draining = False
        self.port = await self.server.start()
        self._ready.set()
        await self._stop.wait()
        await self.server.stop()


def reviews_in(registry: CollectorRegistry) -> float:
    """Return how many reviews were decided, by the metrics."""
    metrics = [metric for metric in registry.collect() if metric.name == "aigateway_admission_reviews"]
    return sum(sample.value for metric in metrics for sample in metric.samples if sample.name.endswith("_total"))


class Reviewing(Protocol):
    """A webhook that runs somewhere."""

    @property
    def authority(self) -> Authority:
        """Who signs its certificate."""
        ...

    @property
    def url(self) -> str:
        """Where it listens, without the path."""
        ...

    def reviews(self) -> float:
        """How many reviews it has decided."""
        ...


@contextmanager
def configured(
    plane: ControlPlane,
    webhook: Reviewing,
    namespace: str,
    *,
    failure_policy: Literal["Fail", "Ignore"] = "Fail",
) -> Iterator[str]:
    """Install the configuration for `namespace` and yield its name once the API server heeds it; removed at the end."""
    name = f"aigateway-{namespace}"
    body = webhook_configuration(Endpoint(url=webhook.url), name=name, failure_policy=failure_policy, namespaces=[namespace])
    body["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(webhook.authority.pem).decode()
    answer = plane.request("POST", CONFIGURATIONS, body)
    assert answer.status == 201, answer.body
    try:
        eventually(lambda: _assert_asked(plane, webhook, namespace), within_seconds=15)
        yield name
    finally:
        removed = plane.request("DELETE", f"{CONFIGURATIONS}/{name}")
        assert removed.status == 200, removed.body


def _assert_asked(plane: ControlPlane, webhook: Reviewing, namespace: str) -> None:
    """Ask by a dry run whether reviews arrive: the API server learns of a configuration a moment after it is stored."""
    before = webhook.reviews()
    body = {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": "probe"}, "spec": {}}
    path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{namespace}/gatewayconfigs?dryRun=All"
    answer = plane.request("POST", path, body)
    assert answer.status == 201, answer.body
    assert webhook.reviews() > before, "the API server does not ask the webhook yet"
