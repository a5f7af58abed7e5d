"""The Redis mirror in words: where it is, which keys it has, how a document is signed, how a change is told.

Defined once, for the operator that writes the mirror and the source that reads it (or a program in another language). Pure:
no Redis, no files. One hash per document, so that document, manifest and signature can only be read, replaced, evicted or lost
together:

    <prefix><file>     document   bytes of the document
                       manifest   bytes of its manifest
                       signature  HMAC-SHA256 of the manifest, lower-case hex; key: the bytes of credentials file `_mirror.key`

A change is told on the channel that all gateways share (`Invalidation`); before that the document itself may be published on
a channel of its gateway alone (`Body`), so that a pod need not fetch it. A body is a courtesy: what it is lost for, the
invalidation brings.

The manifest holds gateway, lineage, shard, revision and the document's SHA-256, so that a signature cannot be moved to another
document, gateway or life of a gateway. The mirror never holds a secret, nor a digest of one.
Source: docs/redis-mirror.md#what-is-in-redis.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from aigateway_config import documents

CHANNEL: Final = "config:invalidate"
"""Channel on which changes are told, unless settings name another."""
DOCUMENT: Final = "document"
MANIFEST: Final = "manifest"
SIGNATURE: Final = "signature"
FIELDS: Final = (DOCUMENT, MANIFEST, SIGNATURE)

MAX_BODY_BYTES: Final = 256 * 1024
"""A message with a document is no larger; larger documents are fetched. Redis holds messages in memory for each subscriber that
is slow, and drops one for which it holds 8 MiB for a minute or 32 MiB at all (`client-output-buffer-limit pubsub`)."""
_SIGNATURE_BYTES: Final = 64
_LINE_FEED: Final = b"\n"

_KEY: Final = re.compile(rb"[0-9a-f]{64}")


class Invalidation(documents.Document):
    """Message on the channel: a document of the mirror is another than before. It is a hint, signed by nobody."""

    type: Literal["config"] = "config"
    """Other types may share the channel."""
    key: str
    """Redis key of the document."""
    gateway: str
    """`namespace/name` of the GatewayConfig."""
    document: str
    """File name of the document."""
    revision: int
    """Revision of the document."""


@dataclass(frozen=True, slots=True)
class Body:
    """A message that brings a document, cut into its parts; nothing of it is verified yet.

    `message` is kept whole: the document in it is copied only for whoever asks.
    """

    signature: bytes
    manifest: bytes = field(repr=False)
    message: bytes = field(repr=False)

    @property
    def document(self) -> bytes:
        """The document, a copy."""
        return self.message[len(self.signature) + 1 + len(self.manifest) :]


@dataclass(frozen=True, slots=True)
class RedisEndpoint:
    """How to reach a Redis. `password`, `ca` (PEM): None for none. `tls`: speak TLS; without `ca` the system's CAs decide."""

    host: str
    port: int
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """`host:port`, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint_of(store: documents.Redis, credential: Callable[[str], str | None]) -> tuple[RedisEndpoint, str | None]:
    """Return how to reach `store`, and the credentials file that it names but that is not there, None if all are.

    credential: name of a credentials file → its text, None if there is none.
    """
    refs = {"password": store.password_ref, "ca": store.tls.ca_ref if store.tls and store.tls.enabled else None}
    values = {name: None if ref is None else credential(ref) for name, ref in refs.items()}
    missing = next((ref for name, ref in refs.items() if ref is not None and values[name] is None), None)
    tls = store.tls is not None and store.tls.enabled
    return RedisEndpoint(store.host, store.port, values["password"], tls, values["ca"]), missing


def document_key(gateway: str, file: str) -> str:
    """Return the Redis key of a document. `gateway`: `namespace/name`; neither half can hold a colon."""
    namespace, _, name = gateway.partition("/")
    return f"aigateway:{namespace}:{name}:{file}"


def body_channel(channel: str, gateway: str) -> str:
    """Return the channel on which documents of a gateway are published; `channel`: where changes are told."""
    namespace, _, name = gateway.partition("/")
    return f"{channel}:{namespace}:{name}"


def join_body(document: bytes, manifest: bytes, signature: str) -> bytes | None:
    """Return the message that brings a document: a line with the signature, the line of the manifest, the document.

    None if it would be larger than `MAX_BODY_BYTES`, or the manifest is not a line of text as manifests are.
    """
    if not manifest.endswith(_LINE_FEED) or manifest.count(_LINE_FEED) > 1:
        return None
    size = len(signature) + 1 + len(manifest) + len(document)
    return b"".join((signature.encode(), _LINE_FEED, manifest, document)) if size <= MAX_BODY_BYTES else None


def cut_body(message: bytes) -> Body | None:
    """Return the parts of a message that brings a document, None if it has not the shape of one. Verifies nothing."""
    if message[_SIGNATURE_BYTES : _SIGNATURE_BYTES + 1] != _LINE_FEED:
        return None
    begin = _SIGNATURE_BYTES + 1
    end = message.find(_LINE_FEED, begin) + 1
    return Body(message[:_SIGNATURE_BYTES], message[begin:end], message) if end else None


def possible_files() -> list[str]:
    """Return the name of every document that any gateway can have."""
    return [documents.document_file(None), *map(documents.document_file, range(documents.MAX_SHARDS))]


def is_key(value: bytes) -> bool:
    """Tell whether `value` is the content of a usable `_mirror.key`: 32 random bytes in lower-case hex."""
    return _KEY.fullmatch(value) is not None


def sign(manifest: bytes, key: bytes) -> str:
    """Return the signature of a manifest."""
    return hmac.new(key, manifest, sha256).hexdigest()


def is_signed(manifest: bytes, signature: bytes, key: bytes) -> bool:
    """Tell whether `signature` is that of `manifest` by `key`, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(sign(manifest, key).encode(), signature)
