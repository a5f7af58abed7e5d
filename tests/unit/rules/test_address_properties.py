"""Properties of the URL policy: no text that it accepts leads a client to a forbidden address."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigateway_operator.rules.addresses import check_host, check_url, is_forbidden_address
from aigateway_operator.rules.context import RuleContext

CONTEXT = RuleContext("chat")
METADATA = {"169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"}
NAMES = {"localhost", "metadata", "metadata.google.internal", "instance-data"}

_FORBIDDEN_V4 = st.one_of(
    st.sampled_from(["127.0.0.1", "169.254.169.254", "0.0.0.0", "168.63.129.16", "100.100.100.200"]),
    st.tuples(st.sampled_from([0, 127, 224, 239, 240, 255]), *[st.integers(0, 255)] * 3).map(lambda p: ".".join(map(str, p))),
    st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda p: f"169.254.{p[0]}.{p[1]}"),
)


def _part(number: int, width: int, style: int) -> str:
    """Write one part of an IPv4 address: decimal, octal or hexadecimal, with leading zeros and capitals."""
    return (str(number), f"0{number:o}", f"0x{number:x}", f"0X{number:X}", f"{number:0{width}d}", f"0x{number:010x}")[style]


@st.composite
def ipv4_spellings(draw: st.DrawFn) -> str:
    """Draw a forbidden IPv4 address in any spelling that inet_aton takes: one to four parts, each in any base."""
    number = int(IPv4Address(draw(_FORBIDDEN_V4)))
    count = draw(st.integers(1, 4))
    parts = [number >> 24 - 8 * index & 0xFF for index in range(count - 1)]
    parts.append(number & (1 << 32 - 8 * (count - 1)) - 1)
    return ".".join(_part(part, 12, draw(st.integers(0, 5))) for part in parts)


@st.composite
def ipv6_spellings(draw: st.DrawFn) -> str:
    """Draw an IPv6 address that is, or carries, a forbidden address."""
    inner = int(IPv4Address(draw(_FORBIDDEN_V4)))
    rest = draw(st.integers(0, 2**32 - 1))
    number = draw(
        st.sampled_from(
            [
                1,
                0,
                inner,
                0xFFFF << 32 | inner,
                0xFFFF << 48 | inner,
                0x64FF9B << 96 | inner,
                0x2002 << 112 | inner << 80 | rest,
                0x20010000 << 96 | inner << 64 | rest,
                0x20010000 << 96 | rest << 64 | ~inner & 0xFFFFFFFF,
                0x26064700 << 96 | 0x5EFE << 32 | inner,
                0xFE80 << 112 | rest,
                0xFF02 << 112 | rest,
                0xFD000EC2 << 96 | rest,
            ]
        )
    )
    ip = IPv6Address(number)
    text = draw(st.sampled_from([ip.compressed, ip.exploded, ip.compressed.upper()]))
    return f"[{text}{draw(st.sampled_from(['', '', '%25eth0', '%1']))}]"


_HOSTS = st.one_of(
    ipv4_spellings(),
    ipv6_spellings(),
    st.sampled_from(sorted(NAMES)),
    st.text(st.sampled_from("01279x.f-a:[]%@\u3002\uff11\u0661\u00ad"), max_size=12),
)
_URLS = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["http://", "https://", "HTTPS://", "https:\\\\", "//"]),
        st.sampled_from(["", "", "", "user@", "api.example.com@", "a:b@", "\t", " "]),
        _HOSTS,
        st.sampled_from(["", "", ".", ":80", ":0", ":", "\n", "\\"]),
        st.sampled_from(["", "/", "/v1", "/v1/../x", "?x", "#x", "\\@8.8.8.8"]),
    ),
    st.text(max_size=60),
    st.text(max_size=40).map(lambda text: f"https://{text}"),
)


def _as_a_client_reads(url: str) -> list[str]:
    """Return what clients may take for the host: as urllib gives it, and folded as IDNA 2003 and UTS 46 fold names."""
    host = urlsplit(url).hostname or ""
    folded = host
    with contextlib.suppress(UnicodeError):
        folded = host.encode("idna").decode()
    return [host, folded.lower(), folded.lower().rstrip(".")]


def _leads_astray(host: str) -> bool:
    """Judge one host by the standard library alone, with inet_aton's reading of IPv4: an oracle of its own."""
    if host in NAMES or host.endswith(".localhost"):
        return True
    try:
        ip = ip_address(socket.inet_aton(host))
    except (OSError, UnicodeError, ValueError):
        try:
            ip = ip_address(host.partition("%")[0])
        except ValueError:
            return False
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
    kinds = (ip.is_loopback, inner.is_loopback, inner.is_link_local, inner.is_multicast, inner.is_unspecified)
    return any(kinds) or str(inner) in METADATA or (inner.version == 4 and inner.is_reserved)


@settings(max_examples=1000, deadline=None)
@given(_URLS)
@example("https://0xa9fea9fe/")
@example("https://127.1/")
@example("https://[::ffff:7f00:1]/")
def test_no_accepted_url_leads_to_a_forbidden_address(url: str) -> None:
    """Whatever we accept, urllib and inet_aton read as a host that is no loopback, link-local, metadata … address."""
    if check_url(url, "p", CONTEXT) == []:
        assert not any(_leads_astray(host) for host in _as_a_client_reads(url))


@settings(max_examples=400, deadline=None)
@given(ipv4_spellings() | ipv6_spellings())
def test_every_spelling_of_a_forbidden_address_is_refused(host: str) -> None:
    """In URLs of either scheme, with and without port, and as the host of a store."""
    assert check_url(f"https://{host}/v1", "p", CONTEXT) != []
    assert check_url(f"http://{host}:8000", "p", CONTEXT) != []
    assert check_host(host.strip("[]"), "p", CONTEXT) != []


@settings(max_examples=400, deadline=None)
@given(st.ip_addresses())
def test_accepted_addresses_are_global_or_private(ip: IPv4Address | IPv6Address) -> None:
    """The table agrees with the standard library's registry wherever that one is sure: global, or a private network."""
    if is_forbidden_address(ip, CONTEXT) is None:
        carried = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
        wrapped = ip.version == 6 and int(ip) >> 96 in (0, 0x64FF9B, 0x20010000)
        assert carried.is_global or carried.is_private or wrapped
        assert not any((carried.is_loopback, carried.is_link_local, carried.is_multicast, carried.is_unspecified))


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    """Also as a host, behind a scheme, and with half surrogates (hypothesis' default alphabet leaves them out)."""
    for candidate in (text, f"https://{text}", f"http://[{text}]/", f"https://xn--{text}/", f"https://a.{text}\ud800"):
        check_url(candidate, "p", CONTEXT)
        check_host(candidate, "p", CONTEXT)
