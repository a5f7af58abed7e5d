"""What the API server says of ConfigMaps, out of its protobuf: pages of a list, events of a watch, refusals. Pure.

Called by `api_access`. Only what a pod needs is read; numbers of fields are those of generated.proto of k8s.io/api/core/v1
(ConfigMap, ConfigMapList) and k8s.io/apimachinery/pkg/apis/meta/v1 (ObjectMeta, ListMeta, WatchEvent, Status).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aigateway_config.protobuf import content, fields, text, unwrap

LENGTH_BYTES: Final = 4
"""Before each event of a watch stands how many bytes it has, the highest first."""

_NOTHING: Final = memoryview(b"")
_LIST: Final = "ConfigMapList"
_CONFIG_MAP: Final = "ConfigMap"
_STATUS: Final = "Status"


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """A ConfigMap. version: its resourceVersion; data: its texts as UTF-8."""

    name: str
    version: str
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. version: resourceVersion of the whole; following: token of the next page, "" for the last one."""

    items: Sequence[ConfigMap]
    version: str
    following: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a watch. kind: ADDED, MODIFIED, DELETED or BOOKMARK, which has nothing but a resourceVersion."""

    kind: str
    config_map: ConfigMap


@dataclass(frozen=True, slots=True)
class Status:
    """What the server says instead of what was asked. code: of HTTP."""

    message: str
    code: int


def parse_page(body: bytes) -> Page:
    """Return a page of a list. Raises ValueError for anything else."""
    items, version, following = list[ConfigMap](), "", ""
    for number, value in fields(_message(memoryview(body), _LIST)):
        if number == 1:
            about = dict(fields(content(value)))
            version, following = text(about, 2), text(about, 3)
        elif number == 2:
            items.append(_config_map(content(value)))
    if not version:
        raise ValueError("a list without a resourceVersion")
    return Page(items, version, following)


def parse_event(frame: memoryview) -> Event | Status:
    """Return an event of a watch, or the Status of an ERROR event. Raises ValueError for anything else."""
    event = dict(fields(frame))
    kind, raw = text(event, 1), content(dict(fields(content(event.get(2, _NOTHING)))).get(1, _NOTHING))
    if kind == "ERROR":
        return parse_status(raw)
    found = _config_map(_message(raw, _CONFIG_MAP))
    if not kind or not found.version or not (found.name or kind == "BOOKMARK"):
        raise ValueError("an event of the watch that tells of nothing")
    return Event(kind, found)


def parse_status(body: bytes | memoryview) -> Status:
    """Return a Status. Raises ValueError for anything else."""
    status = dict(fields(_message(memoryview(body), _STATUS)))
    code = status.get(6, 0)
    return Status(text(status, 3), code if isinstance(code, int) else 0)


def cut_frames(received: bytes, limit_bytes: int) -> tuple[list[memoryview], bytes]:
    """Return the events that have come whole, and what has come of the next. Raises ValueError if that is beyond the limit."""
    found, view, at = list[memoryview](), memoryview(received), 0
    while len(received) - at >= LENGTH_BYTES:
        begin = at + LENGTH_BYTES
        length = int.from_bytes(received[at:begin], "big")
        if length > limit_bytes:
            raise ValueError("an event of the watch is larger than any ConfigMap, or the watch is not in protobuf")
        if len(received) < begin + length:
            break
        at = begin + length
        found.append(view[begin:at])
    return found, received[at:]


def _message(body: memoryview, wanted: str) -> memoryview:
    version, kind, raw = unwrap(body)
    if (version, kind) != ("v1", wanted):
        raise ValueError(f"a {kind or 'nameless object'} where a {wanted} was expected")
    return raw


def _config_map(message: memoryview) -> ConfigMap:
    about: Mapping[int, int | memoryview] = {}
    data: dict[str, bytes] = {}
    for number, value in fields(message):
        if number == 1:
            about = dict(fields(content(value)))
        elif number == 2:
            pair = dict(fields(content(value)))
            data[text(pair, 1)] = bytes(content(pair.get(2, _NOTHING)))  # the one copy: the view would keep all that came
    return ConfigMap(text(about, 1), text(about, 6), data)
