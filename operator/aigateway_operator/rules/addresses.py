"""The policy on URLs and hosts: what may stand in `baseUrl` and in the `host` of a store.

Pure and by text: nothing is resolved or fetched (admission makes no network call); whoever connects resolves, checks
the address with `is_forbidden_address` and connects to the checked one. Called by the rules of both kinds, by `entry`,
and by the adapters that connect. A refused URL is never repeated in a message: it may hold a password.

Source: docs/rules.md#addresses, #r9 to #r12; RFC 3986 (grammar).
"""

from __future__ import annotations

import re
from typing import Final

from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.hostnames import HostKind, Refusal, judge_host
from aigateway_operator.rules.ranges import is_forbidden_address
from aigateway_operator.rules.violation import FieldReason, Violation

__all__ = ["check_host", "check_url", "is_forbidden_address"]

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)")
_LEGAL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
_LEGAL_PATH: Final = re.compile(r"(/|%[0-9A-Fa-f]{2}|[A-Za-z0-9\-._~:@!$&'()*+,;=])*")
_DOT_SEGMENT: Final = re.compile(r"/(\.|%2[eE]){1,2}(/|$)")
_AUTHORITY: Final = re.compile(r"(\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^\[\]:]*))(?P<colon>:(?P<port>.*))?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_HOST_AND_PORT: Final = re.compile(r"([^:\[\]]*|\[[^\[\]]*\]):[0-9]*")


def check_url(url: str, path: str, context: RuleContext) -> list[Violation]:
    """Check a base URL: https, or http to a private address or a name inside the cluster; canonical; no forbidden host.

    `path` is the place in the resource. Returns every fault found, [] if the URL is fine. Raises nothing.
    Source: docs/rules.md#r9, #r10, #r11.
    """
    match = _URL.match(url)
    if match is None:
        return [_invalid(path, "is not an absolute URL. Write one such as https://api.example.com/v1.")]
    faults = [_invalid(path, text) for text in _form_faults(url, match)]
    if "@" in match["authority"]:
        # What follows the '@' is the real host, and clients differ on which '@': nothing more can be said for sure.
        return faults
    host = _judge_authority(match["authority"], context)
    if isinstance(host, Refusal):
        faults.append(Violation(path, host.reason, f"Not an allowed URL: {host.message}", host.rule))
    elif match["scheme"].lower() == "http" and host in (HostKind.NAME, HostKind.ADDRESS):
        faults.append(Violation(path, FieldReason.FORBIDDEN, _plain_http(match["authority"]), "R10"))
    return faults


def check_host(host: str, path: str, context: RuleContext) -> list[Violation]:
    """Check the host of a store: a bare name or address, under the same address rules as URLs.

    Returns at most one violation at `path`. Raises nothing. Source: docs/rules.md#r11, #r12.
    """
    fault = _bare_fault(host)
    if fault is not None:
        return [Violation(path, FieldReason.INVALID, f"Not a host: {fault}", "R12")]
    verdict = judge_host(host, context)
    if isinstance(verdict, Refusal):
        return [Violation(path, verdict.reason, f"Not an allowed host: {verdict.message}", verdict.rule)]
    return []


def check_listen_host(host: str, path: str, context: RuleContext) -> list[Violation]:
    """Check the address a gateway listens on: a bare name or address; any one (0.0.0.0 and loopback are usual).

    Returns at most one violation at `path`. Source: docs/rules.md#r12.
    """
    return [found for found in check_host(host, path, context) if found.rule != "R11"]


def _form_faults(url: str, match: re.Match[str]) -> list[str]:
    """List what is wrong with the text of a URL, apart from its host and port."""
    faults = []
    if match["scheme"].lower() not in ("http", "https"):
        faults.append("must begin with https:// (or http:// for a server inside the cluster).")
    if "@" in match["authority"]:
        faults.append("holds a user name or password ('@' before the path). Leave it out; use a secret reference for keys.")
    if "?" in url:
        faults.append("holds a query ('?'). Leave it out; a key in a URL ends up in logs.")
    if "#" in url:
        faults.append("holds a fragment ('#'). Leave it out.")
    if not _LEGAL.fullmatch(url, match.end("authority")):
        faults.append("holds characters that are not legal in a URL. Percent-encode them (%20 for a space).")
    elif not _LEGAL_PATH.fullmatch(match["path"]):
        faults.append("holds a '%' without two hexadecimal digits, or brackets in its path. Percent-encode them.")
    if _DOT_SEGMENT.search(match["path"]):
        faults.append("holds '.' or '..' in its path. Write the path that is meant.")
    return faults


def _judge_authority(authority: str, context: RuleContext) -> HostKind | Refusal:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return Refusal("R9", FieldReason.INVALID, "its host is neither a name nor an address; IPv6 addresses stand in [ ].")
    if parts["colon"] is not None and not (_PORT.fullmatch(parts["port"]) and int(parts["port"]) <= 65535):
        return Refusal("R9", FieldReason.INVALID, "its port is not a number from 1 to 65535.")
    bracketed = parts["bracketed"]
    return judge_host(parts["plain"], context) if bracketed is None else judge_host(bracketed, context, bracketed=True)


def _plain_http(authority: str) -> str:
    """Say why http is refused; a name of two labels may be meant as `<service>.<namespace>`, which needs `.svc`."""
    host, colon, port = authority.partition(":")
    text = "http is only for names inside the cluster and private addresses. Write https://"
    if authority.startswith("[") or host.count(".") != 1:
        return f"{text}, or <service>.<namespace>.svc for a Service."
    service, _, namespace = host.partition(".")
    return f"{text}, or {host}.svc{colon}{port} if Service '{service}' in namespace '{namespace}' is meant."


def _bare_fault(host: str) -> str | None:
    """Say what stands in a host that does not belong there; the text, maybe a password, is not repeated."""
    if "://" in host:
        return "it begins with a scheme. Write the name or address alone."
    if "@" in host:
        return "it holds a user name or password ('@'). Use username and a secret reference."
    if any(char in host for char in "/?#\\"):
        return "it holds a path. Write the name or address alone."
    if _HOST_AND_PORT.fullmatch(host):
        return "it holds a port. Put the number into port."
    if "[" in host or "]" in host:
        return "it holds brackets. Write an IPv6 address without them."
    return None


def _invalid(path: str, text: str) -> Violation:
    return Violation(path, FieldReason.INVALID, f"The URL {text}", "R9")
