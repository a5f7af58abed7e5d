"""The programs of examples/02-pods for tests: built, started, asked; and documents as the operator would write them."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from aigateway_config import documents
from hack.gobuild import BuildError, find_go
from hack.kubelet.writer import File, write_volume
from hack.process import REAPER, ServerError, ServerProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "02-pods"
STATUS_PORT, PORT = 8081, 8000
READER = "AIGATEWAY_READER"
"""Variable with the shell command of somebody's own program, to be tried instead: docs/other-languages.md."""
LANGUAGES = ("own",) if READER in os.environ else ("python", "go")


def command_of(language: str) -> list[str]:
    """Return what starts a program; skips the test where there is no Go, since servers may come as downloads."""
    if language == "own":
        return ["sh", "-c", f"cd {shlex.quote(str(Path.cwd()))} && exec {os.environ[READER]}"]
    if language == "python":
        return [sys.executable, str(EXAMPLE / "python" / "app.py")]
    try:
        return [str(_built())]
    except BuildError as error:
        pytest.skip(f"the Go program is not tried: {error}")


@cache
def _built() -> Path:
    """Build the Go program once a process, outside the example's folder."""
    go, environment = find_go()
    folder = Path(tempfile.mkdtemp(prefix="aigateway-go-"))
    REAPER.tell("+folder", folder)
    source = shutil.copytree(EXAMPLE / "go", folder / "source")
    for arguments in (["vet", "."], ["build", "-o", str(folder / "reader"), "."]):
        done = subprocess.run(
            [go, *arguments], cwd=source, env=environment, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder / "reader"


def get(ip: str, path: str, port: int) -> tuple[int, Any]:
    """Return status code and JSON of an answer; an AssertionError when there is none, so that `eventually` asks again."""
    connection = http.client.HTTPConnection(ip, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AssertionError(f"http://{ip}:{port}{path}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


@dataclass
class Volumes:
    """The two folders of a pod. Tests change `config` and `credentials` (file → bytes) and `swap` them in."""

    root: Path
    lineage: str = "lineage-1"
    shards: int = 1
    config: dict[str, bytes] = field(default_factory=dict)
    credentials: dict[str, bytes] = field(default_factory=dict)

    def swap(self, *, config_first: bool = False) -> None:
        """Bring both folders in, credentials first as the operator writes them, or last, so that they are a fence."""
        folders = [("credentials", self.credentials), ("config", self.config)]
        for name, files in reversed(folders) if config_first else folders:
            write_volume(self.root / name, {file: File(content) for file, content in files.items()})

    def put(self, revision: int, *, shard: int | None = None, current: str = "small", **changes: Any) -> None:
        """Make a document with one model `chat` (in a shard, if there are any); `changes` replace keys of its manifest."""
        in_shards = self.shards > 1
        models = {"chat": _entry(current)} if (shard is not None) == in_shards else {}
        content = json.dumps({**({} if shard is not None else _SETTINGS), "ai-gateway": {"virtual_models": models}}).encode()
        stem = "config" if shard is None else f"models-{shard:02d}"
        manifest = {
            "schema": documents.SCHEMA,
            "gateway": "ai/main",
            "lineage": self.lineage,
            "shards": self.shards,
            "shard": shard,
            "revision": revision,
            "sha256": hashlib.sha256(content).hexdigest(),
            "sources": {},
            **changes,
        }
        self.config |= {f"{stem}.yml": content, f"{stem}.manifest.json": json.dumps(manifest).encode()}

    def put_credentials(self, revision: int, values: Mapping[str, str], missing: Sequence[str] = ()) -> None:
        """Make the credentials and their manifest."""
        manifest = {
            "schema": documents.SCHEMA,
            "gateway": "ai/main",
            "lineage": self.lineage,
            "shard": None,
            "credentialsRevision": revision,
            "keys": sorted(values),
            "missing": sorted(missing),
        }
        self.credentials = {name: value.encode() for name, value in values.items()}
        self.credentials[documents.CREDENTIALS_MANIFEST] = json.dumps(manifest).encode()


KEYS = {"callers.chat": "canary-caller", "openai.key": "canary-backend"}
_STREAM = {"level": "INFO", "storage": {"sinks": ["file"], "path": "logs"}, "retention": 30}
_SETTINGS = {
    "app": {"host": "0.0.0.0", "port": 8000, "debug": False},
    "storage": {"mongodb": None, "redis": None, "qdrant": None},
    "web_search": None,
    "log": {"system": _STREAM, "operation": _STREAM},
    "of-a-later-minor": {"ignored": True},
}


def _entry(current: str) -> dict[str, Any]:
    backend = {"base_url": "https://api.example.com/v1", "api_key_ref": "openai.key", "parameters": {}}
    return {
        "use": True,
        "current": current,
        "base_url": None,
        "proxy_key_ref": "callers.chat",
        "small": {**backend, "model": "gpt-4o-mini"},
        "big": {**backend, "model": "gpt-4o", "api_key_ref": None},
    }


@dataclass(frozen=True)
class RunningProgram:
    """One program on its volumes; `ip` is where it listens."""

    process: ServerProcess
    ip: str

    def answer(self) -> documents.StatusAnswer:
        """Return what it answers on the status port, which must fit the published shape."""
        if not self.process.running:
            raise ServerError(f"the program has ended.\n{self.process.log_tail()}")
        code, body = get(self.ip, documents.STATUS_PATH, STATUS_PORT)
        assert code == 200, body
        return documents.StatusAnswer.model_validate_json(json.dumps(body))

    def models(self) -> Any:
        """Return what it serves."""
        return get(self.ip, "/models", PORT)[1]
