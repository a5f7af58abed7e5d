"""`aigateway webhook`: a replica that answers admission reviews; or the ValidatingWebhookConfiguration that sends them here.

Turns flags into settings and nothing more; `aigateway_operator.webhook` does the work. With `--print-configuration` nothing is
started and no cluster is asked: `aigateway webhook --print-configuration | kubectl apply --server-side -f -` is for people
without Helm. The object has no caBundle; the leader fills that in and keeps it over later applies.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.flags import Subparsers
from aigateway_operator.cli.run import SECRETS, add_flag, parse_settings
from aigateway_operator.errors import SettingsError
from aigateway_operator.settings import Settings

FLAGS: Final = tuple(
    name
    for name in Settings.model_fields
    if (name.startswith(("webhook_", "health_", "log_")) and name not in SECRETS)
    or name
    in ("kubeconfig", "context", "allow_addresses", "cluster_domain", "lease_namespace", "namespaces", "namespace_selector")
)
"""Settings that concern this role; the others may be set in the environment and are ignored."""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "webhook",
        help="serve admission reviews, or print the webhook's configuration",
        description="Answer admission reviews until SIGTERM. Each flag that is a setting has a variable: --webhook-port is "
        "AIGATEWAY_WEBHOOK_PORT.",
    )
    parser.add_argument(
        "--print-configuration", action="store_true", help="print the ValidatingWebhookConfiguration and serve nothing"
    )
    parser.add_argument("--url", metavar="URL", help="print a configuration with this address instead of the Service")
    parser.add_argument("--failure-policy", choices=("Fail", "Ignore"), default="Fail", help="for the printed configuration")
    parser.add_argument("-o", dest="format", choices=("yaml", "json"), default="yaml", help="how to print the configuration")
    for name in FLAGS:
        add_flag(parser, name, Settings.model_fields[name])


def run(args: argparse.Namespace) -> int:
    """Serve or print, see `register`. Raises SettingsError naming every setting that is wrong."""
    settings = parse_settings({name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None})
    if args.print_configuration:
        print(_written(_configuration(settings, args), args.format), end="")
        return Exit.FINE
    if args.url is not None:
        raise SettingsError("--url is only for --print-configuration; to serve, set --webhook-host and --webhook-port")
    from aigateway_operator.webhook import run_webhook  # brings the server; wrong settings are told before

    return run_webhook(settings)


def _configuration(settings: Settings, args: argparse.Namespace) -> dict[str, Any]:
    namespace = settings.webhook_secret_namespace or settings.lease_namespace
    return webhook_configuration(
        Endpoint(settings.webhook_service, namespace, url=args.url),
        name=settings.webhook_configuration,
        failure_policy=args.failure_policy,
        namespaces=settings.namespaces,
        namespace_selector=settings.namespace_selector,
    )


def _written(configuration: dict[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(configuration, indent=2) + "\n"
    import yaml  # a replica that serves does without

    return yaml.safe_dump(configuration, sort_keys=False, width=200)
