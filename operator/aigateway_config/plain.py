"""A plain `config.yml` without manifest, secrets in the text: for development, and for programs that have nothing else.

Turns the file into the documents, manifest and credentials that the operator would have written, so that everything after it
is the same. Needs PyYAML. Never for pods: nothing of the file is verified. Used by the reader.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from aigateway_config import documents
from aigateway_config.source import MemoryReading, Offer
from aigateway_config.watch import watching

GATEWAY: Final = "local/plain-file"
LIMIT_BYTES: Final = 16 * 1024 * 1024

_APP: Final = {"host": "0.0.0.0", "port": 8000, "debug": False}  # noqa: S104  the default of the resource
_STORES: Final[Mapping[str, Mapping[str, Any]]] = {
    "mongodb": {"port": 27017, "username": None, "database": "ai_gateway", "auth_source": "admin"},
    "redis": {"port": 6379},
    "qdrant": {"port": 6333, "collection": "knowledge_base"},
}
_SECRETS: Final = {"mongodb": "password", "redis": "password", "qdrant": "api_key"}
_ENTRY: Final = ("use", "current", "base_url", "proxy_key")
_BACKEND: Final = ("model", "base_url", "api_key", "parameters")
_DAYS: Final = re.compile(r"([0-9]{1,6})\s*(d|days?)?", re.IGNORECASE)


class PlainFile:
    """A plain configuration file. `poll_seconds` is how long a change may go unseen if the watch misses it."""

    name = "plain-file"

    def __init__(self, path: Path | str, *, poll_seconds: float = 1.0) -> None:
        self._path = Path(path)
        self._poll_seconds = poll_seconds
        self._revision = 0
        self.ignored: Mapping[str, int] = {}

    async def run(self, offer: Offer) -> None:
        """Offer the file now and after every change, until cancelled."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="aigateway-config-plain")
        offered: bytes | str | None = None
        try:
            async with watching([self._path.parent]) as watch:
                while True:
                    content = await asyncio.get_running_loop().run_in_executor(executor, self._read)
                    if content != offered:
                        self._revision += 1
                        await offer(await asyncio.get_running_loop().run_in_executor(executor, self._reading, content))
                        offered = content
                    await watch.changed(self._poll_seconds)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> bytes | str:
        """Return the file, or why it cannot be taken."""
        try:
            with self._path.open("rb") as file:
                content = file.read(LIMIT_BYTES + 1)
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        return content if len(content) <= LIMIT_BYTES else f"{self._path} is larger than 16 MiB"

    def _document(self, content: bytes, secrets: dict[str, bytes]) -> bytes | str:
        """Return the document, or why there is none."""
        import yaml  # only this source needs it

        try:
            return json.dumps(as_documents(yaml.safe_load(content), secrets)).encode()
        except yaml.MarkedYAMLError as error:  # its text would quote the file, secrets included
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            return f"{self._path}, line {line}: {error.problem}"
        except (yaml.YAMLError, TypeError, ValueError, AttributeError, RecursionError):
            return f"{self._path} is no mapping of app, storage, web_search, ai-gateway and log"

    def _reading(self, content: bytes | str) -> MemoryReading:
        """Return what the operator would have written; a text in place of a content says why there is none."""
        secrets: dict[str, bytes] = {}
        found = content if isinstance(content, str) else self._document(content, secrets)
        document = b"" if isinstance(found, str) else found
        lineage = f"file:{self._path}"
        manifest = {
            "schema": documents.SCHEMA,
            "gateway": GATEWAY,
            "lineage": lineage,
            "shards": 1,
            "shard": None,
            "revision": self._revision,
            "sha256": sha256(document).hexdigest(),
            "sources": {},
        }
        credentials = {
            "schema": documents.SCHEMA,
            "gateway": GATEWAY,
            "lineage": lineage,
            "shard": None,
            "credentialsRevision": self._revision,
            "keys": sorted(secrets),
            "missing": [],
        }
        files = {documents.CONFIG_MANIFEST: json.dumps(manifest).encode(), documents.CONFIG_FILE: document}
        beside = MemoryReading({documents.CREDENTIALS_MANIFEST: json.dumps(credentials).encode(), **secrets})
        return _NotReadable(files, beside, reason=found) if isinstance(found, str) else MemoryReading(files, beside)


