"""What a rule may know besides the spec it checks. Values only: no clock, no cluster, no settings object.

Made by admission, plan and the command line from the object's metadata and the operator's settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Name of the object under check, and the policy that applies to it."""

    name: str
    """`metadata.name` of the object."""
    allow_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks allowed although the address rules refuse them (`AIGATEWAY_ALLOW_ADDRESSES`); none by default."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster: `<service>.<namespace>.svc.<cluster_domain>` is inside it."""
