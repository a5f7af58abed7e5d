"""What `aigateway local` says: lines for people, or one JSON object a line for programs. Each thing once, and when it is over.

Knows nothing but what it is told; prints to standard output. Called by `local`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.findings import ERROR, NOTE, WARNING, Finding, counted
from aigateway_operator.cli.local_rounds import Gateway, Round
from aigateway_operator.cli.output import paint

_COLOURS: Final = {ERROR: "red", WARNING: "yellow", NOTE: "dim"}


class Report:
    """Tells what happens. `as_json`: for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._said: set[Finding] = set()
        self._held: set[GatewayKey] = set()
        self._shown: set[GatewayKey] = set()

    def started(self, folder: str, allowed: Iterable[IPv4Network | IPv6Network]) -> None:
        """Say which folder it is and which addresses count as allowed here."""
        networks = [str(network) for network in allowed]
        allowed_text = ", ".join(networks) or "none"
        text = f"{folder} instead of a cluster. Addresses allowed here although rules refuse them: {allowed_text}."
        self._tell("started", text, "dim", folder=folder, allowAddresses=networks)

    def round(self, done: Round) -> None:
        """Say what a round found and did; nothing of what was said before and still holds."""
        current = set(done.findings)
        for finding in done.findings:
            if finding not in self._said:
                self._tell("finding", str(finding), _COLOURS[finding.severity], **finding.as_data())
        gone = [finding for finding in self._said - current if finding.severity == ERROR]
        if current - self._said and done.kept:
            self._tell("kept", f"  stays as it was: {', '.join(done.kept)}", "yellow", what=list(done.kept))
        self._said = current
        for key in set(done.held) - self._held:
            text = f"{key}: stays as it was rendered before, until every file can be read."
            self._tell("held", text, "yellow", gateway=str(key))
        self._held = set(done.held)
        for gateway in done.gateways:
            if gateway.written or gateway.key not in self._shown:
                self._rendered(gateway)
        self._shown = {gateway.key for gateway in done.gateways}
        for key in done.removed:
            self._tell("removed", f"{key}: has no GatewayConfig any more; its files were removed.", "yellow", gateway=str(key))
        if gone and not done.refused:
            self._tell("mended", "all rules hold again", "green")

    def _rendered(self, gateway: Gateway) -> None:
        numbers = f"revision {gateway.revision}, credentials {gateway.credentials_revision}"
        text = f"{gateway.key}: {numbers}, {counted(len(gateway.models), 'model')} → {gateway.folder}"
        self._tell(
            "rendered", text, "green", gateway=str(gateway.key), revision=gateway.revision,
            credentialsRevision=gateway.credentials_revision, models=list(gateway.models), folder=gateway.folder,
            milliseconds=gateway.milliseconds,
        )  # fmt: skip

    def waiting(self, gateway: str) -> None:
        """Say that there is nothing to serve yet."""
        self._tell("waiting", f"{gateway}: not served before it can be rendered.", "yellow", gateway=gateway)

    def serving(self, key: GatewayKey, url: str) -> None:
        """Say where callers are answered."""
        self._tell("serving", f"{key}: serving at {url}/v1", "green", gateway=str(key), url=url)

    def restart_required(self, key: GatewayKey, what: str) -> None:
        """Say that a change is not taken up by what runs."""
        self._tell(
            "restartRequired", f"{key}: {what} changed; start again to take it up.", "yellow", gateway=str(key), what=what
        )

    def _tell(self, event: str, text: str, colour: str = "", **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}, ensure_ascii=False) if self._as_json else paint(text, colour, sys.stdout)
        print(line, flush=True)
