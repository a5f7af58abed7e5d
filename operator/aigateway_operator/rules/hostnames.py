"""What a host in a resource is: an address, a name inside the cluster, or any other name. Judged by text alone.

No name is resolved here: names may resolve to something else a moment later, so whoever connects checks the resolved
address again with `ranges.is_forbidden_address`. Called by `addresses` only.

Source: RFC 1123 section 2.1 and RFC 952 (names), RFC 5890 to 5893 (IDNA 2008), WHATWG URL "ends in a number checker"
and inet_aton(3) (the spellings of IPv4 that clients read differently), Kubernetes "DNS for Services and Pods".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.ranges import (
    LOOPBACK,
    METADATA,
    Address,
    is_allowed_on_purpose,
    is_forbidden_address,
    is_private_address,
)
from aigateway_operator.rules.violation import FieldReason, shown

MAX_HOST: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_READ_DIFFERENTLY: Final = frozenset("ßς\u200c\u200d")
"""Legal in IDNA 2008, but mapped to something else by clients that still follow IDNA 2003 (UTS 46, "deviations")."""

_LOOPBACK_ADDRESSES: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_METADATA_ADDRESSES: Final = (IPv4Address("169.254.169.254"),)
_LOOPBACK_NAMES: Final = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
        "loopback",
    }
)
_METADATA_NAMES: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.internal",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
        "instance-data.amazonaws.com",
    }
)


class HostKind(Enum):
    """What a host is, as far as its text tells."""

    ADDRESS = auto()
    PRIVATE_ADDRESS = auto()  # RFC 1918, unique local, or allowed on purpose
    CLUSTER_NAME = auto()  # one label, *.svc, *.svc.<cluster domain>, or a loopback name allowed on purpose
    NAME = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a host is refused: `rule` as in docs/rules.md, and a sentence with reason and remedy."""

    rule: str
    reason: FieldReason
    message: str


def judge_host(host: str, context: RuleContext, *, bracketed: bool = False) -> HostKind | Refusal:
    """Classify `host` (an address or a name, without scheme, port or path), or say why it is refused.

    `bracketed`: the text stood in `[ ]`, as IPv6 addresses do in URLs. Raises nothing. Source: docs/rules.md#r9, #r11.
    """
    if bracketed or ":" in host:
        return _judge_ipv6(host, context)
    malformed = _malformed(host)
    if malformed is not None:
        return Refusal("R9", FieldReason.INVALID, malformed)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _judge_ipv4(host, context)
    return _judge_name(host.lower(), context)


def _judge_ipv6(host: str, context: RuleContext) -> HostKind | Refusal:
    if "%" in host:
        return Refusal(
            "R9",
            FieldReason.INVALID,
            "the address has a zone id (%…), which means nothing in another pod. Leave it out.",
        )
    try:
        return _judge_address(IPv6Address(host), context)
    except AddressValueError:
        message = f"'{shown(host)}' is not an IPv6 address. Write one such as fd12:3456::10."
        return Refusal("R9", FieldReason.INVALID, message)


def _judge_ipv4(host: str, context: RuleContext) -> HostKind | Refusal:
    """Judge a host that ends in a number: clients read it as IPv4, so it must be four decimal numbers."""
    try:
        return _judge_address(IPv4Address(host), context)
    except AddressValueError:
        message = (
            f"'{shown(host)}' ends in a number but is not a plain IPv4 address, and clients differ on other "
            "spellings (hexadecimal, octal, short). Write four decimal numbers such as 10.0.0.7."
        )
        return Refusal("R9", FieldReason.INVALID, message)


def _judge_address(ip: Address, context: RuleContext) -> HostKind | Refusal:
    reason = is_forbidden_address(ip, context)
    if reason is not None:
        return _forbidden(str(ip), reason)
    private = is_private_address(ip) or is_allowed_on_purpose(ip, context)
    return HostKind.PRIVATE_ADDRESS if private else HostKind.ADDRESS


def _judge_name(name: str, context: RuleContext) -> HostKind | Refusal:
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return _judge_known(name, _LOOPBACK_ADDRESSES, LOOPBACK, context)
    if name in _METADATA_NAMES or name.endswith(".metadata.google.internal"):
        return _judge_known(name, _METADATA_ADDRESSES, METADATA, context)
    domain = context.cluster_domain.lower()
    bare = name.removesuffix(f".{domain}")
    if bare == "kubernetes.default.svc":
        return _forbidden(name, "the Kubernetes API server")
    return HostKind.CLUSTER_NAME if "." not in name or bare.endswith(".svc") else HostKind.NAME


def _judge_known(name: str, addresses: tuple[Address, ...], reason: str, context: RuleContext) -> HostKind | Refusal:
    """Judge a name that is known to mean `addresses`: accepted if one of them is allowed on purpose."""
    if any(is_allowed_on_purpose(ip, context) for ip in addresses):
        return HostKind.CLUSTER_NAME
    return _forbidden(name, reason)


def _forbidden(host: str, reason: str) -> Refusal:
    message = (
        f"'{shown(host)}' is {reason}; gateways and the operator never connect there. Name the server by its public "
        "name, its Service (<service>.<namespace>.svc) or its private address."
    )
    return Refusal("R11", FieldReason.FORBIDDEN, message)


def _malformed(host: str) -> str | None:
    """Say why `host` is no name at all, or return None."""
    if not host:
        return "the host is missing. Name one, such as api.example.com."
    if host.endswith("."):
        return f"'{shown(host)}' ends with a dot. Leave the dot out."
    ascii_host = ".".join(_ascii_label(label) or "" for label in host.split(".")) if _needs_idna(host) else host
    if len(ascii_host) > MAX_HOST:
        return f"the host has {len(ascii_host)} characters; at most {MAX_HOST} are allowed."
    if all(_LABEL.fullmatch(label) for label in ascii_host.split(".")):
        return None
    return (
        f"'{shown(host)}' is not a host name. Use letters, digits and '-' between dots, at most 63 in a row; "
        "international names as their xn-- form."
    )


def _needs_idna(host: str) -> bool:
    """Whether `host` holds anything but plain ASCII labels; only then is the (slower) check by IDNA needed."""
    return not host.isascii() or "xn--" in host.lower() or any(label[2:4] == "--" for label in host.split("."))


def _ascii_label(label: str) -> str | None:
    """Return the ASCII form of one label, or None if it has none or clients differ about it."""
    if _READ_DIFFERENTLY.intersection(label):
        return None
    try:
        # Checks what an xn-- label stands for, too.
        return idna.alabel(label.lower() if label.isascii() else label).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None
