"""The little that `hack/` itself says to an API server: one HTTPS request at a time, with a bearer token.

Not a Kubernetes client: no retries, no watches, no knowledge of kinds. Proxies from the environment are ignored, since
the server is on this machine. Called by `hack.controlplane`, and through it by tests.
"""

from __future__ import annotations

import http.client
import json
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
    """Requests to one API server on 127.0.0.1. Every request opens a connection of its own, so it is thread-safe."""

    def __init__(self, port: int, ca_file: Path, token: str) -> None:
        """`ca_file` is read at the first request: the server writes it while it starts."""
        self._port = port
        self._ca_file = ca_file
        self._token = token
        self._context: ssl.SSLContext | None = None

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None,
        content_type: str = "application/json", user_agent: str = "aigateway-hack", timeout_seconds: float = 10.0,
    ) -> Response:  # fmt: skip
        """Send one request and return the answer whatever its status; OSError when there is none in time.

        `body` is sent as JSON, None sends nothing; `token` replaces the administrator's, "" sends none.
        """
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self._ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=timeout_seconds, context=self._context)
        headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if bearer := self._token if token is None else token:
            headers["Authorization"] = f"Bearer {bearer}"
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        try:
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            return Response(answer.status, _parse(answer.read()))
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def _parse(payload: bytes) -> Any:
    if not payload:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
