"""Which addresses a gateway or the operator may talk to: by address, never by name.

The rule is positive: an address is accepted if it is globally reachable, RFC 1918 or unique local; all else is refused.
Addresses that carry another one inside (IPv4-mapped, 6to4, NAT64, Teredo …) are judged by the one inside as well.
Pure tables and three functions. Called by the operator's rules on text, and on resolved addresses by whoever connects:
the operator's adapters, the sources of this package, the gateway.

Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and updates), RFC 1918, RFC 4193, RFC 6052, RFC
3056, RFC 4380, RFC 4291, RFC 5214; cloud metadata addresses: the vendors' own pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

METADATA: Final = "a cloud metadata service, which hands out credentials"
LOOPBACK: Final = "a loopback address: the gateway pod itself"
LINK_LOCAL: Final = "a link-local address"
UNSPECIFIED: Final = "an unspecified address"
MULTICAST: Final = "a multicast address"
BROADCAST: Final = "the broadcast address"
_RESERVED: Final = "a reserved address"

_METADATA_V4: Final = frozenset(
    IPv4Address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, OpenStack, DigitalOcean, Oracle …
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS Pod Identity
        "169.254.0.23",  # Tencent
        "168.63.129.16",  # Azure wire server: a public address, so only this list refuses it
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle classic
    )
)
_METADATA_V6: Final = (
    IPv6Network("fd00:ec2::/32"),  # AWS: metadata ::254, Pod Identity ::23, DNS, time
    IPv6Network("fd20:ce::254/128"),  # Google
    IPv6Network("fd00:c1::a9fe:a9fe/128"),  # Oracle
    IPv6Network("fd00:42::42/128"),  # Scaleway
)
_REFUSED_V4: Final = (
    (IPv4Network("0.0.0.0/8"), UNSPECIFIED),
    (IPv4Network("127.0.0.0/8"), LOOPBACK),
    (IPv4Network("169.254.0.0/16"), LINK_LOCAL),
    (IPv4Network("100.64.0.0/10"), "a shared address of a carrier (RFC 6598)"),
    (IPv4Network("192.0.0.0/24"), _RESERVED),
    (IPv4Network("192.0.2.0/24"), "an address for documentation"),
    (IPv4Network("198.51.100.0/24"), "an address for documentation"),
    (IPv4Network("203.0.113.0/24"), "an address for documentation"),
    (IPv4Network("192.88.99.0/24"), _RESERVED),
    (IPv4Network("198.18.0.0/15"), "an address for benchmarks"),
    (IPv4Network("224.0.0.0/4"), MULTICAST),
    (IPv4Network("255.255.255.255/32"), BROADCAST),
    (IPv4Network("240.0.0.0/4"), _RESERVED),
)
_REFUSED_V6: Final = (
    (IPv6Network("::/128"), UNSPECIFIED),
    (IPv6Network("::1/128"), LOOPBACK),
    (IPv6Network("fe80::/10"), LINK_LOCAL),
    (IPv6Network("fec0::/10"), "a site-local address"),
    (IPv6Network("ff00::/8"), MULTICAST),
    (IPv6Network("2001:db8::/32"), "an address for documentation"),
    (IPv6Network("3fff::/20"), "an address for documentation"),
)
_PRIVATE_V4: Final = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
_UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_IETF_PROTOCOLS: Final = IPv6Network("2001::/23")
_TEREDO: Final = IPv6Network("2001::/32")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_LAST_32_BITS: Final = (
    IPv6Network("::/96"),  # IPv4-compatible, RFC 4291
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


@lru_cache(maxsize=4096)
def refusal(ip: Address, allowed: Networks) -> str | None:
    """Say why no connection may go to `ip`, or return None if one may.

    The reason reads after "is": "a loopback address …". RFC 1918 and unique local addresses are accepted: model servers
    and datastores live there. `allowed` lifts any refusal for the networks it names, and for addresses that carry one of
    them. Source: docs/rules.md#r11.
    """
    if any(ip in network for network in allowed):
        return None
    if isinstance(ip, IPv4Address):
        return _refusal_v4(ip)
    inside = list(carried(ip))
    if inside:
        reasons = [refusal(inner, allowed) for inner in inside]
        return next((f"{reason} ({inner} inside {ip})" for inner, reason in zip(inside, reasons, strict=True) if reason), None)
    return _refusal_v6(ip)


def is_private_address(ip: Address) -> bool:
    """Whether `ip` is RFC 1918 or unique local, or carries such an IPv4 address in IPv4-mapped form."""
    if isinstance(ip, IPv4Address):
        return any(ip in network for network in _PRIVATE_V4)
    mapped = ip.ipv4_mapped
    return ip in _UNIQUE_LOCAL if mapped is None else is_private_address(mapped)


def is_named(ip: Address, allowed: Networks) -> bool:
    """Whether `allowed` names `ip`, or an IPv4 address that `ip` carries."""
    return any(candidate in network for candidate in (ip, *carried(ip)) for network in allowed)


def _refusal_v4(ip: IPv4Address) -> str | None:
    if ip in _METADATA_V4:
        return METADATA
    return next((reason for network, reason in _REFUSED_V4 if ip in network), None)


def _refusal_v6(ip: IPv6Address) -> str | None:
    if any(ip in network for network in _METADATA_V6):
        return METADATA
    reason = next((reason for network, reason in _REFUSED_V6 if ip in network), None)
    if reason is not None or ip in _UNIQUE_LOCAL:
        return reason
    reachable = ip in _GLOBAL_UNICAST and ip not in _IETF_PROTOCOLS
    return None if reachable else _RESERVED


def carried(ip: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that `ip` carries; none for `::`, `::1` and everything that is just itself."""
    if isinstance(ip, IPv4Address):
        return
    number = int(ip)
    if number > 1 and any(ip in network for network in _LAST_32_BITS):
        yield IPv4Address(number & 0xFFFFFFFF)
    elif ip in _SIX_TO_FOUR:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif ip in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)  # the server
        yield IPv4Address(~number & 0xFFFFFFFF)  # the client, its bits turned over
    elif number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
