"""The running demo: its servers, its screen, and the few things that acts do with them.

Knows how to type a command, send an edit, judge and record; what is shown is the acts' business. Called by them.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hack.controlplane import ControlPlane
from hack.demo.door import Door
from hack.demo.feed import PATHS, Feed, FeedError, Object
from hack.demo.front import Front
from hack.demo.screen import Screen, duration
from hack.operatorprocess import OperatorProcess
from hack.process import ServerError

NAMESPACE: Final = "ai"
_SHORT: Final = {"VirtualModel": "vmodel", "GatewayConfig": "gwc", "Secret": "secret", "ConfigMap": "configmap"}
_MERGE: Final = "application/merge-patch+json"


class Untrue(Exception):
    """What the demo was about to show is not so."""


@dataclass(frozen=True, slots=True)
class Edit:
    """When an edit was sent and when it was answered (`time.monotonic`); what it causes may be seen before the answer."""

    sent: float
    answered: float


@dataclass(slots=True)
class Row:
    """One line of the table at the end. `took_ms` is what `measured` names, None when the step failed before."""

    title: str
    measured: str = "the whole step"
    took_ms: float | None = None
    true: bool = False


class Show:
    """What every act is handed. `rows` is the table so far."""

    def __init__(self, plane: ControlPlane, operator: OperatorProcess, screen: Screen, stack: ExitStack) -> None:
        """`plane` has the CRDs and `operator` runs on it; what acts start ends with `stack`."""
        self.plane = plane
        self.operator = operator
        self.screen = screen
        self.feed = Feed(plane, NAMESPACE)
        stack.callback(self.feed.stop)
        self.rows: list[Row] = []
        self._stack = stack
        self._front: Front | None = None

    @property
    def front(self) -> Front:
        """What callers meet; started when it is first asked for."""
        if self._front is None:
            self._front = Front(self.plane, NAMESPACE, self._stack)
        return self._front

    @property
    def addresses(self) -> list[str]:
        """Where gateway pods answer callers; [] if no act has started any."""
        return [] if self._front is None else [f"http://{pod.ip}:8000" for pod in self._front.pods]

    def open_door(self) -> Door:
        """Start the webhook."""
        door = Door(self.plane)
        self._stack.callback(door.stop)
        return door

    @contextmanager
    def step(self, title: str) -> Iterator[Row]:
        """Head an act, time it, and record whether what it showed was true; an untrue one does not stop the others."""
        row = Row(title)
        self.rows.append(row)
        self.screen.title(title)
        started = time.monotonic()
        try:
            self.operator.check_alive()
            yield row
            row.true = True
            if row.took_ms is None:
                row.took_ms = (time.monotonic() - started) * 1000
        except (Untrue, FeedError, ServerError) as error:
            self.screen.failed(f"Not true: {error}")

    def timed(self, row: Row, text: str, *, measured: str, edit: Edit, at: float) -> None:
        """State what was found true at `at`; the time since the edit's answer goes into the table as `measured`."""
        row.measured, row.took_ms = measured, max(0.0, at - edit.answered) * 1000
        self.screen.seen(text, row.took_ms)

    def kubectl(self, *arguments: str | Path, input: str | None = None, shown: str | None = None) -> list[str]:  # noqa: A002
        """Show a command, run it, and return the lines of its output. Untrue when it fails; `shown` replaces its text."""
        self._show_command(arguments, shown)
        done = self.plane.kubectl(*arguments, input=input)
        check(done.returncode == 0, f"kubectl ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def kubectl_refused(self, *arguments: str | Path, input: str | None = None, shown: str | None = None) -> str:  # noqa: A002
        """Show a command that the API server must refuse, run it, show and return what kubectl said."""
        self._show_command(arguments, shown)
        done = self.plane.kubectl(*arguments, input=input)
        self.screen.quote(done.stderr)
        check(done.returncode != 0, "the API server accepted it")
        return done.stderr

    def edit(self, kind: str, name: str, patch: Mapping[str, Any], *, shown: Mapping[str, Any] | None = None) -> Edit:
        """Show the `kubectl patch` a user would type (with `shown` in place of `patch`), and send that edit.

        It goes as one HTTPS request: starting kubectl alone would take longer than what is measured.
        """
        body = shlex.quote(json.dumps(patch if shown is None else shown))
        self.screen.command(f"kubectl patch -n {NAMESPACE} {_SHORT[kind]} {name} --type merge -p {body}")
        return self._send("PATCH", kind, name, patch)

    def delete(self, kind: str, name: str) -> Edit:
        """Show and do a deletion."""
        self.screen.command(f"kubectl delete -n {NAMESPACE} {_SHORT[kind]} {name}")
        return self._send("DELETE", kind, name, None)

    def _send(self, method: str, kind: str, name: str, body: object) -> Edit:
        sent = time.monotonic()
        answer = self.plane.request(method, self._path(kind, name), body, content_type=_MERGE)
        answered = time.monotonic()
        # Not the whole answer: it would repeat what a Secret holds.
        check(answer.status in {200, 202}, f"the API server refused it: HTTP {answer.status} {answer.body.get('message', '')}")
        return Edit(sent, answered)

    def exists(self, kind: str, name: str) -> bool:
        """Ask the API server itself, not the feed, whether an object is there."""
        return self.plane.request("GET", self._path(kind, name)).status == 200

    def current(self, kind: str, name: str) -> Object:
        """Return the newest state of an object that must exist."""
        found = self.feed.current(kind, name)
        check(found is not None, f"{kind} '{name}' does not exist")
        assert found is not None
        return found

    def _path(self, kind: str, name: str) -> str:
        return f"{PATHS[kind].format(NAMESPACE)}/{name}"

    def _show_command(self, arguments: Iterable[str | Path], shown: str | None) -> None:
        self.screen.command(shown or shlex.join(["kubectl", *(str(argument) for argument in arguments)]))

    def table(self) -> list[list[str]]:
        """Return the rows of the table at the end, with its head."""
        rows = [["", "shown", "took", "measured"]]
        for row in self.rows:
            took = "" if row.took_ms is None else duration(row.took_ms)
            rows.append(["✓" if row.true else "✗", row.title, took, row.measured if row.true else "NOT TRUE"])
        return rows


def check(holds: bool, otherwise: str) -> None:
    """Raise Untrue with `otherwise` unless it holds."""
    if not holds:
        raise Untrue(otherwise)


def condition(obj: Object, type_: str) -> Mapping[str, Any]:
    """Return a condition that speaks of the object's present generation; {} when there is none."""
    generation = obj["metadata"]["generation"]
    found = [c for c in obj.get("status", {}).get("conditions", []) if c["type"] == type_]
    return found[0] if found and found[0].get("observedGeneration") == generation else {}


def is_ready(obj: Object) -> bool:
    """Whether Ready is True for the object's present generation."""
    return condition(obj, "Ready").get("status") == "True"


def document(config_map: Object) -> list[str]:
    """Return the lines of `config.yml`: a model or a section each."""
    return str(config_map["data"]["config.yml"]).splitlines()


def entries(config_map: Object) -> dict[str, Any]:
    """Return the virtual models of `config.yml` by public name, parsed. The document is JSON, and so YAML."""
    parsed = json.loads(config_map["data"]["config.yml"])
    return dict(parsed["ai-gateway"]["virtual_models"])


def line_of(config_map: Object, model_name: str) -> str:
    """Return the line of one model; "" when there is none."""
    start = f"{json.dumps(model_name)}:"
    return next((line.rstrip(",") for line in document(config_map) if line.startswith(start)), "")


def revision(config_map: Object) -> int:
    """Return the revision at which `config.yml` last changed."""
    return int(json.loads(config_map["data"]["config.manifest.json"])["revision"])
