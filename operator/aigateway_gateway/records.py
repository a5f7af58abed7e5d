"""What the gateway keeps of requests and reloads: operation records, through the same library as the operator's.

Made in a thread, many at a time, since a request must not pay for them. A record holds names, numbers and ids only: no prompt,
no completion, no key. Where they go (`spec.log`, `storage.mongodb`) follows the configuration in force, while running.
Called by `access` and `serve`. Source: docs/logging.md#gateway.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from loguru import logger

from aigateway_config import Configuration
from aigateway_config.documents import LogStream
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.stores.store import check_host
from aigateway_logs import (
    DualLog,
    FileSettings,
    LogSettings,
    MongoSettings,
    OperationRecord,
    SpoolSettings,
    StreamSettings,
    register_secret,
)

if TYPE_CHECKING:
    from aigateway_gateway.access import Access

SOURCE: Final = "gateway"
STOP_SECONDS: Final = 5.0
_GATHER_SECONDS: Final = 0.05
_LOOK_AGAIN_SECONDS: Final = 10.0
_MOST_WAITING: Final = 20_000
_MEBIBYTE: Final = 1024 * 1024


class Records:
    """The records of one worker. `follow` every configuration, `put` every request that is over, `stop` at the end."""

    def __init__(self, settings: GatewaySettings, configured: Callable[[], None] = lambda: None) -> None:
        """`configured` is called whenever logging has been set up anew."""
        self._settings = settings
        self._configured = configured
        self._logs: DualLog | None = None
        self._folder: Path | None = None
        self._secrets = tempfile.TemporaryDirectory(prefix="aigateway-log-ca-")
        self._waiting: deque[tuple[Access, datetime]] = deque(maxlen=_MOST_WAITING)
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-records", daemon=True)
        self._pod = socket.gethostname()
        self._looking: asyncio.Task[None] | None = None
        """Looks for the address of MongoDB again, while its name does not resolve."""

    @classmethod
    def wanted(cls, settings: GatewaySettings) -> bool:
        """Tell whether settings name a place for records; without one nothing of this is started."""
        return settings.log_dir is not None or settings.log_spool_dir is not None

    def put(self, access: Access) -> None:
        """Keep a request that is over; costs a microsecond. Beyond 20,000 that wait the oldest are given up."""
        self._waiting.append((access, datetime.now(UTC)))
        if not self._wake.is_set():
            self._wake.set()

    async def follow(self, new: Configuration, old: Configuration | None) -> None:
        """Take up what a configuration says of logs, and record that it is in force here."""
        if old is None or _log_part(old) != _log_part(new):
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
            await self._set_up(new)
        if self._logs is not None:
            self._logs.operation_nowait(_reload(new, old, self._pod))

    async def stop(self) -> None:
        """Write what waits, ship what can be shipped for a moment, and end."""
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.to_thread(self._stop)

    async def _set_up(self, configuration: Configuration) -> None:
        """Log as a configuration says. While MongoDB's name does not resolve, what is meant for it waits in the spool."""
        try:
            uri = await self._uri(configuration)
        except OSError as error:
            uri = None
            logger.warning("Logs wait for MongoDB, whose name does not resolve: {}", error)
            self._looking = asyncio.create_task(self._look_again(configuration), name="log store")
        await asyncio.to_thread(self._take_up, self._log_settings(configuration, uri))

    async def _look_again(self, configuration: Configuration) -> None:
        """Wait until the name resolves: nothing is connected to whose address has not been checked."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            with suppress(OSError):
                uri = await self._uri(configuration)
                break
        await asyncio.to_thread(self._take_up, self._log_settings(configuration, uri))

    def _log_settings(self, configuration: Configuration, uri: str | None) -> LogSettings:
        own = self._settings
        log, mongodb = configuration.log, configuration.storage.mongodb
        ships = own.log_spool_dir is not None and mongodb is not None
        files = None if own.log_dir is None else FileSettings(own.log_dir / log.operation.storage.path, own.log_format)
        return LogSettings(
            system=_stream(log.system, ships=ships),
            operation=_stream(log.operation, ships=ships),
            files=files,
            spool=None if own.log_spool_dir is None else SpoolSettings(own.log_spool_dir, own.log_spool_mebibytes * _MEBIBYTE),
            mongodb=None if uri is None or mongodb is None or not ships else MongoSettings(uri, mongodb.database),
            stderr_level="DEBUG" if configuration.app.debug else own.log_level,
            stderr_format=own.log_format,
        )

    async def _uri(self, configuration: Configuration) -> str | None:
        """Return the URI of `storage.mongodb`; None without one, and for an address that the gateway may not talk to.

        Raises OSError while the name does not resolve.
        """
        settings = configuration.storage.mongodb
        if settings is None:
            return None
        try:
            await check_host(settings.host, settings.port, self._settings.allow_addresses)
        except PermissionError as error:
            logger.warning("Logs are not sent to MongoDB, whose address is refused: {}", error)
            return None
        options = {"directConnection": "true", "authSource": settings.auth_source} if settings.username else {}
        options |= {"directConnection": "true", "appName": "aigateway"}
        if settings.tls is not None and settings.tls.enabled:
            options["tls"] = "true"
            ca = configuration.secret(settings.tls.ca_ref)
            if ca is not None:  # the driver takes a CA as a file only
                path = Path(self._secrets.name) / "ca.crt"
                await asyncio.to_thread(path.write_text, ca.get_secret_value())
                options["tlsCAFile"] = str(path)
        user = ""
        if settings.username is not None:
            secret = configuration.secret(settings.password_ref)
            password = "" if secret is None else secret.get_secret_value().strip()
            register_secret(password)
            user = f"{quote(settings.username, safe='')}:{quote(password, safe='')}@"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"mongodb://{user}{host}:{settings.port}/?{urlencode(options)}"

    def _take_up(self, settings: LogSettings) -> None:
        """Begin, change, or begin anew where files go elsewhere. In a thread."""
        folder = None if settings.files is None else settings.files.folder
        if self._logs is not None and folder == self._folder:
            self._logs.apply(settings)
        else:
            before, self._folder = self._logs, folder
            logs = DualLog(settings)
            if before is not None:
                before.stop_blocking(1.0)
            logs.start()
            self._logs = logs
            if not self._thread.is_alive():
                self._thread.start()
        self._configured()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait()
            self._ending.wait(_GATHER_SECONDS)
            self._wake.clear()
            self._write()

    def _write(self) -> None:
        logs = self._logs
        while logs is not None and self._waiting:
            access, moment = self._waiting.popleft()
            logs.operation_nowait(request_record(access, moment, self._pod))

    def _stop(self) -> None:
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._write()
        if self._logs is not None:
            self._logs.stop_blocking(STOP_SECONDS)
        self._secrets.cleanup()


def request_record(access: Access, moment: datetime, pod: str) -> OperationRecord:
    """Return the record of a request: `model_call` if a backend was chosen for it, else `http_response` or `http_error`."""
    failed = access.status >= 400
    called = bool(access.backend)
    return OperationRecord(
        "model_call" if called else "http_error" if failed else "http_response",
        f"{access.endpoint} answered {access.status}",
        status="failure" if failed else "success",
        level="WARNING" if access.status >= 500 else "INFO",
        source=SOURCE,
        user_id=access.key_name or None,
        resource_type="VirtualModel" if access.model else None,
        resource_id=access.model or None,
        duration_ms=round(access.duration_ms, 3),
        request_data={"endpoint": access.endpoint, "stream": access.stream},
        response_data={
            "status": access.status,
            "error_code": access.error_code,
            "prompt_tokens": access.prompt_tokens,
            "completion_tokens": access.completion_tokens,
            "first_byte_ms": None if access.first_byte_ms is None else round(access.first_byte_ms, 3),
        },
        metadata={"backend": access.backend, "pod": pod},
        trace_id=access.trace_id,
        timestamp=moment,
    )


def _log_part(configuration: Configuration) -> tuple[object, ...]:
    """Return what decides where logs go."""
    mongodb = configuration.storage.mongodb
    secrets: tuple[object, ...] = ()
    if mongodb is not None:
        refs = (mongodb.password_ref, mongodb.tls.ca_ref if mongodb.tls is not None else None)
        secrets = tuple(configuration.secret(ref) for ref in refs)
    return configuration.log, mongodb, configuration.app.debug, secrets


def _stream(stream: LogStream, *, ships: bool) -> StreamSettings:
    sinks = frozenset(stream.storage.sinks) - (frozenset() if ships else {"mongodb"})
    return StreamSettings(stream.level, sinks, stream.retention)


def _reload(new: Configuration, old: Configuration | None, pod: str) -> OperationRecord:
    before = None if old is None or old.lineage != new.lineage else old.revision
    return OperationRecord(
        "config_update",
        f"Pod {pod} runs revision {new.revision} of gateway {new.gateway}",
        source=SOURCE,
        resource_type="GatewayConfig",
        resource_id=new.gateway,
        metadata={
            "change_type": "reload",
            "change_summary": f"revision {before} → {new.revision}",
            "previous_version": before,
            "new_version": new.revision,
            "changed_by": None,
            "lineage": new.lineage,
            "credentials_revision": new.credentials_revision,
            "pod": pod,
            "worker": os.getpid(),
        },
    )
