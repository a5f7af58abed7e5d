"""The tree of the documents as plain dictionaries: paths into it, copies of it, and the tree with secrets in place.

Pure. Called by `Configuration` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from pydantic import JsonValue, SecretStr

from aigateway_config.model import Backend, Model

T = TypeVar("T")
Tree = Mapping[str, Any]
Resolve = Callable[[str | None], SecretStr | None]

_NOWHERE: Final = object()
_REF: Final = "_ref"


class ModelsTree(Mapping[str, dict[str, JsonValue]]):
    """Models as the documents have them; each becomes a dictionary when it is looked at."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def __getitem__(self, name: str) -> dict[str, JsonValue]:
        """Return the entry of one model."""
        model = self._models[name]
        entry: dict[str, JsonValue] = {
            "use": model.use,
            "current": model.current,
            "base_url": model.base_url,
            "proxy_key_ref": model.proxy_key_ref,
        }
        return {**entry, **{backend.name: _backend(backend) for backend in model.backends.values()}}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the public names."""
        return iter(self._models)

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self._models)


def _backend(backend: Backend) -> dict[str, JsonValue]:
    return {
        "model": backend.model,
        "base_url": backend.base_url,
        "api_key_ref": backend.api_key_ref,
        "parameters": copied(backend.parameters),
    }


def copied(value: Any) -> Any:
    """Return a deep copy of JSON with every mapping a dict."""
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value


def find(tree: Tree, path: str | Sequence[str], default: T | None) -> JsonValue | T:
    """Return a copy of the value at `path`, `default` if it leads nowhere. See `Configuration.get`."""
    found = _walk(tree, path.split(".")) if isinstance(path, str) else _follow(tree, path)
    return cast("JsonValue | T", default if found is _NOWHERE else copied(found))


def _follow(node: object, keys: Sequence[str]) -> object:
    for key in keys:
        if not isinstance(node, Mapping) or key not in node:
            return _NOWHERE
        node = node[key]
    return node


def _walk(node: object, parts: list[str]) -> object:
    if not parts:
        return node
    if not isinstance(node, Mapping):
        return _NOWHERE
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key in node and (found := _walk(node[key], parts[length:])) is not _NOWHERE:
            return found
    return _NOWHERE


def resolved_tree(tree: Tree, resolve: Resolve) -> dict[str, JsonValue]:
    """Return a copy with secrets in place of references and parameters spread. See `Configuration.resolved`."""
    models: ModelsTree = tree["ai-gateway"]["virtual_models"]
    whole = {name: _resolved(section, resolve) for name, section in tree.items() if name not in ("ai-gateway", "web_search")}
    search = tree["web_search"]
    if search is not None:  # `options` is the user's own: a key in it that ends in _ref is no reference
        search = {**_resolved({key: search[key] for key in search if key != "options"}, resolve), "options": search["options"]}
    entries = {name: _resolved_model(model, resolve) for name, model in models.items()}
    return {**whole, "web_search": copied(search), "ai-gateway": {"virtual_models": entries}}


def _resolved(value: Any, resolve: Resolve) -> Any:
    if not isinstance(value, Mapping):
        return copied(value)
    made: dict[str, Any] = {}
    for key, inner in value.items():
        if not key.endswith(_REF):
            made[key] = _resolved(inner, resolve)
        elif inner is not None:
            made[key.removesuffix(_REF)] = _text(resolve(inner))
    return made


def _resolved_model(entry: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """Resolve one entry. Parameters come first, so that none can take the place of a fixed key of its backend."""
    made: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            fixed = {name: value[name] for name in value if name != "parameters"}
            made[key] = {**copied(value["parameters"]), **_resolved(fixed, resolve)}
        elif key == "proxy_key_ref":
            made["proxy_key"] = _text(resolve(value))
        else:
            made[key] = value
    return made


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
