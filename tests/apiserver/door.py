"""The webhook's server in a thread of the test, with a certificate of its own, and the configuration that leads to it.

Only the namespaces it is given are reviewed, so that tests beside it on the same control plane notice nothing. Not a test
module.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import threading
from dataclasses import dataclass, field

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

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def self_signed() -> tuple[bytes, bytes]:
    """Return a certificate for 127.0.0.1, which is its own CA, and its key; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


@dataclass
class Door:
    """A webhook that reviews one namespace. `install` puts it before the API server, `remove` takes it away."""

    plane: ControlPlane
    namespace: str
    port: int = 0
    _certificate: bytes = b""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _server: WebhookServer | None = None

    def start(self) -> Door:
        """Listen."""
        self._certificate, key = self_signed()
        serving = ServingCertificate()
        serving.use(self._certificate, key)
        self._server = WebhookServer("127.0.0.1", 0, serving, Policy(), CollectorRegistry())
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook", daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """Stop listening; from now on the API server finds nobody."""
        if self._thread is not None and self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(15)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
            self._thread = None

    @property
    def name(self) -> str:
        """Name of the configuration: one for each namespace."""
        return f"door-{self.namespace}"

    def install(self) -> None:
        """Send reviews here, failing closed."""
        endpoint = Endpoint(url=f"https://127.0.0.1:{self.port}")
        configuration = webhook_configuration(endpoint, name=self.name, namespaces=[self.namespace])
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(self._certificate).decode()
        answer = self.plane.request("POST", CONFIGURATIONS, configuration)
        assert answer.status == 201, answer.body

    def remove(self) -> None:
        """Take the configuration away."""
        assert self.plane.request("DELETE", f"{CONFIGURATIONS}/{self.name}").status in (200, 404)
