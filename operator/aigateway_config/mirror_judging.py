"""What of the Redis mirror is to be believed: signature first, then whose it is, and whether it is newer than what is in force.

One judge for all that a pod gets from Redis, published or fetched; what is refused is counted by reason. Pure but for a line
in the log: no Redis, no waiting. Called by `redis_mirror` alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from aigateway_config import documents
from aigateway_config.mirror import (
    MAX_BODY_BYTES,
    Body,
    Invalidation,
    RedisEndpoint,
    cut_body,
    document_key,
    endpoint_of,
    is_signed,
)

if TYPE_CHECKING:
    from aigateway_config.configuration import Configuration

MAX_MESSAGE_BYTES: Final = 4096

log = logging.getLogger("aigateway_config")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the mirror of the configuration in force is, and what makes a document of it ours."""

    endpoint: RedisEndpoint
    key: bytes = field(repr=False)
    gateway: str
    lineage: str
    files: frozenset[str]
    missing: str | None = None
    """Credentials file that is needed to reach Redis and is not there."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest that was signed by the mirror's key and is of a document of ours that is newer than the one in force."""

    file: str
    revision: int
    sha256: str
    manifest: bytes = field(repr=False)


@dataclass(slots=True)
class Judge:
    """Judges by `revisions`, those in force by file; ignored: what was refused, by reason."""

    revisions: Mapping[str, int] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    def told(self, place: Place, message: bytes) -> tuple[str, int] | None:
        """Return document and revision that a message of the shared channel speaks of, if that is to be looked at."""
        try:
            told = Invalidation.model_validate_json(message[:MAX_MESSAGE_BYTES])
        except ValidationError:
            self.ignore("Malformed")
            return None
        in_force = self.revisions.get(told.document, 0)
        if told.gateway != place.gateway:
            self.ignored["OtherGateway"] += 1  # as it should be, where gateways share a Redis
        elif told.document not in place.files or told.key != document_key(place.gateway, told.document):
            self.ignore("OtherDocument")
        elif told.revision < in_force:
            self.ignore("Stale")
        elif told.revision > in_force:
            return told.document, told.revision
        return None

    def body(self, place: Place, message: bytes) -> tuple[Signed, Body] | None:
        """Return what a message of the gateway's own channel brings, if it is to be looked at; the document is not, yet."""
        if len(message) > MAX_BODY_BYTES:
            self.ignore("TooLarge")
            return None
        body = cut_body(message)
        if body is None:
            self.ignore("Malformed")
            return None
        head = self.manifest(place, body.manifest, body.signature)
        return None if head is None else (head, body)

    def manifest(self, place: Place, manifest: bytes | None, signature: bytes | None, file: str | None = None) -> Signed | None:
        """Return a manifest if it is signed, ours, and newer than what is in force. `file`: whose it must be; None: any."""
        if manifest is None or signature is None or not is_signed(manifest, signature, place.key):
            self.ignore("BadSignature" if signature else "Unsigned")
            return None
        try:
            head = documents.ManifestHead.model_validate_json(manifest)
        except ValidationError:
            self.ignore("Malformed")
            return None
        own = documents.document_file(head.shard)
        in_force = self.revisions.get(own, 0)
        if head.gateway != place.gateway:
            self.ignore("OtherGateway")
        elif head.lineage != place.lineage:
            self.ignore("OtherLineage")
        elif own != (file or own) or own not in place.files:
            self.ignore("OtherDocument")
        elif head.revision < in_force:
            self.ignore("Stale")
        elif head.revision > in_force:
            return Signed(own, head.revision, head.sha256, manifest)
        return None

    def is_whole(self, head: Signed, document: bytes | None) -> bool:
        """Tell whether a document is the one that its manifest describes."""
        if document is not None and sha256(document).hexdigest() == head.sha256:
            return True
        self.ignore("DigestMismatch")
        return False

    def ignore(self, reason: str) -> None:
        """Count what is refused; the first time for each reason is logged."""
        self.ignored[reason] += 1
        if self.ignored[reason] == 1:
            log.warning("Redis mirror: something is ignored (%s); from now on it is only counted", reason)


def place_of(configuration: Configuration) -> Place | None:
    """Return where the mirror is, None if there is none: no Redis, or no key to verify it with."""
    store, key = configuration.storage.redis, configuration.secret(documents.MIRROR_KEY)
    if store is None or key is None:
        return None

    def credential(file: str) -> str | None:
        value = configuration.secret(file)
        return None if value is None else value.get_secret_value()

    endpoint, missing = endpoint_of(store, credential)
    text = key.get_secret_value().encode()
    files = frozenset(configuration.documents)
    return Place(endpoint, text, configuration.gateway, configuration.lineage, files, missing)
