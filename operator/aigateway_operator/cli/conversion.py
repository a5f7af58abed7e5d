"""A plain gateway configuration, as one `config.yml` holds it, → GatewayConfig, VirtualModels and Secrets.

The reverse of what `render` does, for a file that holds keys and passwords as text. Everything that does not come out as it
went in is in the report: `changed`, `renamed` or `refused`, each with its place in the file. Pure; called by `import_config`,
which checks the result by the rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aigateway_config.documents import RESERVED_BACKEND_NAMES
from aigateway_operator.api import meta
from aigateway_operator.cli.names import label_name, object_name
from aigateway_operator.cli.secret_keeper import SecretKeeper
from aigateway_operator.render.references import SecretRef, secret_of
from aigateway_operator.rules.violation import at, shown

CHANGED: Final = "changed"
RENAMED: Final = "renamed"
REFUSED: Final = "refused"

_SECTIONS: Final = ("app", "storage", "web_search", "ai-gateway", "log")
_APP: Final = {"host": "host", "port": "port", "debug": "debug"}
_STORES: Final[dict[str, dict[str, str]]] = {
    "mongodb": {"host": "host", "port": "port", "username": "username", "database": "database", "auth_source": "authSource"},
    "redis": {"host": "host", "port": "port"},
    "qdrant": {"host": "host", "port": "port", "collection": "collection"},
}
_STORE_KEYS: Final = {"mongodb": "password", "redis": "password", "qdrant": "api_key"}
_WEB_SEARCH: Final = {"provider": "provider", "base_url": "baseUrl", "options": "options"}
_MODEL: Final = ("use", "current", "base_url", "proxy_key", "proxy_key_ref")
_BACKEND: Final = ("model", "base_url", "api_key", "api_key_ref", "parameters")
_RETENTION: Final = re.compile(r"(?P<number>[0-9]{1,6})\s*(?P<unit>d|days?|w|weeks?)?", re.IGNORECASE)
_OPEN_MAP: Final = re.compile(r"\.(parameters|options)\b")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that does not come out as it went in. `path` is the place in the configuration."""

    what: str
    path: str
    message: str


@dataclass(slots=True)
class Made:
    """An object that was made, and where in the configuration its parts come from: path in the object → path there."""

    body: dict[str, Any] = field(repr=False)
    origins: dict[str, str] = field(repr=False)

    def origin(self, path: str) -> str:
        """Return the place in the configuration that a place in the object comes from, or the closest one above."""
        known = path
        while known not in self.origins and known:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        # Inside open maps nothing is renamed, so the rest of the path is the same there.
        return self.origins.get(known, "") + (path[len(known) :] if _OPEN_MAP.search(known) else "")


