"""Names to addresses, without ever blocking the loop or piling up threads.

`getaddrinfo` cannot be cancelled: against a DNS server that does not answer it holds its thread for half a minute. So a name
that is being looked up is not looked up again, threads are few, and they are daemons, so that none holds up the process's end.
Called by `connecting`, and by whoever `main` gives one to.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import idna

from aigateway_operator.rules.ranges import Address

MAX_THREADS: Final = 16
IDLE_SECONDS: Final = 30.0
"""Until a thread that has nothing to do ends."""

Lookup = Callable[[str], list[Address]]


class NameUnknownError(OSError):
    """DNS knows no such name, or says that it cannot tell."""


class Resolver:
    """Looks names up. `lookup` is what runs in a thread; it raises OSError where there is no answer."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or _getaddrinfo
        self._pending: dict[str, asyncio.Future[list[Address]]] = {}
        self._room = asyncio.Semaphore(MAX_THREADS)
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0

    @property
    def pending(self) -> int:
        """Names that are being looked up."""
        return len(self._pending)

    async def addresses(self, host: str) -> list[Address]:
        """Return the addresses of a name, in the system's order of preference; of an address, itself.

        Raises NameUnknownError. A caller that gives up leaves the lookup to whoever asks next.
        """
        try:
            return [ip_address(host)]
        except ValueError:
            pass
        pending = self._pending.get(host)
        if pending is None:
            await self._room.acquire()
            pending = self._pending.get(host)
            if pending is None:
                pending = self._begin(host)
            else:
                self._room.release()
        return await asyncio.shield(pending)

    def _begin(self, host: str) -> asyncio.Future[list[Address]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Address]] = loop.create_future()
        self._pending[host] = future

        def finish(found: list[Address] | None) -> None:
            self._pending.pop(host, None)
            self._room.release()
            if found:
                future.set_result(found)
            else:
                future.set_exception(NameUnknownError(host))
                future.exception()  # nobody may be waiting any more

        def job() -> None:
            try:
                found: list[Address] | None = self._lookup(host)
            except (OSError, ValueError):  # ValueError: no encoding of the name, which idna and UnicodeError are too
                found = None
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, found)

        with self._lock:
            if self._threads < len(self._pending):
                self._threads += 1
                threading.Thread(target=self._work, name="resolve", daemon=True).start()
            self._jobs.put(job)
        return future

    def _work(self) -> None:
        """Do jobs until there has been none for a while: a new thread each time costs three times the CPU of a lookup."""
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            job()


def _getaddrinfo(host: str) -> list[Address]:
    ascii_host = host if host.isascii() else idna.encode(host).decode("ascii")
    found = socket.getaddrinfo(ascii_host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
