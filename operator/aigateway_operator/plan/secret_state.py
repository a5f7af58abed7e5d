"""What is known of one Secret that something references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretState:
    """State of one Secret, reduced to the keys that are referenced.

    known: False when it could not be read (403, 5xx): what is live is kept.
    exists: it is there. refused_type: its type when that is never read (Helm releases, tokens), else None.
    values: referenced keys that are there. gone_since: seconds (the caller's clock) since when the Secret or a key that was
    there is gone; None when nothing was seen to vanish.
    """

    known: bool
    exists: bool
    refused_type: str | None = None
    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    gone_since: float | None = None
