"""Configurations made in memory, and a gateway in a thread that serves them: real uvicorn, real sockets, no files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from types import MappingProxyType, TracebackType
from typing import Any, Self

import uvicorn
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_config.model import Backend, Model
from aigateway_config.subscribers import Callback
from aigateway_gateway.app import create_app
from aigateway_gateway.metrics import Metrics
from aigateway_gateway.serve import listen
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.state import Gateway

LOOPBACK = (ip_network("127.0.0.0/8"),)


def make_backend(base_url: str = "http://10.0.0.1/v1", **values: Any) -> Backend:
    """Return a backend `small` with a key."""
    given: dict[str, Any] = {"name": "small", "model": "up-small", "api_key_ref": "openai.api-key", "parameters": {}}
    given |= {"api_key": SecretStr("sk-backend"), "base_url": base_url} | values
    return Backend(**given)


def make_model(name: str = "chat", *backends: Backend, key: str | None = "key-chat", **values: Any) -> Model:
    """Return a model of the given backends, the first one live."""
    known = {backend.name: backend for backend in backends or (make_backend(),)}
    given: dict[str, Any] = {
        "use": True,
        "current": next(iter(known)),
        "base_url": None,
        "proxy_key_ref": f"{name}.proxy",
        "fingerprint": b"",
    }
    given |= {"proxy_key": None if key is None else SecretStr(key), "backends": MappingProxyType(known)} | values
    return Model(name=name, **given)


def make_configuration(*models: Model, revision: int = 1, **values: Any) -> Configuration:
    """Return a configuration of the given models, without datastores."""
    stream = documents.LogStream(level="INFO", storage=documents.LogStorage(sinks=["file"], path="logs"), retention=30)
    given: dict[str, Any] = {
        "lineage": "l1",
        "gateway": "ai/main",
        "documents": {"config.yml": documents.DocumentState(revision=revision, digest="0" * 64)},
        "credentials": {"_manifest.json": 1},
        "loaded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "app": documents.App(host="127.0.0.1", port=0, debug=False),
        "storage": documents.Storage(mongodb=None, redis=None, qdrant=None),
        "web_search": None,
        "log": documents.Log(system=stream, operation=stream),
        "models": {model.name: model for model in models},
        "secrets": {},
    }
    return Configuration(**given | values)


@dataclass
class FakeReader:
    """A reader whose configuration the test sets."""

    current: Configuration | None = None
    error: str | None = None
    callbacks: list[Callback] = field(default_factory=list)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


class RunningGateway:
    """`with RunningGateway(configuration) as gateway:` serves at `gateway.url`."""

    def __init__(self, configuration: Configuration | None, **settings: Any) -> None:
        given: Mapping[str, Any] = {"allow_addresses": LOOPBACK, "drain_seconds": 0, **settings}
        self.settings = GatewaySettings(**given)
        self.reader = FakeReader(configuration)
        self.registry = CollectorRegistry()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._up = threading.Event()
        self._socket = listen("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, configuration: Configuration | None) -> None:
        """Bring another configuration into force."""
        self.reader.current = configuration

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10), "the gateway did not start"
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.gateway = Gateway(self.settings, self.reader, Metrics(self.registry))
        app = create_app(self.gateway)
        config = uvicorn.Config(app, log_config=None, lifespan="on", access_log=False, timeout_graceful_shutdown=1, ws="none")
        self.server = uvicorn.Server(config)
        task = asyncio.create_task(self.server.serve(sockets=[self._socket]))
        while not self.server.started:
            await asyncio.sleep(0.005)
        self._up.set()
        await task
        self._socket.close()
