"""Where the webhook's certificates live: one Secret, and `caBundle` of one ValidatingWebhookConfiguration.

Both are watched by name. `CertificateObjects` is for the leader that keeps them, `SecretCertificateSource` for replicas that
serve; what should be in them is decided in `admission/`, whose Protocols both fulfil without knowing them (`main` joins
them). Contents of the Secret never appear in a log, an error or a repr.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from loguru import logger

from aigateway_operator.errors import AigatewayError, Conflict, NotFound, Rejected
from aigateway_operator.kube.client import JSON_PATCH, KubeClient
from aigateway_operator.kube.owner import Owner
from aigateway_operator.kube.resources import SECRETS, VALIDATING_WEBHOOKS, JsonObject, Resource
from aigateway_operator.kube.watching import Selection, Watcher

FIELD_MANAGER: Final = "aigateway-operator"
TLS_TYPE: Final = "kubernetes.io/tls"
CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"
LABELS: Final = {"app.kubernetes.io/name": "aigateway-operator", "app.kubernetes.io/component": "webhook"}
"""Not our managed-by label: that marks what gateways own, and what nobody owns any more is removed."""

_JSON_PATCH_FAILED: Final = 422


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """Which objects: the Secret, and the ValidatingWebhookConfiguration whose `caBundle` is filled in."""

    secret_namespace: str
    secret: str
    configuration: str


class CertificateObjects:
    """Fulfils the Protocol of `admission/certificate_keeper.py`. Writes go through the client's fence. `start` in a loop.

    on_change: an object is not as it was known, by whomever; our own writes are not told. owner: of a Secret that is made here.
    """

    def __init__(
        self, client: KubeClient, names: CertificateNames, *, on_change: Callable[[], None], owner: Owner | None = None
    ) -> None:
        self._client = client
        self._names = names
        self._owner = owner
        self._secret = _Known(client, SECRETS, names.secret_namespace, names.secret, on_change)
        self._configuration = _Known(client, VALIDATING_WEBHOOKS, None, names.configuration, on_change)

    def start(self) -> None:
        """Begin to follow both objects; idempotent."""
        self._secret.watcher.start()
        self._configuration.watcher.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._secret.watcher.stop()
        await self._configuration.watcher.stop()

    @property
    def listed(self) -> bool:
        """Whether both have been looked for successfully once."""
        return self._secret.watcher.listed and self._configuration.watcher.listed

    @property
    def secret(self) -> Mapping[str, bytes] | None:
        """Content of the Secret whatever its type, None if it is not there."""
        obj = self._secret.obj
        return None if obj is None else decode_data(obj)

    @property
    def bundles(self) -> Mapping[str, bytes] | None:
        """Webhook name → its `caBundle`, None if the configuration is not there."""
        obj = self._configuration.obj
        if obj is None:
            return None
        return {hook["name"]: _decode((hook.get("clientConfig") or {}).get("caBundle")) for hook in obj.get("webhooks") or ()}

    async def write_secret(self, content: Mapping[str, bytes]) -> None:
        """Make this the Secret's whole content; labels, annotations and owners of one that is there are kept.

        One of another type, or an immutable one, is deleted and made anew, since it cannot be changed.
        """
        known = self._secret.obj
        if known is not None and (known.get("type") != TLS_TYPE or known.get("immutable")):
            metadata = known["metadata"]
            with suppress(NotFound):
                await self._client.delete(
                    SECRETS,
                    self._names.secret_namespace,
                    self._names.secret,
                    uid=metadata["uid"],
                    resource_version=metadata["resourceVersion"],
                )
            known = None
        body: JsonObject = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": await self._new_metadata() if known is None else known["metadata"],
            "type": TLS_TYPE,
            "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
        }
        if known is None:
            written = await self._client.create(SECRETS, self._names.secret_namespace, body)
        else:
            written = await self._client.replace(SECRETS, self._names.secret_namespace, self._names.secret, body)
        self._secret.obj = written

    async def write_bundle(self, bundle: bytes) -> None:
        """Patch `caBundle` of every webhook where it differs; a test of its name guards against a list that was reordered."""
        encoded = base64.b64encode(bundle).decode()
        patch: list[JsonObject] = []
        for index, (name, present) in enumerate((self.bundles or {}).items()):
            if present != bundle:
                patch.append({"op": "test", "path": f"/webhooks/{index}/name", "value": name})
                patch.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": encoded})
        if not patch:
            return
        try:
            self._configuration.obj = await self._client.patch(
                VALIDATING_WEBHOOKS,
                "",
                self._names.configuration,
                patch,
                content_type=JSON_PATCH,
                field_manager=FIELD_MANAGER,
            )
        except Rejected as error:
            if error.status != _JSON_PATCH_FAILED:
                raise
            raise Conflict(f"{self._names.configuration} has other webhooks than was known", status=error.status) from error

    async def _new_metadata(self) -> JsonObject:
        metadata: JsonObject = {
            "name": self._names.secret,
            "namespace": self._names.secret_namespace,
            "labels": dict(LABELS),
        }
        if self._owner is not None:
            metadata["ownerReferences"] = await self._owner.references()
        return metadata


class SecretCertificateSource:
    """Serving certificate and key out of the Secret, as they change. Fulfils `CertificateSource` of `admission/ports.py`.

    A Secret that is deleted, empty or unfit changes nothing: the pair in use is still good.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name

    async def run(self, use: Callable[[bytes, bytes], None]) -> None:
        """Hand over the pair that is there and each later one, until cancelled."""
        offered: tuple[bytes, bytes] | None = None

        def changed() -> None:
            nonlocal offered
            data = {} if known.obj is None else decode_data(known.obj)
            pair = (data.get(CERTIFICATE_KEY, b""), data.get(PRIVATE_KEY, b""))
            if not all(pair) or pair == offered:
                return
            offered = pair
            try:
                use(*pair)
            except AigatewayError as error:
                logger.warning("Secret {}/{} cannot be served, what is in use stays: {}", self._namespace, self._name, error)

        known = _Known(self._client, SECRETS, self._namespace, self._name, changed)
        known.watcher.start()
        try:
            await asyncio.Event().wait()
        finally:
            await known.watcher.stop()


