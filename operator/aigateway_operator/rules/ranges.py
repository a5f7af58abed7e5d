"""Which addresses a gateway or the operator may talk to, asked with a rule's context.

The tables are `aigateway_config.addresses`, since gateways judge by them too. Pure. Called by the rules on text
(`hostnames`, `addresses`) and, on resolved addresses, by the operator's adapters that connect.
"""

from __future__ import annotations

from typing import Final

from aigateway_config import addresses
from aigateway_config.addresses import (
    BROADCAST,
    LINK_LOCAL,
    LOOPBACK,
    METADATA,
    MULTICAST,
    UNSPECIFIED,
    Address,
    carried,
    is_private_address,
)
from aigateway_operator.rules.context import RuleContext

__all__: Final = [
    "LOOPBACK",
    "METADATA",
    "Address",
    "is_allowed_on_purpose",
    "is_forbidden_address",
    "is_forbidden_pod_address",
    "is_private_address",
]

_NEVER_A_POD: Final = frozenset({BROADCAST, LINK_LOCAL, LOOPBACK, METADATA, MULTICAST, UNSPECIFIED})


def is_forbidden_address(ip: Address, context: RuleContext) -> str | None:
    """Say why no connection may go to `ip`, or return None if one may; `context.allow_addresses` lifts any refusal.

    The reason reads after "is": "a loopback address …". Source: docs/rules.md#r11.
    """
    return addresses.refusal(ip, context.allow_addresses)


def is_forbidden_pod_address(ip: Address, context: RuleContext) -> str | None:
    """Say why a pod with this address is not asked what it runs, or return None if it is; as `is_forbidden_address`.

    Nobody writes a pod's address into a resource: the cluster's administrator has chosen the range, and clouds take carriers'
    (100.64.0.0/10), benchmarks' and reserved ones for pods. What is refused is what no pod can have and what would lead back
    to the operator's own machine. Source: GKE "Supported IPv4 ranges", EKS "Custom networking".
    """
    if is_allowed_on_purpose(ip, context):
        return None
    judged: list[Address] = [*carried(ip)] or [ip]
    reasons = (addresses.refusal(one, ()) for one in judged)
    return next((reason for reason in reasons if reason in _NEVER_A_POD), None)


def is_allowed_on_purpose(ip: Address, context: RuleContext) -> bool:
    """Whether `context.allow_addresses` names `ip`, or an IPv4 address that `ip` carries."""
    return addresses.is_named(ip, context.allow_addresses)
