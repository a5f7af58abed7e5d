"""What the reader raises, and the words for what it refuses.

    ConfigError
    ├── NotReady        no configuration within the time that was given
    ├── ReadingMoved    the folder was swapped while it was read: read again
    ├── SourceFault     a source cannot do what it is for; it is tried again with back-off
    └── Refused         inside this package only: carries a fault

A document that is refused is no exception: it is a `Fault`, counted by `Reason`, and the last good document stays in force.
Texts name files and remedies, never the content of a credentials file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConfigError(Exception):
    """Everything this package raises on purpose."""


class NotReady(ConfigError):
    """There is no configuration yet; the text says why."""


class ReadingMoved(ConfigError):
    """A file vanished from under a reading because the volume was swapped; nothing was changed, take a new reading."""


class SourceFault(ConfigError):
    """A source cannot do its work; it is started again with back-off."""


class Reason(StrEnum):
    """Why a document or a credentials manifest is not in force. Label of the counters."""

    UNREADABLE = "Unreadable"
    """The file is there and cannot be read."""
    MISSING = "Missing"
    """A file that must be there is not."""
    MANIFEST_INVALID = "ManifestInvalid"
    """A manifest is not JSON or not a manifest."""
    UNSUPPORTED_SCHEMA = "UnsupportedSchema"
    """Schema major is not ours: the library is too old or too new for the operator."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The document is not the one that its manifest describes: half written, or the files are of two moments."""
    DOCUMENT_INVALID = "DocumentInvalid"
    """The digest holds, and the content is not a document."""
    TOO_LARGE = "TooLarge"
    """Larger than any ConfigMap or Secret can be."""
    OTHER_GATEWAY = "OtherGateway"
    """It belongs to another GatewayConfig: the wrong ConfigMap is mounted."""
    OTHER_LINEAGE = "OtherLineage"
    """It belongs to another life of the GatewayConfig than the mounted volume says."""
    OTHER_SHARD = "OtherShard"
    """Shard or number of shards are not those of this gateway."""
    STALE = "Stale"
    """Its revision is below the one in force."""
    SAME_REVISION = "SameRevision"
    """Another content under the revision that is in force."""
    CREDENTIALS_PENDING = "CredentialsPending"
    """It names credentials that are not there yet."""
    INCOMPLETE = "Incomplete"
    """A new lineage of which documents are still missing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not in force. `file` is the document or manifest, `message` a sentence with place and remedy.

    `revision` is the one that it was to bring: the fault is over once that one or a newer one is in force. None: unknown.
    """

    file: str
    reason: Reason
    message: str
    revision: int | None = None

    def __str__(self) -> str:
        """Return `file: Reason: message`."""
        return f"{self.file}: {self.reason}: {self.message}"


class Refused(ConfigError):
    """Carries a `Fault` from where it is found to where faults are gathered; never leaves this package."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault
