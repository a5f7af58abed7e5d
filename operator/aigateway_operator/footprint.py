"""What keeps a process small: large buffers go back to the system when they are let go, and what work has left behind does too.

A page of a LIST takes half a megabyte for a moment. The C library takes the first such buffer that is freed as a reason to keep
all later ones in its heap, where small things that stay come to lie between them: 17 MB of holes after a start with 10,000
models. And asyncio gives each TLS connection a buffer of 256 kB, written once, of which a record fills 16. Both are told once,
before the process connects anywhere. A leaf, called by `serving`, `webhook` and `main`.
Source: mallopt(3), M_MMAP_THRESHOLD; malloc_trim(3); CPython, asyncio/sslproto.py; measured: docs/decisions.md.
"""

from __future__ import annotations

import ctypes
from asyncio.sslproto import SSLProtocol
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
LARGE_BYTES: Final = 128 * 1024
"""From this size on a buffer is the system's: what the C library begins with. Documents of most gateways are smaller."""
TLS_BYTES: Final = 16 * 1024
"""What is read from a connection at once. Each connection holds on to two to three times as much: a burst leaves a dozen. It is
also what is sent at once (`kube.transport.PIECE_BYTES`)."""


def stay_small() -> None:
    """Set both. A C library that is not glibc is left as it is."""
    SSLProtocol.max_size = TLS_BYTES
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """Give back what is free in between: a megabyte after a thousand creates, in a third of a millisecond."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
