"""`aigateway gateway`: serve callers, as a gateway pod does. Needs the extra `gateway` and neither kopf nor a cluster.

Turns flags into settings and nothing more; `aigateway_gateway` does the work and is imported when the command is run, so that
its absence is a sentence and not a traceback.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.flags import Subparsers
from aigateway_operator.errors import SettingsError

if TYPE_CHECKING:
    from aigateway_gateway.settings import GatewaySettings


def register(subparsers: Subparsers) -> None:
    """Add the command. Flags and their texts come from the settings; the admin key has a variable only, as `ps` shows flags."""
    parser = subparsers.add_parser(
        "gateway",
        help="serve callers: the OpenAI-compatible gateway",
        description="Serve callers until SIGTERM. Each flag has a variable: --config-dir is AIGATEWAY_GATEWAY_CONFIG_DIR. "
        "/config is there with AIGATEWAY_GATEWAY_ADMIN_KEY only.",
    )
    settings = import_gateway("aigateway_gateway.settings").GatewaySettings
    add_flag = import_module("aigateway_operator.cli.run").add_flag
    for name, field in settings.model_fields.items():
        if name != "admin_key":
            add_flag(parser, name, field)


def run(args: argparse.Namespace) -> int:
    """Serve. Raises SettingsError naming every setting that is wrong, the missing extra, or the address that is taken."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    settings = parse_settings(given)
    serve, workers = import_gateway("aigateway_gateway.serve"), import_gateway("aigateway_gateway.workers")
    try:
        workers.run_gateway(settings)
    except serve.CannotListen as error:
        raise SettingsError(str(error)) from error
    return Exit.FINE


def parse_settings(flags: dict[str, Any]) -> GatewaySettings:
    """Return the settings of flags and environment. Raises SettingsError that names all faults."""
    model: type[GatewaySettings] = import_gateway("aigateway_gateway.settings").GatewaySettings
    try:
        return model(**{name: value for name, value in flags.items() if name in model.model_fields})
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            where = f"--{name.replace('_', '-')} (AIGATEWAY_GATEWAY_{name.upper()}): " if name in model.model_fields else ""
            faults.append(f"{where}{fault['msg']}")
        raise SettingsError("; ".join(faults)) from None


def import_gateway(name: str) -> Any:
    """Return a module of the gateway. Raises SettingsError that names the extra if something it needs is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"`aigateway gateway` needs the extra 'gateway' ({error.name} is not installed). "
            "Install it with: pip install 'aigateway[gateway]'"
        ) from error
