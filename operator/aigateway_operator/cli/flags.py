"""Arguments that several commands share, so that they are called and explained alike. No I/O; called by `register`s."""

from __future__ import annotations

import argparse
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, TypeAlias

from aigateway_operator.api.meta import MAX_GATEWAY_NAME
from aigateway_operator.errors import SettingsError

Networks = tuple[IPv4Network | IPv6Network, ...]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What `register` adds its command to; argparse has no public name for it."""

ALLOW_ADDRESSES: Final = "AIGATEWAY_ALLOW_ADDRESSES"
CLUSTER_DOMAIN: Final = "AIGATEWAY_CLUSTER_DOMAIN"
_DURATION: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>ms|s|m|h)?")
MAX_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A DNS label: the name of a namespace, and each part of any other name."""
_NAMED: Final = "lower-case letters, digits and '-', at most 63 characters"
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_format(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add `-o json|yaml`, and `more` formats; without it the output is for people."""
    parser.add_argument(
        "-o", "--output", choices=("json", "yaml", *more), help="print data for programs instead of text for people"
    )


def add_files(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the positional FILE… and `--recursive`."""
    parser.add_argument(
        "files",
        nargs="+" if required else "*",
        metavar="FILE",
        help="manifest (YAML or JSON), folder of manifests, or - for stdin",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="also read folders inside folders")


def add_cluster(parser: argparse.ArgumentParser, *, all_namespaces: bool = True) -> None:
    """Add what says which cluster and which namespace."""
    add_connection(parser)
    add_namespace(parser, "the context's")
    if all_namespaces:
        parser.add_argument("-A", "--all-namespaces", action="store_true", help="look into every namespace")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add what says which cluster."""
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config or the pod's account"
    )
    parser.add_argument("--context", metavar="NAME", help="context of the kubeconfig; default: its current one")


def add_namespace(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `-n`; `default` says in words what is taken without it."""
    parser.add_argument("-n", "--namespace", type=parse_namespace, metavar="NAME", help=f"default: {default}")


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Add what changes the address rules, as the operator's own settings do."""
    parser.add_argument(
        "--allow-address",
        action="append",
        default=[],
        type=parse_network,
        metavar="CIDR",
        help=f"allow URLs and hosts there although rules refuse them; repeatable; default: ${ALLOW_ADDRESSES}",
    )
    parser.add_argument("--cluster-domain", metavar="DOMAIN", help=f"default: ${CLUSTER_DOMAIN} or cluster.local")


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Parse one network; argparse turns the error into a usage message."""
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a network such as 127.0.0.0/8: {error}") from None


def allowed_addresses(args: argparse.Namespace) -> Networks:
    """Return the networks of `--allow-address` and the environment. Raises SettingsError for a wrong environment."""
    from_environment: list[IPv4Network | IPv6Network] = []
    for part in os.environ.get(ALLOW_ADDRESSES, "").split(","):
        if part.strip():
            try:
                from_environment.append(parse_network(part))
            except argparse.ArgumentTypeError as error:
                raise SettingsError(f"${ALLOW_ADDRESSES}: {error}") from None
    return (*args.allow_address, *from_environment)


def cluster_domain(args: argparse.Namespace) -> str:
    """Return the DNS domain of the cluster."""
    return args.cluster_domain or os.environ.get(CLUSTER_DOMAIN) or "cluster.local"


def parse_namespace(text: str) -> str:
    """Parse the name of a namespace; "", which a script passes for an unset variable, is none. Errors as `parse_gateway`."""
    if text and not _LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no name of a namespace: {_NAMED}")
    return text


def parse_gateway(text: str) -> str:
    """Parse the name of a GatewayConfig; argparse turns the error into a usage message."""
    if not is_name(text, MAX_GATEWAY_NAME):
        raise argparse.ArgumentTypeError(f"'{text}' is no name of a GatewayConfig: {_NAMED}, or '.' between such")
    return text


def is_name(text: str, most: int = MAX_NAME) -> bool:
    """Tell whether an object may be called so, in at most so many characters; anything else would be another path in a URL."""
    return len(text) <= most and all(map(_LABEL.fullmatch, text.split(".")))


def parse_duration(text: str) -> float:
    """Parse `60`, `60s`, `500ms`, `2m` or `1h` to seconds; argparse turns the error into a usage message."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 60s, 2m or 1h")
    return float(match["number"]) * _SECONDS[match["unit"] or "s"]
