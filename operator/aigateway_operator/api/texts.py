"""Texts that CRD validation (CEL), webhook, controller and command line share, word for word.

Pure functions of names and paths; no value of a field ever goes in. Each opens with the phrase users know, then says the
remedy. Called by the CRD converter and by `rules`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def cannot_add_key(path: str, key: str, allowed: Sequence[str], *, guess: bool = True) -> str:
    """Refuse the unknown key `key` at `path` (`spec.app`); names the allowed keys and, with `guess`, the closest one."""
    close = difflib.get_close_matches(key, allowed, 1) if guess else []
    plain = key.casefold().replace("_", "").replace("-", "")
    same = [name for name in allowed if name.casefold().replace("_", "") == plain]
    begun = [name for name in allowed if name.casefold().startswith(plain)] if guess and len(plain) > 2 else []
    guesses = same or begun or close  # `api_key` is the beginning of `apiKeySecretRef`, and not near enough to be close
    hint = f" Did you mean '{guesses[0]}'?" if guesses else ""
    return f"Cannot add new key '{key}' to fixed structure at {path}. Allowed keys: {', '.join(allowed)}.{hint}"


def cannot_delete_key(path: str, key: str, remedy: str) -> str:
    """Refuse that `key`, which the stored object sets, is gone from `path`; `remedy` is a whole sentence."""
    return f"Cannot delete key '{key}' from {path}. Structure is fixed. {remedy}"


def missing_required(kind: str, name: str, fields: Iterable[str]) -> str:
    """Name every missing required field of one object; `kind` as people say it: `Virtual model`, `Gateway configuration`."""
    return f"{kind} '{name}' missing required fields: {', '.join(fields)}"


def current_names_no_backend(current: str, backends: str) -> str:
    """Refuse a `current` that is in none of `backends`, the names in one text with commas."""
    return f"'{current}' names no backend. Backends: {backends}. Set current to one of them, or add the backend."


def reserved_backend_name(name: str) -> str:
    """Refuse a backend name that would take the place of a fixed key in the rendered entry."""
    return f"'{name}' is a fixed key of what gateways read. Choose another name, such as '{name}-1'."


def no_base_url(name: str, without: str) -> str:
    """Ask for a `baseUrl`; `name` is the VirtualModel's, `without` lists the backends that have none."""
    missing = missing_required("Virtual model", name, ["baseUrl"])
    return f"{missing}. Set it here, or on every backend; without one: {without}."


def shards_changed() -> str:
    """Refuse a change of `delivery.shards`: pods would see models twice or not at all meanwhile."""
    return "cannot be changed. Create another GatewayConfig with this number of shards and move gatewayRef to it."


def empty_selector() -> str:
    """Refuse a pod selector without any requirement."""
    return "is empty and would select every pod in the namespace. Name a label of the gateway's pods, or remove it."


def selector_needs_values(operator: str) -> str:
    """Ask for the values of a label requirement."""
    return f"must have at least one value with {operator}. Name one."


def selector_takes_no_values(operator: str) -> str:
    """Refuse the values of a label requirement that takes none."""
    return f"must be empty with {operator}. Remove the values."


def path_leaves_folder() -> str:
    """Refuse a log path with `..` as a step."""
    return "holds '..', which would leave the log folder. Name a folder below it."


def sink_named_twice() -> str:
    """Refuse a list of log sinks in which one occurs twice."""
    return "names a sink twice. Name each once."


def gateway_name_too_long(limit: int) -> str:
    """Refuse a GatewayConfig name of more than `limit` characters; CEL cannot say how many it has within its budget."""
    return f"has more than {limit} characters; no more are allowed, since it becomes a label. Shorten it."