@dataclass(frozen=True, slots=True)
class _NotReadable(MemoryReading):
    """A reading whose document cannot be read."""

    reason: str = ""

    def read(self, name: str) -> bytes | None:
        """Return a file. Raises OSError with the reason for the document."""
        if name == documents.CONFIG_FILE:
            raise OSError(None, self.reason)
        return self.files.get(name)


def as_documents(config: Mapping[str, Any], secrets: dict[str, bytes]) -> dict[str, Any]:
    """Return `config.yml` as the operator writes it; keys and passwords of the text go into `secrets` by file name.

    What is not named gets the default of the resource. Raises TypeError, ValueError or AttributeError for what is no
    configuration; details are left to the document's own check.
    """
    storage = config.get("storage") or {}
    search = config.get("web_search")
    models = (config.get("ai-gateway") or {}).get("virtual_models") or {}
    log = config.get("log") or {}
    return {
        "app": {**_APP, **(config.get("app") or {})},
        "storage": {name: _store(name, storage.get(name), secrets) for name in _STORES},
        "web_search": search and _referenced({"options": {}, **search}, "api_key", "web_search", secrets),
        "ai-gateway": {"virtual_models": {str(name): _entry(str(name), entry, secrets) for name, entry in models.items()}},
        "log": {name: _stream(log.get(name) or {}) for name in ("system", "operation")},
    }


def _referenced(mapping: Mapping[str, Any], key: str, place: str, secrets: dict[str, bytes]) -> dict[str, Any]:
    """Replace the value under `key` by the name of a credentials file."""
    made = {name: value for name, value in mapping.items() if name != key}
    value = mapping.get(key)
    made[f"{key}_ref"] = None
    if value is not None:
        made[f"{key}_ref"] = f"{place}.{key}"
        secrets[f"{place}.{key}"] = str(value).encode()
    return made


def _store(name: str, store: Mapping[str, Any] | None, secrets: dict[str, bytes]) -> dict[str, Any] | None:
    if store is None:
        return None
    made = _referenced({**_STORES[name], "tls": None, **store}, _SECRETS[name], f"storage.{name}", secrets)
    if made["tls"] is not None:
        made["tls"] = _referenced(made["tls"], "ca", f"storage.{name}.tls", secrets)
    return made


def _entry(name: str, entry: Mapping[str, Any], secrets: dict[str, bytes]) -> dict[str, Any]:
    fixed = {"use": True, "base_url": None, **{key: entry[key] for key in _ENTRY if key in entry}}
    made = _referenced({"proxy_key": "", **fixed}, "proxy_key", f"models.{name}", secrets)
    for key, backend in entry.items():
        if key not in _ENTRY and isinstance(backend, Mapping):
            own = {"base_url": entry.get("base_url"), **{name: backend[name] for name in _BACKEND if name in backend}}
            spread = {name: value for name, value in backend.items() if name not in _BACKEND}
            own["parameters"] = {**(own.get("parameters") or {}), **spread}
            made[key] = _referenced(own, "api_key", f"models.{name}.{key}", secrets)
    return made


def _stream(stream: Mapping[str, Any]) -> dict[str, Any]:
    retention = stream.get("retention", 30)
    match = _DAYS.fullmatch(retention.strip()) if isinstance(retention, str) else None
    return {
        "level": stream.get("level", "INFO"),
        "storage": {"sinks": ["file", "mongodb"], "path": "logs", **(stream.get("storage") or {})},
        "retention": int(match[1]) if match else retention,
    }
