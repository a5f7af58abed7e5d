"""Which shard a model lives in: a stable hash of its public name, so that one edit touches one ConfigMap."""

from __future__ import annotations

from hashlib import sha256


def shard_of(model_name: str, shards: int) -> int:
    """Return 0..shards-1 for a public model name; the same for ever, on every machine."""
    return int.from_bytes(sha256(model_name.encode()).digest()[:8], "big") % shards
