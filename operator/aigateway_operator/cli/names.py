"""Names that Kubernetes takes, made from names that it does not. Pure; called by the conversion of plain configurations."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

MAX_LENGTH: Final = 63
_NOT_IN_NAME: Final = re.compile(r"[^a-z0-9.-]+")
_NOT_IN_LABEL: Final = re.compile(r"[^a-z0-9-]+")


def object_name(text: str, taken: Container[str], fallback: str) -> str:
    """Return an object's name (DNS subdomain) close to `text`, not among `taken`: `org/Chat_v2.1` → `org-chat-v2.1`."""
    parts = _NOT_IN_NAME.sub("-", text.lower()).split(".")
    cleaned = ".".join(part.strip("-") for part in parts if part.strip("-"))
    return _free(cleaned[:MAX_LENGTH].strip("-.") or fallback, taken)


def label_name(text: str, taken: Container[str], fallback: str) -> str:
    """Return a DNS label close to `text` that is not among `taken`: `GPT_4o` → `gpt-4o`."""
    cleaned = _NOT_IN_LABEL.sub("-", text.lower()).strip("-")
    return _free(cleaned[:MAX_LENGTH].strip("-") or fallback, taken)


def _free(name: str, taken: Container[str]) -> str:
    number, chosen = 1, name
    while chosen in taken:
        number += 1
        suffix = f"-{number}"
        chosen = f"{name[: MAX_LENGTH - len(suffix)].rstrip('-.')}{suffix}"
    return chosen