class Conversion:
    """Turns one configuration into objects; read `gateway`, `models`, `secrets` and `remarks` afterwards."""

    def __init__(self, name: str, namespace: str | None) -> None:
        self.remarks: list[Remark] = []
        self.secrets = SecretKeeper(name)
        self.models: list[Made] = []
        self.gateway = Made(self._object(meta.GATEWAY_CONFIG, name, namespace), {"spec": ""})
        self._name = name
        self._namespace = namespace

    def convert(self, config: Mapping[str, Any]) -> None:
        """Convert a whole configuration, any JSON mapping."""
        self._unknown(config, "", _SECTIONS)
        spec = self.gateway.body["spec"]
        spec |= self._named("app", self._plain(self._section(config, "app", ""), "app", "spec.app", _APP))
        spec |= self._named("storage", self._storage(self._section(config, "storage", "")))
        spec |= self._named("webSearch", self._web_search(self._section(config, "web_search", "")))
        spec |= self._named("log", self._log(self._section(config, "log", "")))
        gateway = self._section(config, "ai-gateway", "")
        self._unknown(gateway, "ai-gateway", ("virtual_models",))
        taken: set[str] = set()
        for model_name, entry in self._section(gateway, "virtual_models", "ai-gateway").items():
            path = at("ai-gateway.virtual_models", model_name)
            if isinstance(entry, dict):
                self.models.append(self._model(model_name, entry, path, taken))
            else:
                self._remark(REFUSED, path, "is no mapping. A model needs current, proxy_key and its backends.")

    def _remark(self, what: str, path: str, message: str) -> None:
        self.remarks.append(Remark(what, path, message))

    @staticmethod
    def _object(kind: str, name: str, namespace: str | None) -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        return {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": metadata, "spec": {}}

    @staticmethod
    def _named(key: str, mapping: dict[str, Any] | None) -> dict[str, Any]:
        return {key: mapping} if mapping else {}

    def _section(self, holder: Mapping[str, Any], key: str, above: str) -> dict[str, Any]:
        """Return a mapping of the configuration; {} where it is absent or null, and a remark where it is something else."""
        value = holder.get(key)
        if value is not None and not isinstance(value, dict):
            self._remark(REFUSED, at(above, key), "is no mapping and was left out. Write its keys below it.")
        return value if isinstance(value, dict) else {}

    def _unknown(self, mapping: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
        for key in mapping.keys() - set(known):
            self._remark(REFUSED, at(path, key), f"is not known and was left out. Known here: {', '.join(known)}.")

    def _plain(self, mapping: Mapping[str, Any], path: str, target: str, keys: Mapping[str, str]) -> dict[str, Any]:
        """Take over the keys that only change their spelling."""
        self.gateway.origins[target] = path
        self._unknown(mapping, path, tuple(keys))
        out: dict[str, Any] = {}
        for key, new_key in keys.items():
            if mapping.get(key) is not None:
                out[new_key] = self._number(mapping[key], at(path, key)) if key == "port" else mapping[key]
                self.gateway.origins[f"{target}.{new_key}"] = at(path, key)
        return out

    def _number(self, value: Any, path: str) -> Any:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            self._remark(CHANGED, path, f"is text; taken as the number {int(value)}.")
            return int(value)
        return value

    def _storage(self, storage: dict[str, Any]) -> dict[str, Any]:
        self._unknown(storage, "storage", tuple(_STORES))
        out: dict[str, Any] = {}
        for name, keys in _STORES.items():
            if storage.get(name) is None:
                continue
            path, secret = f"storage.{name}", _STORE_KEYS[name]
            given = self._section(storage, name, "storage")
            own = {key: value for key, value in given.items() if key not in (secret, f"{secret}_ref", "tls")}
            out[name] = self._plain(own, path, f"spec.storage.{name}", keys)
            self._reference(out[name], given, secret, path, "storage", f"{name}-{secret.replace('_', '-')}", self.gateway)
            if given.get("tls") is not None:
                out[name]["tls"] = self._tls(self._section(given, "tls", path), f"{path}.tls", f"spec.storage.{name}.tls")
        return out

    def _tls(self, tls: dict[str, Any], path: str, target: str) -> dict[str, Any]:
        own = {key: value for key, value in tls.items() if key != "ca_ref"}
        out = self._plain(own, path, target, {"enabled": "enabled"})
        ref = self._read_back(tls.get("ca_ref"), at(path, "ca_ref"))
        return out | ({"caSecretRef": {"name": ref.secret, "key": ref.key}} if ref else {})

    def _web_search(self, search: dict[str, Any]) -> dict[str, Any]:
        own = {key: value for key, value in search.items() if key not in ("api_key", "api_key_ref")}
        out = self._plain(own, "web_search", "spec.webSearch", _WEB_SEARCH)
        self._reference(out, search, "api_key", "web_search", "storage", "web-search-api-key", self.gateway)
        return out

    def _log(self, log: dict[str, Any]) -> dict[str, Any]:
        self._unknown(log, "log", ("system", "operation"))
        out: dict[str, Any] = {}
        for name in ("system", "operation"):
            if log.get(name) is None:
                continue
            path, target = f"log.{name}", f"spec.log.{name}"
            given = self._section(log, name, "log")
            own = {key: value for key, value in given.items() if key not in ("storage", "retention")}
            stream = self._plain(own, path, target, {"level": "level"})
            storage = self._section(given, "storage", path)
            kept = self._plain(storage, f"{path}.storage", f"{target}.storage", {"sinks": "sinks", "path": "path"})
            stream |= self._named("storage", kept)
            if given.get("retention") is not None:
                stream["retentionDays"] = self._days(given["retention"], f"{path}.retention")
                self.gateway.origins[f"{target}.retentionDays"] = f"{path}.retention"
            out[name] = stream
        return out

    def _days(self, value: Any, path: str) -> Any:
        match = _RETENTION.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            return value
        days = int(match["number"]) * (7 if (match["unit"] or "d")[0] in "wW" else 1)
        self._remark(CHANGED, path, f"'{value.strip()}' became retentionDays: {days}.")
        return days

    def _model(self, model_name: str, entry: dict[str, Any], path: str, taken: set[str]) -> Made:
        name = object_name(model_name, taken, "model")
        taken.add(name)
        made = Made(self._object(meta.VIRTUAL_MODEL, name, self._namespace), {"spec": path, "metadata": path})
        spec = made.body["spec"]
        spec["gatewayRef"] = {"name": self._name}
        if name != model_name:
            spec["modelName"] = model_name
            made.origins["spec.modelName"] = path
            self._remark(RENAMED, path, f"no Kubernetes object can have this name: VirtualModel '{name}' has spec.modelName.")
        backends = {key: value for key, value in entry.items() if key not in _MODEL and isinstance(value, dict)}
        self._unknown({key: value for key, value in entry.items() if key not in backends}, path, (*_MODEL, "<backend>: {…}"))
        new_names = self._backend_names(backends, path)
        for key, new_key in (("use", "use"), ("current", "current"), ("base_url", "baseUrl")):
            if entry.get(key) is not None:
                spec[new_key] = entry[key]
                made.origins[f"spec.{new_key}"] = at(path, key)
        if isinstance(spec.get("current"), str):
            spec["current"] = new_names.get(spec["current"], spec["current"])
        self._reference(spec, entry, "proxy_key", path, "callers", name, made)
        spec["backends"] = [
            self._backend(new_names[key], backend, at(path, key), f"spec.backends[{index}]", made, name)
            for index, (key, backend) in enumerate(backends.items())
        ]
        return made

    def _backend_names(self, backends: Mapping[str, Any], path: str) -> dict[str, str]:
        """Return the new name of each backend; those that may stay as they are stay."""
        names: dict[str, str] = {}
        for key in sorted(backends, key=lambda key: key != label_name(key, (), "backend")):
            names[key] = label_name(key, {*names.values(), *RESERVED_BACKEND_NAMES}, "backend")
            if names[key] != key:
                self._remark(RENAMED, at(path, key), f"a backend's name is a DNS label: it is '{names[key]}' now.")
        return names

    def _backend(self, name: str, backend: dict[str, Any], path: str, target: str, made: Made, model: str) -> dict[str, Any]:
        """Convert one backend. Keys it does not have itself are request defaults that stand beside them: parameters."""
        made.origins[target] = path
        out: dict[str, Any] = {"name": name}
        for key, new_key in (("model", "model"), ("base_url", "baseUrl")):
            if backend.get(key) is not None:
                out[new_key] = backend[key]
                made.origins[f"{target}.{new_key}"] = at(path, key)
        self._reference(out, backend, "api_key", path, "backends", f"{model}.{name}", made, target)
        parameters = dict(self._section(backend, "parameters", path))
        for key in parameters:
            made.origins[at(f"{target}.parameters", key)] = at(f"{path}.parameters", key)
        for key, value in backend.items():
            if key in _BACKEND:
                continue
            if key in parameters and parameters[key] != value:
                self._remark(
                    REFUSED, at(f"{path}.parameters", key), "is also beside parameters with another value, which was taken."
                )
            parameters[key] = value
            made.origins[at(f"{target}.parameters", key)] = at(path, key)
        return out | self._named("parameters", parameters)

    def _reference(
        self,
        out: dict[str, Any],
        given: Mapping[str, Any],
        key: str,
        path: str,
        purpose: str,
        secret_key: str,
        made: Made,
        target: str = "",
    ) -> None:
        """Replace a key or password, or the file it was mounted as, by a reference to a Secret."""
        value, place = given.get(key), at(path, key)
        named = self._read_back(given.get(f"{key}_ref"), at(path, f"{key}_ref"))
        if value is not None and not isinstance(value, str):
            self._remark(REFUSED, place, "is not text and was left out. Put it in quotes.")
            value = None
        if value == "":
            self._remark(CHANGED, place, "is empty; taken as no key.")
        ref = named
        if value and (named is None or not self.secrets.keep_at(named, value)):
            ref = self.secrets.keep(purpose, secret_key, value)
            if named is not None:
                self._remark(
                    CHANGED, at(path, f"{key}_ref"), f"holds another value elsewhere; Secret '{ref.secret}' is named now."
                )
        if ref is not None:
            field_name = {"password": "passwordSecretRef", "api_key": "apiKeySecretRef", "proxy_key": "proxyKeySecretRef"}[key]
            out[field_name] = {"name": ref.secret, "key": ref.key}
            made.origins[f"{target or 'spec'}.{field_name}"] = place

    def _read_back(self, file: Any, path: str) -> SecretRef | None:
        """Return what the name of a mounted credentials file stands for."""
        if file is None:
            return None
        ref = secret_of(file) if isinstance(file, str) and file else None
        if ref is None or not ref.key:
            self._remark(
                REFUSED, path, f"'{shown(str(file))}' cannot be read back to a Secret and its key. Write the reference by hand."
            )
            return None
        return ref
