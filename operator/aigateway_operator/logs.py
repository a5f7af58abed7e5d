"""The logs of one process of the operator: settings → `aigateway_logs`, followed while the MongoDB URI's Secret changes.

Part of the composition roots `main` and `webhook`, which start and stop what is made here. Decides nothing about records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from loguru import logger

from aigateway_logs import (
    DualLog,
    FileSettings,
    LogSettings,
    MongoSettings,
    SpoolSettings,
    StreamSettings,
    register_secret,
)
from aigateway_operator.errors import SettingsError
from aigateway_operator.settings import Settings

LOOK_SECONDS: Final = 10.0
"""How often the file with the URI is read again; a kubelet takes a minute to change it."""
STOP_SECONDS: Final = 5.0
"""How long the end of a process may take to ship what is left; the rest waits on disk."""
_MEBIBYTE: Final = 1024 * 1024
_SCHEMES: Final = ("mongodb://", "mongodb+srv://")


def read_uri(settings: Settings) -> str | None:
    """Return the MongoDB URI; None: none is set, or its file is not there yet. Raises SettingsError for what is no URI."""
    uri = settings.log_mongodb_uri.get_secret_value() if settings.log_mongodb_uri is not None else None
    if settings.log_mongodb_uri_file is not None:
        uri = _read(settings.log_mongodb_uri_file)
    uri = (uri or "").strip()
    if not uri:
        return None
    if not uri.startswith(_SCHEMES):
        raise SettingsError(
            "The MongoDB URI of AIGATEWAY_LOG_MONGODB_URI or AIGATEWAY_LOG_MONGODB_URI_FILE does not begin with mongodb:// "
            "or mongodb+srv://. Correct it; it is not shown, since it may hold a password."
        )
    _forget_in_logs(uri)
    return uri


def log_settings(settings: Settings, uri: str | None) -> LogSettings:
    """Return what the library is told; `uri` None: MongoDB is not known (yet)."""
    files = spool = mongodb = None
    if settings.log_dir is not None:
        files = FileSettings(settings.log_dir, settings.log_files_format)
    if settings.log_spool_dir is not None:
        spool = SpoolSettings(settings.log_spool_dir, settings.log_spool_mebibytes * _MEBIBYTE)
    elif uri is not None or settings.log_mongodb_uri_file is not None:
        raise SettingsError(
            "A MongoDB is named for logs, but no folder where records wait while it is away. Set AIGATEWAY_LOG_SPOOL_DIR."
        )
    if uri is not None:
        mongodb = MongoSettings(uri, settings.log_mongodb_database, indexes=settings.log_mongodb_indexes)
    return LogSettings(
        system=StreamSettings(settings.log_system_level, retention_days=settings.log_system_retention_days),
        operation=StreamSettings(settings.log_operation_level, retention_days=settings.log_operation_retention_days),
        files=files,
        spool=spool,
        mongodb=mongodb,
        stderr_level=settings.log_level,
        stderr_format=settings.log_format,
    )


@contextmanager
def logging_to(settings: Settings) -> Iterator[DualLog]:
    """Log as settings say for as long as the context lasts. Raises SettingsError."""
    logs = DualLog(log_settings(settings, read_uri(settings)))
    logs.start()
    try:
        yield logs
    finally:
        logs.stop_blocking(STOP_SECONDS)


async def follow_uri(settings: Settings, logs: DualLog, every_seconds: float = LOOK_SECONDS) -> None:
    """Take up another MongoDB URI as soon as its file says so; returns at once where there is no file."""
    if settings.log_mongodb_uri_file is None:
        return
    known = await asyncio.to_thread(_read_quietly, settings)
    while True:
        await asyncio.sleep(every_seconds)
        found = await asyncio.to_thread(_read_quietly, settings)
        if found is not None and found != known:
            known = found
            await asyncio.to_thread(logs.apply, log_settings(settings, found))
            logger.bind(component="logs").info("The MongoDB URI of the logs changed and is in use")


def _read_quietly(settings: Settings) -> str | None:
    """Return the URI, None if there is no usable one now: what is in use stays in use."""
    try:
        return read_uri(settings)
    except SettingsError as error:
        logger.bind(component="logs").warning("{}", error)
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(f"AIGATEWAY_LOG_MONGODB_URI_FILE, {path}, cannot be read: {reason}.") from None


def _forget_in_logs(uri: str) -> None:
    """Have the URI and its password masked wherever they might be logged."""
    register_secret(uri)
    userinfo, found, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    password = userinfo.partition(":")[2]
    if found and password:
        register_secret(password)
        register_secret(unquote(password))
