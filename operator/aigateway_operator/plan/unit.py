"""One unit: a document, the models in it, and the credentials that it names. A pure value, made by `units`, used by `plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aigateway_operator.plan.claims import Claim
from aigateway_operator.render.files import LIMIT_BYTES, Document
from aigateway_operator.render.references import SecretRef
from aigateway_operator.render.settings import Settings


@dataclass(frozen=True, slots=True)
class Unit:
    """One document and what it holds; `shard` None: `config.yml`, and only then are there `settings`.

    size_bytes: the document and its manifest. credentials: every credentials file that the document names, with the Secret
    behind it where known. secrets: names of those Secrets. wanted_bytes: the size that everything wanted would have, of the
    document or of the credentials, whichever is larger. held_out: models whose newest version does not fit.
    settings_held_out: the settings are the last good ones, since the newest do not fit.
    """

    shard: int | None
    document: Document
    entries: Mapping[str, Claim]
    settings: Settings | None
    size_bytes: int
    credentials: Mapping[str, SecretRef | None]
    secrets: tuple[str, ...]
    wanted_bytes: int = 0
    held_out: frozenset[str] = frozenset()
    settings_held_out: bool = False

    @property
    def fits(self) -> bool:
        """Whether it can be written. False: even the last good set is too large, and what is live stays as it is."""
        return self.size_bytes <= LIMIT_BYTES

    @property
    def sources(self) -> dict[str, str]:
        """Public model name → `name/uid8`."""
        return {model_name: claim.source for model_name, claim in self.entries.items()}
