"""`aigateway run`: the operator. Settings are `AIGATEWAY_*` variables and one flag each above them.

Turns flags into settings and nothing more; `main` does the work. Flags and their texts come from the settings model.
"""

from __future__ import annotations

import argparse
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from aigateway_operator.cli.flags import Subparsers
from aigateway_operator.errors import SettingsError
from aigateway_operator.settings import Settings

SECRETS: Final = frozenset({"log_mongodb_uri"})
"""Settings without a flag: everyone on a machine can read the arguments of its processes."""
FLAGS: Final = tuple(name for name in Settings.model_fields if name not in SECRETS)


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "run",
        help="run the operator",
        description="Run the operator until SIGTERM. Each flag has a variable: --lease-name is AIGATEWAY_LEASE_NAME.",
    )
    for name in FLAGS:
        add_flag(parser, name, Settings.model_fields[name])


def run(args: argparse.Namespace) -> int:
    """Run the operator. Raises SettingsError naming every setting that is wrong."""
    settings = parse_settings({name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None})
    from aigateway_operator.serving import run_operator  # brings kopf; wrong settings are told before

    return run_operator(settings)


def parse_settings(flags: dict[str, Any]) -> Settings:
    """Return the settings of flags and environment. Raises SettingsError that names all wrong ones."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        faults = [_fault(str(fault["loc"][0]) if fault["loc"] else "", fault["msg"]) for fault in error.errors()]
        raise SettingsError("; ".join(faults)) from None


def _fault(name: str, text: str) -> str:
    return f"--{name.replace('_', '-')} (AIGATEWAY_{name.upper()}): {text}"


def add_flag(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    """Add the flag of one setting; its text is the setting's."""
    flag = f"--{name.replace('_', '-')}"
    text = (field.description or "").replace("%", "%%")
    if "Default:" not in text:
        text = f"{text} Default: {str(field.default).lower() if field.annotation is bool else field.default}."
    if field.annotation is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
    else:
        words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        parser.add_argument(flag, metavar="|".join(words) or "VALUE", help=text)
