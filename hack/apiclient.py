"""The little that `hack/` itself says to an API server: one HTTPS request at a time, with a bearer token.

Not a Kubernetes client: no retries, no watches, no knowledge of kinds. Proxies from the environment are ignored, since
the server is on this machine. Connections are kept: a TLS handshake takes longer than most answers, and tests ask often.
Called by `hack.controlplane`, and through it by tests.
"""

from __future__ import annotations

import http.client
import json
import select
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Response:
    """Status code and body of an answer: parsed JSON, text where it is no JSON, None when empty."""

    status: int
    body: Any


class ApiClient:
    """Requests to one API server on 127.0.0.1. Thread-safe: a connection is used by one request at a time."""

    def __init__(self, port: int, ca_file: Path, token: str) -> None:
        """`ca_file` is read at the first request: the server writes it while it starts."""
        self._port = port
        self._ca_file = ca_file
        self._token = token
        self._context: ssl.SSLContext | None = None
        self._idle: list[http.client.HTTPSConnection] = []
        self._closed = False

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None,
        content_type: str = "application/json", user_agent: str = "aigateway-hack", timeout_seconds: float = 10.0,
    ) -> Response:  # fmt: skip
        """Send one request and return the answer whatever its status; OSError when there is none in time.

        `body` is sent as JSON, None sends nothing; `token` replaces the administrator's, "" sends none.
        """
        headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if bearer := self._token if token is None else token:
            headers["Authorization"] = f"Bearer {bearer}"
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        connection = self._connection(timeout_seconds)
        try:
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            received = answer.read()
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"{method} {path}: {type(error).__name__}: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:
            self.close()
        return Response(answer.status, _parse(received))

    def close(self) -> None:
        """Close what is kept open; a request that is under way closes its connection at its end."""
        self._closed = True
        while (connection := self._take()) is not None:
            connection.close()

    def _connection(self, timeout_seconds: float) -> http.client.HTTPSConnection:
        """Return one that is kept and still open, else a new one that connects with its first request."""
        while (kept := self._take()) is not None:
            if _is_open(kept):
                kept.sock.settimeout(timeout_seconds)
                return kept
            kept.close()
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self._ca_file))
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout_seconds, context=self._context)

    def _take(self) -> http.client.HTTPSConnection | None:
        try:
            return self._idle.pop()  # the last one used: the others may be forgotten
        except IndexError:
            return None


def _is_open(connection: http.client.HTTPSConnection) -> bool:
    """Tell whether the server still holds an idle connection: there is nothing to read but its end, as after a SIGKILL."""
    if connection.sock is None:  # the answer said `Connection: close`
        return False
    poll = select.poll()  # not select(): tests have more than 1024 open files
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _parse(payload: bytes) -> Any:
    if not payload:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
