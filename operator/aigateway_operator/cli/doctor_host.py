"""`doctor` on what is beside it: its settings, and the folders its logs need. Reads environment and disk, no cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from aigateway_operator.cli.checkup import Check, doubt, fine, wrong
from aigateway_operator.settings import Settings

AREA: Final = "settings"
DISK: Final = "disk"
_MEBIBYTE: Final = 1 << 20


def read_settings() -> tuple[Settings, list[Check]]:
    """Return the settings of this environment, or defaults where they are wrong, and a row on each fault of theirs."""
    known = {f"AIGATEWAY_{name.upper()}" for name in Settings.model_fields}
    strange = sorted(name for name in os.environ if name.startswith("AIGATEWAY_") and name not in known and not _others(name))
    rows = [
        doubt(AREA, name, "is no setting of the operator", "Correct the name; docs/operations.md lists all.")
        for name in strange
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            name = f"AIGATEWAY_{'_'.join(map(str, one['loc'][:1])).upper()}"
            rows.append(wrong(AREA, name, one["msg"], "Correct the variable; docs/operations.md says what it takes."))
        return Settings.model_construct(), rows
    return settings, [fine(AREA, "AIGATEWAY_*", "can be read"), *rows]


def check_disk(settings: Settings) -> Iterator[Check]:
    """Yield a row for each folder and file that logging needs."""
    spool = settings.log_spool_dir
    if spool is not None:
        yield _folder("AIGATEWAY_LOG_SPOOL_DIR", spool, settings.log_spool_mebibytes)
    if settings.log_dir is not None:
        yield _folder("AIGATEWAY_LOG_DIR", settings.log_dir, 10)
    uri = settings.log_mongodb_uri_file
    if uri is not None and not os.access(uri, os.R_OK):
        yield wrong(
            DISK, "AIGATEWAY_LOG_MONGODB_URI_FILE", f"{uri} cannot be read", "Mount the Secret there, readable by the process."
        )


def _folder(setting: str, folder: Path, wanted_mebibytes: int) -> Check:
    if not folder.is_dir():
        return wrong(DISK, setting, f"{folder} is no folder", "Mount a volume there, or correct the setting.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return wrong(DISK, setting, f"{folder} cannot be written", "Let the process's user write there (fsGroup).")
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    text = f"{folder} has {free // _MEBIBYTE} MiB free, {used // _MEBIBYTE} MiB used by us"
    if free + used < wanted_mebibytes * _MEBIBYTE:
        remedy = f"Give the volume {wanted_mebibytes} MiB, or set a lower bound: once full, records are dropped and counted."
        return wrong(DISK, setting, text, remedy)
    return fine(DISK, setting, text)


def _others(name: str) -> bool:
    """Tell whether a variable belongs to the gateway, the pod library or a developer."""
    return name.startswith(
        ("AIGATEWAY_GATEWAY_", "AIGATEWAY_CONFIG_", "AIGATEWAY_CREDENTIALS_", "AIGATEWAY_WORKERS_", "AIGATEWAY_DEV_")
    )
