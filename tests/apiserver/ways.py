"""The six ways in which edits reach the API server: two of kubectl, server-side apply, two patches, PUT. Not a test module.

A way takes many edits of stored objects and tells of each what was answered. Objects are stored twice: by `kubectl apply`,
which remembers what it applied, and by server-side apply, whose manager owns every field; removal shows only so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hack.apiclient import Response
from hack.controlplane import ControlPlane
from tests.apiserver.edits import Edit, base
from tests.apiserver.test_bad_manifests import GONE, Manifest, changed
from tests.apiserver.world import PLURALS

MANAGER: Final = "gitops"
KUBECTL, APPLIED = "k", "s"
"""First letter of an object's name: who stored it."""
KINDS: Final = ("VirtualModel", "GatewayConfig")
_REFUSAL: Final = re.compile(r"^(?=Error from server|error: |The (?:VirtualModel|GatewayConfig) )", re.MULTILINE)
_NAME: Final = re.compile(r'(?:Name: "|(?:VirtualModel|GatewayConfig)(?:\.ai-gateway\.io)? ["\'])([ks][0-9]{3})["\']')


@dataclass(frozen=True)
class Table:
    """Edits with the objects that are stored for them, in one namespace."""

    plane: ControlPlane
    namespace: str
    edits: Sequence[Edit]
    first: int = 0
    """Number of the first object, where several tables share a namespace."""

    def names(self, storer: str) -> list[str]:
        """Return the names of the stored objects, in the order of the edits."""
        return [f"{storer}{self.first + number:03}" for number in range(len(self.edits))]

    def path(self, kind: str, name: str = "") -> str:
        """Return the path of a collection or an object."""
        root, plural = PLURALS[kind]
        return f"{root}/namespaces/{self.namespace}/{plural}{f'/{name}' if name else ''}"

    def store(self, *storers: str) -> None:
        """Store every object, once for each storer."""
        if KUBECTL in storers:
            stored = [base(edit.kind, name) for edit, name in zip(self.edits, self.names(KUBECTL), strict=True)]
            answers = kubectl_apply(self, stored, "--validate=strict")
            assert not any(answers.values()), answers
        if APPLIED in storers:
            for edit, name in zip(self.edits, self.names(APPLIED), strict=True):
                answer = server_side_apply(self, edit.kind, name, base(edit.kind, name))
                assert answer.status == 201, answer.body

    def contents(self) -> dict[str, Manifest]:
        """Return every stored object, whole, by kind and name."""
        found: dict[str, Manifest] = {}
        for kind in KINDS:
            for item in self.plane.request("GET", self.path(kind)).body["items"]:
                found[f"{kind}/{item['metadata']['name']}"] = item
        return found


Answers = dict[str, str]
"""By name of the object: the text of the refusal, "" where the edit was accepted."""
Way = Callable[[Table, bool], Answers]
"""Sends every edit of a table; `dry` leaves no trace."""


def kubectl_apply(table: Table, manifests: Iterable[Manifest], *options: str) -> Answers:
    """Apply many objects in one process and tell them apart in what it prints."""
    listed = list(manifests)
    text = "\n".join(json.dumps(manifest) for manifest in listed)
    done = table.plane.kubectl("apply", "-n", table.namespace, "-f", "-", *options, input=text, timeout_seconds=180)
    answers: Answers = {}
    for refusal in _REFUSAL.split(done.stderr):
        if match := _NAME.search(refusal):
            # What was sent is printed first; only what was answered counts.
            answers[match[1]] = re.sub(r"^.*?\nfor: \"", "", refusal, flags=re.DOTALL)
    accepted = set(re.findall(r"/([ks][0-9]{3}) (?:created|configured|unchanged)", done.stdout))
    for manifest in listed:
        name = manifest["metadata"]["name"]
        assert (name in accepted) != (name in answers), f"{name}: {done.stderr[-2000:]}"
        answers.setdefault(name, "")
    return answers


