"""JSON that is kept for long and read seldom, in a tenth to a third of its size: what ten thousand objects say, they say alike.

Deflate with a dictionary of what specs and statuses have in common: 6 µs to pack one, 1 µs to unpack it. The dictionary never
changes a result; words that are missing in it cost bytes, no more. Equal texts pack to equal bytes within a process, and
nothing packed leaves it. Called by `reconcile.store`, `plan.snapshot` and `reconcile.status_writer`.
Source: RFC 1951; zlib's manual on `deflateSetDictionary`: what is most frequent stands last. Measured: docs/decisions.md.
"""

from __future__ import annotations

import zlib
from typing import Final

_WINDOW: Final = -12
_MEMORY: Final = 3
"""A window of 4 kB and no header: as much as the words and an ordinary object; more costs time for every object."""
_WORDS: Final = (
    b'"probe":{"enabled":true}"modelName":""max_tokens":"parameters":{"temperature":0."baseUrl":"https://.svc:8000/v1"'
    b'{"gatewayRef":{"name":"main"},"use":false,true,"current":"","proxyKeySecretRef":{"name":"-keys","key":"proxy"},'
    b'"backends":[{"name":"","model":"","apiKeySecretRef":{"name":"","key":"api-key"}},{"name":"'
    b'"status":"Unknown""reason":"Pending""status":"False""reason":"Invalid"'
    b'{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"All rules hold.","observedGeneration":1,'
    b'"reason":"Accepted","status":"True","type":"Accepted"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":'
    b'"Every referenced Secret and key is there.","observedGeneration":1,"reason":"ResolvedRefs","status":"True","type":'
    b'"ResolvedRefs"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"Served as \'\'.","observedGeneration":1,'
    b'"reason":"Programmed","status":"True","type":"Programmed"},{"lastTransitionTime":"2026-01-01T00:00:00Z","message":'
    b'"Served as \'\'.","observedGeneration":1,"reason":"Ready","status":"True","type":"Ready"}],"modelName":"",'
    b'"observedGeneration":1,"revision":'
)


def pack(text: bytes) -> bytes:
    """Return `text` packed, in memory of its own size."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _WORDS)
    return packer.compress(text) + packer.flush()


def unpack(packed: bytes) -> bytes:
    """Return what was packed. Raises zlib.error for what never was."""
    return zlib.decompressobj(_WINDOW, _WORDS).decompress(packed)
