"""The generated objects of gateways, kept as files: `<root>/<namespace>/<gateway>/{config,credentials}`, as pods mount them.

Gives them back as an API server would hold them, so that plans find what is live, number revisions on and keep the last good
after a restart. Decides nothing. Called by `aigateway local`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aigateway_config import documents
from aigateway_operator.api import meta
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.errors import SettingsError
from aigateway_operator.local.swap import read_volume, swap_volume
from aigateway_operator.plan.names import config_map_name, credentials_name
from aigateway_operator.plan.result import Write

FOLDER: Final = ".aigateway"
"""Inside the folder of manifests."""
CONFIG: Final = "config"
CREDENTIALS: Final = "credentials"
_NUMBERS: Final = "numbers.json"
"""Highest revisions of a gateway that is gone: readers know its lineage, so a number must not come twice."""
_SHARD: Final = re.compile(r"(?:models|_manifest)-(\d\d)\.")
_SECRET: Final = "Secret"
_CONFIG_MAP: Final = "ConfigMap"

Objects = dict[tuple[str, str], dict[str, bytes]]
"""(kind, name) of a generated object → its values."""


class Rendered:
    """Everything rendered below one folder, which is readable by its owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that renders here. Raises SettingsError if another one does, or nothing can be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)
            (self.root / ".gitignore").write_text("*\n")  # credentials are in here
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(f"{self.root} cannot be written: {error.strerror}. Name another folder.") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingsError(f"another `aigateway local` renders into {self.root} already. Stop it first.") from None
            yield
        finally:
            os.close(lock)

    def gateways(self) -> list[GatewayKey]:
        """Return the gateways that have documents here."""
        found = self.root.glob(f"*/*/{CONFIG}")
        keys = [GatewayKey(path.parent.parent.name, path.parent.name) for path in found]
        return sorted(key for key in keys if read_volume(self.folder(key) / CONFIG))

    def folder(self, key: GatewayKey) -> Path:
        """Return where the volumes of a gateway are."""
        return self.root / key.namespace / key.name

    def live(self, key: GatewayKey, uid: str) -> list[dict[str, Any]]:
        """Return the generated objects of a gateway as JSON; `uid`: that of the GatewayConfig, which owns them."""
        return [_as_json(key, kind, name, values, uid) for (kind, name), values in self._objects(key).items()]

    def status(self, key: GatewayKey) -> dict[str, Any]:
        """Return what the status of a gateway that was removed last said of revisions; {} if it never was."""
        try:
            status = json.loads((self.folder(key) / _NUMBERS).read_bytes())
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def write(self, key: GatewayKey, writes: Iterable[Write]) -> list[str]:
        """Bring objects to what `writes` say, credentials first; return the names of those volumes that were swapped."""
        objects = self._objects(key)
        for write in writes:
            before = objects.get((write.kind, write.name), {})
            objects[write.kind, write.name] = {**{name: before[name] for name in write.keep}, **write.values}
        swapped = []
        for volume, kind in ((CREDENTIALS, _SECRET), (CONFIG, _CONFIG_MAP)):
            files = {name: value for (of, _), values in objects.items() if of == kind for name, value in values.items()}
            if swap_volume(self.folder(key) / volume, files):
                swapped.append(volume)
        return swapped

    def remove(self, key: GatewayKey) -> None:
        """Empty the volumes of a gateway and keep its numbers. Running pods keep what they have, as in a cluster."""
        highest = {"revision": 0, "credentialsRevision": 0}
        for values in self._objects(key).values():
            for name, value in values.items():
                for number in highest if name.endswith(".json") else ():
                    highest[number] = max(highest[number], _number(value, number))
        status = {"revision": highest["revision"], "rollout": {"credentialsRevision": highest["credentialsRevision"]}}
        (self.folder(key) / _NUMBERS).write_text(json.dumps(status))
        for volume in (CONFIG, CREDENTIALS):
            swap_volume(self.folder(key) / volume, {})

    def _objects(self, key: GatewayKey) -> Objects:
        """Return the generated objects, told apart by file names and, for credentials, by what their manifests list."""
        found: Objects = {}
        for name, value in read_volume(self.folder(key) / CONFIG).items():
            found.setdefault((_CONFIG_MAP, config_map_name(key.name, _shard(name))), {})[name] = value
        secrets = read_volume(self.folder(key) / CREDENTIALS)
        for name, value in secrets.items():
            if name.startswith("_manifest") and name.endswith(".json"):
                listed = {file: secrets[file] for file in _listed(value) if file in secrets}
                found[_SECRET, credentials_name(key.name, _shard(name))] = {**listed, name: value}
        return found


def _shard(file: str) -> int | None:
    match = _SHARD.match(file)
    return int(match[1]) if match else None


def _listed(manifest: bytes) -> list[str]:
    try:
        return documents.CredentialsManifest.model_validate_json(manifest).keys
    except ValueError:
        return []


def _number(manifest: bytes, name: str) -> int:
    try:
        value = json.loads(manifest).get(name, 0)
    except (ValueError, AttributeError):
        return 0
    return value if isinstance(value, int) else 0


def _as_json(key: GatewayKey, kind: str, name: str, values: Mapping[str, bytes], uid: str) -> dict[str, Any]:
    owner = {"apiVersion": meta.API_VERSION, "kind": meta.GATEWAY_CONFIG, "name": key.name, "uid": uid, "controller": True}
    metadata = {
        "name": name,
        "namespace": key.namespace,
        "uid": name,
        "resourceVersion": "1",
        "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.GATEWAY_LABEL: key.name},
        "ownerReferences": [owner],
    }
    if kind == _SECRET:
        data = {file: base64.b64encode(value).decode() for file, value in values.items()}
    else:
        data = {file: value.decode(errors="replace") for file, value in values.items()}
    return {"kind": kind, "metadata": metadata, "data": data}
