"""What request handling needs of the pod library's reader, as a Protocol: `aigateway_config.ConfigReader` fits it.

So requests can be tested with configurations made in memory. Configurations and models themselves are the library's own types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aigateway_config.configuration import Configuration
from aigateway_config.subscribers import Callback


class Reader(Protocol):
    """What brings configurations."""

    @property
    def current(self) -> Configuration | None:
        """The one in force; None before the first."""

    @property
    def error(self) -> str | None:
        """Why the newest documents are not in force; None when they are."""

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback(new, old)` after every change; returns what ends it."""
