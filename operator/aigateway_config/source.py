"""Where documents come from: the Protocols that every source fills in, and a reading that is held in memory.

A source brings bytes and judges nothing: what it offers is verified by the state machine (`state.py`), which decides what
comes into force. Knows no files, no network, no Kubernetes. Implemented by `volume`, `plain` and the sources that need RBAC
or Redis; called by the reader.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from aigateway_config.configuration import Configuration


class Reading(Protocol):
    """One consistent state of a source, by file name: documents, their manifests, credentials.

    Called in the reader's own thread, so it may read files; it must not need the event loop. A small `MemoryReading` is judged
    in the loop.
    """

    def names(self) -> Collection[str]:
        """Return the names of the files that are there. The same answer every time."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none of that name.

        Raises OSError if it is there and cannot be read, ReadingMoved if this state of the source is gone.
        """

    @property
    def credentials(self) -> Reading | None:
        """The credentials of the same source.

        None: this source brings documents only. A reading with credentials (even none in them) decides the lineage.
        """


Offer = Callable[[Reading], Awaitable[None]]
"""Takes a reading; returns when it has been judged. Raises ReadingMoved if the reading was gone before its end."""


class Source(Protocol):
    """Something that brings readings."""

    @property
    def name(self) -> str:
        """Short name for logs and errors, such as `volume`."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """What this source ignored by itself, counted by reason (such as unsigned messages); empty if nothing."""

    async def run(self, offer: Offer) -> None:
        """Offer what is there now, then after every change, until cancelled.

        Never raises for what it reads. What it raises otherwise is logged, and it is run again with back-off.
        """


@runtime_checkable
class Follower(Protocol):
    """A source that needs what is in force, such as the address of Redis and the key of the mirror."""

    def follow(self, configuration: Configuration) -> None:
        """Take note of a new configuration. Called in the reader's loop right after the swap; must not block or raise."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """A reading whose files are in memory. For sources that receive whole documents, and for tests."""

    files: Mapping[str, bytes] = field(repr=False)
    credentials: Reading | None = None

    def names(self) -> Collection[str]:
        """Return the names of the files."""
        return self.files.keys()

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none of that name."""
        return self.files.get(name)
