"""Keys and passwords found in a plain configuration → Secrets, each value once. Called by `conversion`.

Values are held, handed to the manifests and never shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aigateway_operator.render.references import SecretRef

MAX_BYTES: Final = 700_000
"""Of one Secret; the API server takes 1 MiB, and base64 in `kubectl apply`'s annotation takes its part."""
_PER_KEY: Final = 64


@dataclass(slots=True)
class SecretKeeper:
    """Secrets in the making; `prefix` is the name of the gateway."""

    prefix: str
    values: dict[SecretRef, str] = field(default_factory=dict, repr=False)
    _known: dict[tuple[str, bytes], SecretRef] = field(default_factory=dict, repr=False)
    _sizes: dict[str, int] = field(default_factory=dict)

    def keep(self, purpose: str, key: str, value: str) -> SecretRef:
        """Return where `value` is kept: in `<gateway>-<purpose>`, under `key` unless an equal value is there already."""
        digest = (purpose, hashlib.sha256(value.encode(errors="replace")).digest())
        known = self._known.get(digest)
        if known is not None:
            return known
        ref = SecretRef(self._roomy(purpose, len(key) + len(value.encode(errors="replace")) + _PER_KEY), key)
        number = 1
        while ref in self.values:
            number += 1
            ref = SecretRef(ref.secret, f"{key}-{number}")
        self.values[ref] = value
        self._known[digest] = ref
        return ref

    def keep_at(self, ref: SecretRef, value: str) -> bool:
        """Keep `value` where the configuration says it is; False if another value is there already."""
        return self.values.setdefault(ref, value) == value

    def manifests(self, namespace: str | None) -> Iterator[dict[str, Any]]:
        """Yield the Secrets as manifests."""
        grouped: dict[str, dict[str, str]] = {}
        for ref, value in self.values.items():
            grouped.setdefault(ref.secret, {})[ref.key] = value
        for name, texts in grouped.items():
            metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
            yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": texts}

    def _roomy(self, purpose: str, size: int) -> str:
        number = 1
        while True:
            name = f"{self.prefix}-{purpose}" + (f"-{number}" if number > 1 else "")
            if self._sizes.get(name, 0) + size <= MAX_BYTES or name not in self._sizes:
                self._sizes[name] = self._sizes.get(name, 0) + size
                return name
            number += 1
