"""Watches kinds of objects and knows when each change arrived: what the demo measures with, instead of polling.

One thread and one connection a kind. A watch that breaks fails whoever waits; it is not taken up again, since a demo
that lost events could not tell the truth about times. Called by the acts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hack.controlplane import ControlPlane

Object = dict[str, Any]

PATHS: Final = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "VirtualModel": "/apis/ai-gateway.io/v1alpha1/namespaces/{}/virtualmodels",
    "GatewayConfig": "/apis/ai-gateway.io/v1alpha1/namespaces/{}/gatewayconfigs",
}
_READ_TIMEOUT_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One change: when it arrived (`time.monotonic`), ADDED, MODIFIED or DELETED, and the object as it was then."""

    at: float
    type: str
    object: Object


class FeedError(RuntimeError):
    """What was waited for did not come; the text ends with the last state seen."""


class Feed:
    """The changes of several kinds in one namespace, in order of arrival for each object."""

    def __init__(self, plane: ControlPlane, namespace: str, kinds: Sequence[str] = tuple(PATHS)) -> None:
        """Start watching; objects that are there already arrive as ADDED."""
        self._plane = plane
        self._history: dict[tuple[str, str], list[Seen]] = {}
        self._changed = threading.Condition()
        self._error = ""
        self._closing = False
        self._connections: list[http.client.HTTPSConnection] = []
        for kind in kinds:
            threading.Thread(target=self._follow, args=(kind, PATHS[kind].format(namespace)), daemon=True).start()

    def current(self, kind: str, name: str) -> Object | None:
        """Return the newest state of an object; None when it does not exist."""
        with self._changed:
            history = self._history.get((kind, name), [])
            return history[-1].object if history and history[-1].type != "DELETED" else None

    def wait(
        self, kind: str, name: str, holds: Callable[[Object], bool], *, since: float = 0.0, within_seconds: float = 10.0
    ) -> Seen:
        """Return the first state of the object that arrived after `since` (`time.monotonic`) and for which `holds`.

        With `since` 0 any state seen so far may do. An object that lacks what `holds` looks at does not hold. FeedError
        after `within_seconds`.
        """

        def wanted(seen: Seen) -> bool:
            with contextlib.suppress(LookupError, ValueError, TypeError):
                return seen.type != "DELETED" and holds(seen.object)
            return False

        return self._wait(kind, name, wanted, since, within_seconds)

    def wait_gone(self, kind: str, name: str, *, since: float, within_seconds: float = 10.0) -> Seen:
        """Return the deletion of the object, after `since`. FeedError after `within_seconds`."""
        return self._wait(kind, name, lambda seen: seen.type == "DELETED", since, within_seconds)

    def _wait(self, kind: str, name: str, wanted: Callable[[Seen], bool], since: float, within_seconds: float) -> Seen:
        deadline = time.monotonic() + within_seconds
        looked_at = 0
        with self._changed:
            while True:
                history = self._history.get((kind, name), [])
                for seen in history[looked_at:]:
                    if seen.at >= since and wanted(seen):
                        return seen
                looked_at = len(history)
                if self._error:
                    raise FeedError(f"the watch of {kind} broke: {self._error}")
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    last = _describe(history[-1]) if history else "it never existed"
                    raise FeedError(f"{kind} '{name}' is not as expected after {within_seconds:.0f} s; {last}")

    def stop(self) -> None:
        """End all watches."""
        self._closing = True
        for connection in self._connections:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(2)

    def _follow(self, kind: str, path: str) -> None:
        try:
            # resourceVersion=0 sends what is there first, then changes, over the one connection.
            answer = self._open(f"{path}?watch=1&resourceVersion=0&timeoutSeconds={_READ_TIMEOUT_SECONDS:.0f}")
            for line in answer:
                self._take(kind, json.loads(line), time.monotonic())
            self._fail("it ended")
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._fail(f"{type(error).__name__}: {error}")

    def _open(self, path: str) -> http.client.HTTPResponse:
        context = ssl.create_default_context(cafile=str(self._plane.ca_file))
        host = self._plane.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, timeout=_READ_TIMEOUT_SECONDS, context=context)
        self._connections.append(connection)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self._plane.admin_token}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ConnectionError(f"HTTP {answer.status} for {path}")
        return answer

    def _take(self, kind: str, event: Any, at: float) -> None:
        if event["type"] not in {"ADDED", "MODIFIED", "DELETED"}:
            raise ConnectionError(f"{event['type']}: {event['object'].get('message')}")
        key = kind, str(event["object"]["metadata"]["name"])
        with self._changed:
            self._history.setdefault(key, []).append(Seen(at, event["type"], event["object"]))
            self._changed.notify_all()

    def _fail(self, text: str) -> None:
        if not self._closing:
            with self._changed:
                self._error = text
                self._changed.notify_all()


def _describe(seen: Seen) -> str:
    """The last state in words, without anything that a Secret holds."""
    if seen.type == "DELETED":
        return "it is deleted"
    shown = seen.object.get("status", {}).get("conditions") or sorted(seen.object.get("data") or {})
    return f"last seen at resourceVersion {seen.object['metadata']['resourceVersion']}: {json.dumps(shown)}"
