"""A verified document taken apart: each of its models as a piece of text, its other sections as values.

The operator writes a model a line, so a document is cut at its lines and only pieces that are new are parsed
(`model.parse_models`): a reload costs what changed. The same JSON in any other layout is read as well and means the same.
Pure. Called by `verification`, which has checked the digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

_MODELS: Final = "ai-gateway"
_BEGIN: Final = b'{"ai-gateway":{"virtual_models":{\n'
_BETWEEN: Final = b",\n"
_END: Final = b"\n}}"


@dataclass(frozen=True, slots=True)
class Parts:
    """A document in parts. models: a piece `"name":{…}` each; sections: every other top-level key."""

    models: Sequence[bytes]
    sections: Mapping[str, Any]


def cut_lines(content: bytes) -> Parts | None:
    """Return the parts of a document that has a model a line; None if it is laid out in another way.

    Pieces are not looked into. If every piece is one member of a JSON object, the whole is JSON and these are its parts; if
    not, it is laid out in another way too, or no document at all: `cut_json` tells.
    """
    end = content.rfind(_END)
    if end < 0 or not content.startswith(_BEGIN):
        return None
    rest = content[end + len(_END) :]
    try:
        sections = parse_object(b"{" + rest.removeprefix(b","))
    except (ValueError, TypeError):
        return None
    if _MODELS in sections or bool(sections) != rest.startswith(b","):
        return None
    return Parts(content[len(_BEGIN) : end].split(_BETWEEN), sections)


def cut_json(content: bytes) -> Parts:
    """Return the parts of a document in any layout. Raises ValueError, TypeError: not JSON, or without a mapping of models."""
    sections = parse_object(content)
    gateway = sections.pop(_MODELS, None)
    entries = gateway.get("virtual_models") if isinstance(gateway, dict) else None
    if not isinstance(entries, dict):
        raise ValueError("ai-gateway.virtual_models is no mapping")
    return Parts([to_json({name: entry})[1:-1] for name, entry in entries.items()], sections)


def parse_object(content: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for what is not JSON, infinite numbers included; TypeError for other JSON."""
    mapping = from_json(content, allow_inf_nan=False, cache_strings="keys")
    if not isinstance(mapping, dict):
        raise TypeError("not a JSON object")
    return mapping
