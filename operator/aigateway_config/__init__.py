"""The library for gateway pods: reads, verifies and follows the documents that the operator writes.

Never imports the operator. `documents` is the contract, defined once for writer and reader; `ConfigReader` keeps the newest
good configuration of one or several sources, and `open_volume` does so for programs without an event loop.

Names are imported when they are first used, so that the operator, which needs `documents` alone, loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aigateway_config.api_access import ApiAccess
    from aigateway_config.api_watch import ApiWatch
    from aigateway_config.blocking import BlockingReader, open_volume
    from aigateway_config.configuration import Configuration
    from aigateway_config.errors import ConfigError, Fault, NotReady, ReadingMoved, Reason, SourceFault
    from aigateway_config.model import Backend, Model
    from aigateway_config.plain import PlainFile
    from aigateway_config.reader import ConfigReader, Counters, Service
    from aigateway_config.redis_mirror import RedisMirror
    from aigateway_config.source import Follower, MemoryReading, Offer, Reading, Source
    from aigateway_config.status import StatusReporter
    from aigateway_config.volume import MountedVolume

__all__ = [
    "ApiAccess",
    "ApiWatch",
    "Backend",
    "BlockingReader",
    "ConfigError",
    "ConfigReader",
    "Configuration",
    "Counters",
    "Fault",
    "Follower",
    "MemoryReading",
    "Model",
    "MountedVolume",
    "NotReady",
    "Offer",
    "PlainFile",
    "Reading",
    "ReadingMoved",
    "Reason",
    "RedisMirror",
    "Service",
    "Source",
    "SourceFault",
    "StatusReporter",
    "open_volume",
]

_HOMES = {
    "api_access": ("ApiAccess",),
    "api_watch": ("ApiWatch",),
    "blocking": ("BlockingReader", "open_volume"),
    "configuration": ("Configuration",),
    "errors": ("ConfigError", "Fault", "NotReady", "ReadingMoved", "Reason", "SourceFault"),
    "model": ("Backend", "Model"),
    "plain": ("PlainFile",),
    "reader": ("ConfigReader", "Counters", "Service"),
    "redis_mirror": ("RedisMirror",),
    "source": ("Follower", "MemoryReading", "Offer", "Reading", "Source"),
    "status": ("StatusReporter",),
    "volume": ("MountedVolume",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the module of a public name and return the name; AttributeError for any other."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
