"""What keeps a process small, told once before it connects anywhere: large buffers go back to the system when they are let go.

A page of a LIST takes half a megabyte for a moment. The C library takes the first such buffer that is freed as a reason to keep
all later ones in its heap, where small things that stay come to lie between them: 17 MB of holes after a start with 10,000
models. And asyncio gives each TLS connection a buffer of 256 kB, written once, of which a record fills 16. A leaf, called by
`serving` and `webhook`.
Source: mallopt(3), M_MMAP_THRESHOLD; CPython, asyncio/sslproto.py; measured: docs/decisions.md.
"""

from __future__ import annotations

import ctypes
from asyncio.sslproto import SSLProtocol
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
LARGE_BYTES: Final = 128 * 1024
"""From this size on a buffer is the system's: what the C library begins with. Documents of most gateways are smaller."""
TLS_BYTES: Final = 64 * 1024
"""What is read from a connection at once."""


def stay_small() -> None:
    """Set both. A C library that is not glibc is left as it is."""
    SSLProtocol.max_size = TLS_BYTES
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