def server_side_apply(table: Table, kind: str, name: str, manifest: Manifest, query: str = "") -> Response:
    """Apply as a GitOps tool does."""
    path = f"{table.path(kind, name)}?fieldManager={MANAGER}&fieldValidation=Strict{query}"
    return table.plane.request("PATCH", path, manifest, content_type="application/apply-patch+yaml")


def _by_kubectl(validate: str) -> Way:
    def send(table: Table, dry: bool) -> Answers:
        wanted = [
            changed(base(edit.kind, name), edit.change) for edit, name in zip(table.edits, table.names(KUBECTL), strict=True)
        ]
        options = [f"--validate={validate}", *(["--dry-run=server"] if dry else [])]
        return kubectl_apply(table, wanted, *options)

    return send


def _by_request(send_one: Callable[[Table, Edit, str, str], Response]) -> Way:
    def send(table: Table, dry: bool) -> Answers:
        query = "&dryRun=All" if dry else ""
        answers: Answers = {}
        for edit, name in zip(table.edits, table.names(APPLIED), strict=True):
            answer = send_one(table, edit, name, query)
            message = "" if answer.status < 300 else f"{answer.status} {_text(answer.body)}"
            answers[name] = message
        return answers

    return send


def _text(body: Any) -> str:
    return str(body.get("message", body)) if isinstance(body, Mapping) else str(body)


def _apply(table: Table, edit: Edit, name: str, query: str) -> Response:
    return server_side_apply(table, edit.kind, name, changed(base(edit.kind, name), edit.change), query)


def _merge_patch(table: Table, edit: Edit, name: str, query: str) -> Response:
    before = base(edit.kind, name)
    patch = difference(before, changed(before, edit.change))
    path = f"{table.path(edit.kind, name)}?x{query}"
    return table.plane.request("PATCH", path, patch, content_type="application/merge-patch+json")


def difference(before: Any, after: Any) -> Any:
    """Return the JSON merge patch (RFC 7396) that makes `after` of `before`."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch = {key: None for key in before if key not in after}
    # As JSON: Python takes 1 and true for equal.
    differing = {key for key in after if key not in before or json.dumps(before[key]) != json.dumps(after[key])}
    return patch | {key: difference(before.get(key), after[key]) for key in differing}


def _json_patch(table: Table, edit: Edit, name: str, query: str) -> Response:
    before = base(edit.kind, name)
    path = f"{table.path(edit.kind, name)}?x{query}"
    operations = [_operation(before, place, value) for place, value in edit.change.items()]
    return table.plane.request("PATCH", path, operations, content_type="application/json-patch+json")


def _operation(before: Manifest, place: str, value: Any) -> dict[str, Any]:
    holder: Any = before
    *above, last = place.split(".")
    for step in above:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    pointer = "/" + place.replace("~", "~0").replace("/", "~1").replace(".", "/")
    if value is GONE:
        return {"op": "remove", "path": pointer}
    there = isinstance(holder, list) or last in holder
    return {"op": "replace" if there else "add", "path": pointer, "value": value}


def _put(table: Table, edit: Edit, name: str, query: str) -> Response:
    path = f"{table.path(edit.kind, name)}"
    stored = table.plane.request("GET", path).body
    return table.plane.request("PUT", f"{path}?x{query}", changed(stored, edit.change))


BY_APPLY: Final = "server-side apply"
WAYS: Final[Mapping[str, Way]] = {
    "kubectl apply": _by_kubectl("strict"),
    "kubectl apply --validate=ignore": _by_kubectl("ignore"),
    BY_APPLY: _by_request(_apply),
    "JSON merge patch": _by_request(_merge_patch),
    "JSON patch": _by_request(_json_patch),
    "PUT": _by_request(_put),
}


def storer_of(way: str) -> str:
    """Return whose objects a way edits."""
    return KUBECTL if way.startswith("kubectl") else APPLIED