@dataclass(slots=True)
class _Known:
    """One object as it was last seen, by its watch or as the answer of a write."""

    client: KubeClient = field(repr=False)
    resource: Resource
    namespace: str | None
    name: str
    on_change: Callable[[], None]
    obj: JsonObject | None = field(default=None, repr=False)
    watcher: Watcher[JsonObject] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.watcher = Watcher(
            self.client,
            Selection(self.resource, self.namespace, field_selector=f"metadata.name={self.name}"),
            reduce=lambda obj: obj,
            on_listed=self._listed,
            on_event=self._event,
        )

    def _listed(self, items: list[JsonObject], _version: str) -> None:
        self.obj = items[0] if items else None
        self.on_change()

    def _event(self, kind: str, obj: JsonObject) -> None:
        if self.obj is not None and _is_as_old(obj, self.obj):
            return  # our own write, or of before it
        self.obj = None if kind == "DELETED" else obj
        self.on_change()


def decode_data(obj: JsonObject) -> dict[str, bytes]:
    """Return the content of a Secret."""
    return {key: _decode(value) for key, value in (obj.get("data") or {}).items()}


def _decode(value: str | None) -> bytes:
    return base64.b64decode(value or "")


def _is_as_old(seen: JsonObject, known: JsonObject) -> bool:
    """Compare resourceVersions, which are numbers in every API server with etcd behind it; what is none is taken as newer."""
    versions = [obj["metadata"]["resourceVersion"] for obj in (seen, known)]
    return all(version.isdecimal() for version in versions) and int(versions[0]) <= int(versions[1])
