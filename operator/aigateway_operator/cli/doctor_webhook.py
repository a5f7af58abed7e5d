"""`doctor` on admission: the configuration, the certificates, and whether the API server reaches a webhook that refuses.

Asks by a dry run of an object that only the webhook refuses: nothing is written, and it is the API server that has to reach
it, not we.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from aigateway_operator.admission.webhook_configuration import WEBHOOK_NAME
from aigateway_operator.api import meta
from aigateway_operator.cli.checkup import Check, doubt, fine, wrong
from aigateway_operator.cli.doctor_cluster import ASK, Patient
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import ClusterError, Forbidden, NotFound
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, SECRETS, VALIDATING_WEBHOOKS, JsonObject

SOON: Final = timedelta(days=1)
_AREA: Final = "webhook"
_INSTALL: Final = (
    "Where replicas of the webhook run, install it: aigateway webhook --print-configuration | kubectl apply --server-side -f -"
)
_ELSEWHERE: Final = "Name a namespace that exists with -n NAMESPACE."
_CANARY: Final = "http://169.254.169.254/"
"""Cloud metadata: refused by the webhook's address rules, and by nothing that answers before it."""


async def check_webhook(
    cluster: Patient, configuration: str, secret: tuple[str, str] | None, namespace: str
) -> AsyncIterator[Check]:
    """Yield rows. secret: where the leader keeps the certificate, None: somebody else does. namespace: for the dry run."""
    try:
        found = await cluster.get(VALIDATING_WEBHOOKS, "", configuration)
    except NotFound:
        text = "is not installed: bad edits are refused by the schema alone, and else show in status only"
        yield doubt(_AREA, configuration, text, _INSTALL)
        return
    except Forbidden:
        yield doubt(_AREA, configuration, "cannot be looked at: no right to get ValidatingWebhookConfigurations", ASK)
        found = {}
    bundle = b"".join(_bundle(one) for one in found.get("webhooks") or [])
    if found:
        yield _authority(configuration, bundle)
    if secret is not None:
        yield await _leaf(cluster, secret, bundle)
    yield await _reach(cluster, namespace)


def _bundle(webhook: JsonObject) -> bytes:
    return base64.b64decode((webhook.get("clientConfig") or {}).get("caBundle") or "")


def _authority(configuration: str, bundle: bytes) -> Check:
    subject = f"caBundle of {configuration}"
    if not bundle.strip():
        return wrong(
            _AREA,
            subject,
            "is empty: the API server trusts no webhook",
            "The leader, or cert-manager, fills it in: see that it runs.",
        )
    try:
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return wrong(
            _AREA, subject, "holds no certificate", "Apply the configuration without caBundle; the leader fills it in."
        )
    return _lasts(subject, max(one.not_valid_after_utc for one in authorities))


def _lasts(subject: str, end: datetime) -> Check:
    left = end - datetime.now(UTC)
    when = f"{end:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta(0):
        return wrong(
            _AREA, subject, f"expired at {when}", "See why the leader does not renew it: its log, its rights on Secrets."
        )
    if left < SOON:
        return doubt(_AREA, subject, f"expires at {when}, in less than a day", "See whether the leader renews it.")
    return fine(_AREA, subject, f"valid until {when}")


async def _leaf(cluster: Patient, secret: tuple[str, str], bundle: bytes) -> Check:
    subject = f"Secret {'/'.join(secret)}"
    try:
        data = (await cluster.get(SECRETS, *secret)).get("data") or {}
    except NotFound:
        return wrong(
            _AREA, subject, "does not exist: the webhook has nothing to serve", "The leader makes it: see that it runs."
        )
    except ClusterError as error:
        return doubt(_AREA, subject, f"cannot be looked at: {type(error).__name__}", remedy_of(error))
    try:
        leaf = x509.load_pem_x509_certificate(base64.b64decode(data.get("tls.crt") or ""))
    except ValueError:
        return wrong(_AREA, subject, "holds no certificate in tls.crt", "Delete it; the leader makes a new one.")
    if bundle and not _signed_by(leaf, bundle):
        text = "holds a certificate that no authority in caBundle signed"
        return wrong(_AREA, subject, text, "See that one leader alone keeps both: AIGATEWAY_WEBHOOK_CONFIGURATION, its log.")
    return _lasts(subject, leaf.not_valid_after_utc)


def _signed_by(leaf: x509.Certificate, bundle: bytes) -> bool:
    authorities: Sequence[x509.Certificate] = []
    try:
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return False
    for authority in authorities:
        try:
            leaf.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


async def _reach(cluster: Patient, namespace: str) -> Check:
    subject = f"dry run in namespace {namespace}"
    try:
        await cluster.try_create(GATEWAY_CONFIGS, namespace, _canary())
    except Forbidden as error:
        if WEBHOOK_NAME not in str(error):
            return doubt(_AREA, subject, "cannot be made", "Ask as somebody who may create GatewayConfigs; nothing is written.")
        return fine(_AREA, subject, "the API server asks the webhook, which refuses what it should")
    except NotFound:
        return doubt(_AREA, subject, "cannot be made: there is no such namespace, or the kind is not installed", _ELSEWHERE)
    except ClusterError as error:
        text = str(error)
        if "failed calling webhook" in text or "failed to call webhook" in text:
            said = text.partition("webhook")[2][:300].strip()
            remedy = (
                "See that its pods are ready, its Service selects them, and API servers may reach the port (NetworkPolicy)."
            )
            return wrong(_AREA, subject, f"the API server cannot ask the webhook: {said}", remedy)
        if WEBHOOK_NAME in text:
            return fine(_AREA, subject, "the API server asks the webhook, which refuses what it should")
        return doubt(_AREA, subject, f"was answered by somebody else: {text[:200]}")
    remedy = "See its namespaceSelector, rules and failurePolicy, and whether AIGATEWAY_ALLOW_ADDRESSES allows 169.254.0.0/16."
    return wrong(_AREA, subject, "what the webhook should refuse is accepted: it is not asked", remedy)


def _canary() -> dict[str, Any]:
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.GATEWAY_CONFIG,
        "metadata": {"name": "aigateway-doctor"},
        "spec": {"webSearch": {"provider": "searxng", "baseUrl": _CANARY}},
    }
