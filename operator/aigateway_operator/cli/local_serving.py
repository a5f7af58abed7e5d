"""The gateway of `aigateway local --serve`, in the same process and loop as the rounds. Needs the extra `gateway`.

Imports `aigateway_gateway` when it is asked for, so that rendering alone needs none of it. Called by `local`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.flags import Networks
from aigateway_operator.cli.gateway import import_gateway, parse_settings
from aigateway_operator.errors import SettingsError
from aigateway_operator.local.rendered import CONFIG, CREDENTIALS

if TYPE_CHECKING:
    from aigateway_gateway.settings import GatewaySettings

LOOPBACK: Final = "127.0.0.1"
_SHUTDOWN_SECONDS: Final = 5


def choose(keys: Collection[GatewayKey], wanted: str | None) -> GatewayKey | None:
    """Return the gateway to serve; None: none is there yet. `wanted`: NAME or NAMESPACE/NAME; None: the only one.

    Raises SettingsError if the choice is not clear.
    """
    found = [key for key in sorted(keys) if wanted is None or wanted in (key.name, str(key))]
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise SettingsError(f"which gateway is to be served? Name one with --gateway: {names}")
    return found[0] if found else None


def settings_of(folder: Path, host: str | None, port: int | None, allowed: Networks) -> GatewaySettings:
    """Return the settings of the gateway whose volumes are in `folder`. Raises SettingsError.

    It listens on this machine alone unless `host` says otherwise, at once stops when it is told to, and holds no status port:
    nobody asks. Everything else is `AIGATEWAY_GATEWAY_*`, as in a pod.
    """
    given: dict[str, Any] = {
        "config_dir": folder / CONFIG,
        "credentials_dir": folder / CREDENTIALS,
        "config_file": None,
        "host": host or LOOPBACK,
        "allow_addresses": allowed,
        "status_port": None,
        "drain_seconds": 0,
        "shutdown_seconds": _SHUTDOWN_SECONDS,
    }
    if port is not None:
        given["port"] = port
    if "AIGATEWAY_GATEWAY_LOG_LEVEL" not in os.environ:
        given["log_level"] = "WARNING"  # what changes is reported by ourselves
    return parse_settings(given)


async def serve_gateway(settings: GatewaySettings, started: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop`. `started` is called with the URL. Raises SettingsError when the address cannot be had."""
    serve = import_gateway("aigateway_gateway.serve")
    serve.configure_logs(settings)

    def up(host: str, port: int) -> None:
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    try:
        await serve.serve(settings, started=up, stop=stop)
    except serve.CannotListen as error:
        raise SettingsError(f"{error} Here it is --host and --port.") from error
