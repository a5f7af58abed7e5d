"""The gateway as a process of its own on folders as a kubelet mounts them. Not a test module."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from aigateway_config import documents
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
APP = {"host": "127.0.0.1", "port": 0, "debug": False}
NO_STORES: Mapping[str, Any] = {"mongodb": None, "redis": None, "qdrant": None}
NO_SECRETS: Mapping[str, str] = {}
STREAM = {"level": "INFO", "storage": {"sinks": ["file"], "path": "logs"}, "retention": 30}


class Volume:
    """Folders as a kubelet mounts them, written by `write` in one swap each."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.config, self.credentials = folder / "config", folder / "credentials"
        self._upstream = upstream
        self.revision = 0

    def write(
        self,
        current: str,
        *,
        debug: bool = False,
        storage: Mapping[str, Any] = NO_STORES,
        secrets: Mapping[str, str] = NO_SECRETS,
        stream: Mapping[str, Any] = STREAM,
    ) -> None:
        """Bring a new revision whose live backend is `current`.

        `stream`: both log streams.
        `secrets`: further files of credentials; `backend.key`, if it is among them, is the key for the backends.
        """
        self.revision += 1
        values = {"chat.proxy": "key-chat", **secrets}
        key = "backend.key" if "backend.key" in values else None
        common_part: dict[str, Any] = {"base_url": self._upstream, "api_key_ref": key, "parameters": {}}
        backends: dict[str, Any] = {name: {"model": f"up-{name}", **common_part} for name in "ab"}
        entry = {"use": True, "current": current, "base_url": None, "proxy_key_ref": "chat.proxy", **backends}
        document = {
            "app": {**APP, "debug": debug},
            "storage": {**NO_STORES, **storage},
            "web_search": None,
            "ai-gateway": {"virtual_models": {"chat": entry}},
            "log": {"system": stream, "operation": stream},
        }
        content = json.dumps(document).encode()
        common = {"schema": documents.SCHEMA, "gateway": "ai/main", "lineage": "l1", "shard": None}
        digest = sha256(content).hexdigest()
        manifest = {**common, "shards": 1, "revision": self.revision, "sha256": digest, "sources": {"chat": "chat/00000000"}}
        keys = {**common, "credentialsRevision": self.revision, "keys": sorted(values), "missing": []}
        credentials = {name: value.encode() for name, value in values.items()}
        self._swap(self.credentials, {"_manifest.json": json.dumps(keys).encode(), **credentials})
        self._swap(self.config, {"config.yml": content, "config.manifest.json": json.dumps(manifest).encode()})

    def _swap(self, folder: Path, files: dict[str, bytes]) -> None:
        version = folder / f"..{self.revision}"
        version.mkdir(parents=True)
        for name, content in files.items():
            (version / name).write_bytes(content)
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").replace(folder / "..data")


class Program:
    """A gateway process; `lines` is what it logged."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def find(self, pattern: str) -> str:
        """Wait for a line and return its first group."""

        def found() -> str:
            matches = [match for line in self.lines if (match := re.search(pattern, line))]
            assert matches, "".join(self.lines)[-4000:]
            return str(matches[0][1])

        return eventually(found, within_seconds=40)

    @property
    def url(self) -> str:
        return self.find(r"serves at (http://[\w.:]+)")

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        code = self.process.wait(20)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@contextmanager
def gateway_program(folder: Path, **settings: str) -> Iterator[Program]:
    """Run `python -m aigateway_gateway` on a volume."""
    given = {
        "CONFIG_DIR": str(folder / "config"),
        "CREDENTIALS_DIR": str(folder / "credentials"),
        "STATUS_HOST": "127.0.0.1",
        "STATUS_PORT": "0",
        "DRAIN_SECONDS": "0.2",
        **settings,
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIGATEWAY_")},
        "PYTHONPATH": str(ROOT / "operator"),
        "AIGATEWAY_ALLOW_ADDRESSES": "127.0.0.0/8",
        **{f"AIGATEWAY_GATEWAY_{name}": value for name, value in given.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "aigateway_gateway"], env=environment, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        program.end()
