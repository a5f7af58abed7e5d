"""An operator in miniature for tests of the reader: renders real documents with the operator's own code, revision by revision.

`Writer` keeps what the cluster would hold; `reading()` is what a source would offer of it, `mount()` puts it into folders as
a kubelet does (a new dated folder, then one rename of `..data`). Not a test module.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigateway_config import documents
from aigateway_config.source import MemoryReading
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.render.entries import Entry, render_entry
from aigateway_operator.render.files import (
    Document,
    render_config,
    render_credentials_manifest,
    render_manifest,
    render_models,
)
from aigateway_operator.render.settings import Settings, render_settings
from tests.builders import make_backend, make_virtual_model

Files = dict[str, bytes]


@dataclass
class Writer:
    """A gateway's documents and credentials. Change `models`, `settings` or `values`, then `write()`."""

    lineage: str = "lineage-a"
    shards: int = 1
    gateway: GatewayKey = field(default_factory=lambda: GatewayKey("ai", "main"))
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=lambda: {"chat-keys.proxy": "caller-key", "openai.api-key": "sk-one"})
    revision: int = 0
    credentials_revision: int = 0
    files: Files = field(default_factory=dict)
    credentials: Files = field(default_factory=dict)

    def put(self, name: str = "chat", **overrides: Any) -> None:
        """Create or change a model; `write()` renders it."""
        self.models[name] = make_virtual_model("model", modelName=name, **overrides)["spec"]

    def shard_of(self, name: str) -> int | None:
        """Return the shard of a model, None when they are in config.yml."""
        return None if self.shards == 1 else sum(name.encode()) % self.shards

    def write(self) -> Writer:
        """Render everything; revisions move where content does. Returns itself."""
        entries = {name: render_entry(VirtualModelSpec.model_validate(spec), name) for name, spec in self.models.items()}
        settings = render_settings(GatewayConfigSpec.model_validate(self.spec))
        self._write_credentials(settings, entries)
        moved = self.revision + 1
        for document in self._documents(settings, entries):
            if self.files.get(document.file) != document.content:
                self.revision = moved
                self.files |= self.manifested(document, moved)
        return self

    def _by_shard(self, entries: Mapping[str, Entry]) -> dict[int | None, list[Entry]]:
        found: dict[int | None, list[Entry]] = {shard: [] for shard in ([None] if self.shards == 1 else range(self.shards))}
        for name, entry in entries.items():
            found[self.shard_of(name)].append(entry)
        return found

    def _documents(self, settings: Settings, entries: Mapping[str, Entry]) -> list[Document]:
        by_shard = self._by_shard(entries)
        shards = [render_models(shard, own) for shard, own in by_shard.items() if shard is not None]
        return [render_config(settings, by_shard.get(None, [])), *shards]

    def manifested(self, document: Document, revision: int) -> Files:
        """Return a document with its manifest."""
        manifest = render_manifest(
            document, gateway=self.gateway, lineage=self.lineage, shards=self.shards, revision=revision, sources={}
        )
        return {document.file: document.content, document.manifest_file: manifest}

    def _write_credentials(self, settings: Settings, entries: Mapping[str, Entry]) -> None:
        """Render the credentials Secrets: each what its document names, that of the gateway the values of nobody too."""
        by_shard = self._by_shard(entries)
        named = {shard: {ref for entry in own for ref in entry.credentials} for shard, own in by_shard.items()}
        nobodys = self.values.keys() - set().union(*named.values())
        named[None] = {*named.get(None, ()), *settings.credentials, *nobodys}
        moved = self.credentials_revision + 1
        made: Files = {}
        for shard, names in named.items():
            held = {name: self.values[name].encode() for name in names & self.values.keys()}
            file = documents.credentials_manifest(shard)
            same = {name: self.credentials.get(name) for name in held} == held
            known = json.loads(self.credentials[file]) if file in self.credentials else {}
            if same and set(known.get("keys", "?")) == held.keys() and set(known["missing"]) == names - held.keys():
                made |= {**held, file: self.credentials[file]}
                continue
            self.credentials_revision = moved
            made |= {**held, file: self._credentials_manifest(shard, moved, held, names - held.keys())}
        self.credentials = made

    def _credentials_manifest(self, shard: int | None, revision: int, keys: Iterable[str], missing: Iterable[str]) -> bytes:
        return render_credentials_manifest(
            gateway=self.gateway, lineage=self.lineage, shard=shard, revision=revision, keys=keys, missing=missing
        )

    def reading(self, *, documents_only: bool = False) -> MemoryReading:
        """Return what a source would offer now."""
        return MemoryReading(dict(self.files), None if documents_only else MemoryReading(dict(self.credentials)))

    def changed_manifest(self, file: str = documents.CONFIG_MANIFEST, **changes: Any) -> Files:
        """Return the files with keys of one manifest replaced; `...` removes one."""
        manifest = {**json.loads(self.files[file]), **changes}
        return self.files | {file: json.dumps({key: value for key, value in manifest.items() if value is not ...}).encode()}


def make_writer(*names: str, **fields: Any) -> Writer:
    """Return a writer with these models (`chat` by default), written once."""
    writer = Writer(**fields)
    for name in names or ("chat",):
        writer.put(name)
    return writer.write()


def keyed_backend(secret: str, name: str = "small", **overrides: Any) -> dict[str, Any]:
    """Return a backend whose key is in Secret `secret` under `api-key`: credentials file `<secret>.api-key`."""
    return make_backend(name, apiKeySecretRef={"name": secret, "key": "api-key"}, **overrides)


def swap(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace the content of a mounted folder as a kubelet does: all of it at once, by one rename of `..data`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "..data"
    old = data.readlink() if data.is_symlink() else None
    dated = folder / f"..2026_01_01_{secrets.token_hex(6)}"
    dated.mkdir()
    for name, content in files.items():
        (dated / name).write_bytes(content)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(dated.name)
    fresh.rename(data)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for entry in list(folder.iterdir()):
        if not entry.name.startswith("..") and entry.name not in files:
            entry.unlink()
    if old is not None:
        shutil.rmtree(folder / old)


@dataclass
class Mount:
    """The two folders of a pod."""

    config: Path
    credentials: Path

    def show(self, writer: Writer) -> None:
        """Bring everything of the writer into the folders, credentials first."""
        swap(self.credentials, writer.credentials)
        swap(self.config, writer.files)


def make_mount(tmp_path: Path) -> Mount:
    """Return two folders that are there and empty."""
    mount = Mount(tmp_path / "config", tmp_path / "credentials")
    mount.config.mkdir()
    mount.credentials.mkdir()
    return mount
