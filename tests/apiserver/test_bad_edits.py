"""One table of edits, six ways to the real API server: what is wrong is refused on every way, what is right on none.

With the webhook in place every bad edit is refused and its place named; without it schema and CEL still refuse theirs, and
the rest is stored but never reaches documents. Whatever is refused leaves etcd as it was.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aigateway_operator.rules import RuleContext, check_edit
from hack.audit import WRITES
from hack.controlplane import ControlPlane
from tests.apiserver.conftest import StartOperator
from tests.apiserver.door import Door
from tests.apiserver.edits import BAD, GATEWAY_CONFIG, GOOD, SCHEMA, TOO_LARGE, VIRTUAL_MODEL, WEBHOOK, Edit, base
from tests.apiserver.test_bad_manifests import Manifest, changed
from tests.apiserver.ways import APPLIED, BY_APPLY, KUBECTL, WAYS, Answers, Table, server_side_apply, storer_of
from tests.apiserver.world import World, gateway_config, secret
from tests.conftest import require_binaries
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver
EVERYONE = (KUBECTL, APPLIED)


@pytest.fixture(scope="module")
def home(plane: ControlPlane) -> Iterator[str]:
    """A namespace for the tables."""
    name = f"edits-{secrets.token_hex(3)}"
    made = plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.status == 201, made.body
    yield name
    plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def bad(plane: ControlPlane, home: str) -> Table:
    """The objects that bad edits are tried on."""
    table = Table(plane, home, BAD)
    table.store(*EVERYONE)
    return table


@pytest.fixture(scope="module")
def good(plane: ControlPlane, home: str) -> Table:
    """The objects that good edits are tried on."""
    table = Table(plane, home, GOOD, first=500)
    table.store(*EVERYONE)
    return table


@pytest.fixture
def door(plane: ControlPlane, home: str) -> Iterator[Door]:
    """The webhook, in force for the namespace."""
    door = Door(plane, home).start()
    try:
        door.install()
        eventually(lambda: _assert_reviewed(plane, home, expected=422), within_seconds=10)
        yield door
    finally:
        door.remove()
        door.stop()


@pytest.fixture
def no_door(plane: ControlPlane, home: str) -> None:
    """The same namespace without a webhook: one that a test before had is forgotten."""
    eventually(lambda: _assert_reviewed(plane, home, expected=201), within_seconds=10)


def _assert_reviewed(plane: ControlPlane, home: str, *, expected: int) -> None:
    """Try what only the webhook refuses, three times in a row."""
    probe = changed(base(VIRTUAL_MODEL, "probe"), {"spec.baseUrl": "http://127.0.0.1"})
    path = f"/apis/ai-gateway.io/v1alpha1/namespaces/{home}/virtualmodels?dryRun=All"
    assert [plane.request("POST", path, probe).status for _ in range(3)] == [expected] * 3


def texts_of(edit: Edit, name: str) -> list[str]:
    """Return all that the rules say of an edit."""
    before = base(edit.kind, name)
    found = check_edit(edit.kind, changed(before, edit.change).get("spec"), before["spec"], RuleContext(name))
    return [str(violation) for violation in found.violations]


def names_place(edit: Edit, answer: str, way: str) -> bool:
    """Whether a refusal names the place.

    Server-side apply writes items of lists otherwise (`[name="big"]`), and takes an object or list that is emptied for one
    that is gone: then the place of what was emptied is named.
    """
    if edit.path in answer:
        return True
    if way != BY_APPLY:
        return False
    emptied = [place for place, value in edit.change.items() if value in ({}, [])]
    if emptied:
        return all(place in answer or f"missing required fields: {place.removeprefix('spec.')}" in answer for place in emptied)
    return re.sub(r"\[[0-9]+\].*", "", edit.path) in answer


def faults_of(table: Table, answers: Answers, way: str, layer: str) -> list[str]:
    """Return a line for every edit of a layer that was accepted, or whose refusal does not say what it must."""
    faults = []
    for edit, name in zip(table.edits, table.names(storer_of(way)), strict=True):
        answer = answers[name]
        if edit.layer != layer:
            continue
        if not answer:
            faults.append(f"{edit}: accepted")
        elif not names_place(edit, answer, way):
            faults.append(f"{edit}: does not name {edit.path}: {answer[:300]}")
        elif layer == WEBHOOK and (missing := [text for text in texts_of(edit, name) if text not in answer]):
            faults.append(f"{edit}: does not say {missing}: {answer[:600]}")
    return faults


def test_table_is_wide_enough() -> None:
    """At least 150 bad edits, a good part of them for each layer, and 60 good ones."""
    assert len(BAD) >= 150
    assert sum(edit.layer == SCHEMA for edit in BAD) >= 60
    assert sum(edit.layer == WEBHOOK for edit in BAD) >= 60
    assert len(GOOD) >= 60


@pytest.mark.parametrize("way", WAYS)
def test_every_bad_edit_is_refused_by_its_place_and_nothing_changes(bad: Table, door: Door, way: str) -> None:
    """Refused, with the place and, where the webhook answers, every violation; etcd is as it was, and so says the audit."""
    before, mark = bad.contents(), bad.plane.audit_mark()
    answers = WAYS[way](bad, False)
    faults = [*faults_of(bad, answers, way, SCHEMA), *faults_of(bad, answers, way, WEBHOOK)]
    assert not faults, "\n".join(faults)
    assert bad.contents() == before
    written = bad.plane.audit_since(mark, verbs=WRITES, namespace=bad.namespace)
    assert len(written) >= len(BAD)
    assert [record for record in written if record.code < 300 and "dryRun" not in record.uri] == []


@pytest.mark.parametrize("way", WAYS)
def test_schema_and_cel_hold_while_the_webhook_is_away(bad: Table, no_door: None, way: str) -> None:
    """What the table says of layers is true: theirs are refused by the API server alone, the others would be stored."""
    before = bad.contents()
    answers = WAYS[way](bad, True)
    faults = faults_of(bad, answers, way, SCHEMA)
    assert not faults, "\n".join(faults)
    names = dict(zip(bad.names(storer_of(way)), bad.edits, strict=True))
    refused = [f"{names[name]}: {text[:200]}" for name, text in answers.items() if text and names[name].layer == WEBHOOK]
    assert not refused, "\n".join(refused)
    assert bad.contents() == before


@pytest.mark.parametrize("way", WAYS)
def test_no_good_edit_is_refused(good: Table, door: Door, way: str) -> None:
    """Rules that refuse too much are a fault as well. Dry runs: each way starts from the same objects."""
    before = good.contents()
    refused = [f"{name}: {text[:400]}" for name, text in WAYS[way](good, True).items() if text]
    assert not refused, "\n".join(refused)
    assert good.contents() == before


def test_open_map_is_emptied_and_reference_taken_away_by_server_side_apply(good: Table, door: Door) -> None:
    """Not only as a dry run: what is stored afterwards is what was asked for."""
    model = changed(
        base(VIRTUAL_MODEL, "emptied"), {"spec.backends.0.parameters": {"a": 1}, "spec.gatewayRef.name": "elsewhere"}
    )
    gateway = base(GATEWAY_CONFIG, "emptied")
    for manifest in (model, gateway):
        assert server_side_apply(good, manifest["kind"], "emptied", manifest).status == 201
    del model["spec"]["backends"][0]["apiKeySecretRef"]
    model["spec"]["backends"][0]["parameters"] = {}
    del gateway["spec"]["storage"]["mongodb"]["passwordSecretRef"]
    gateway["spec"]["webSearch"]["options"] = {}
    for manifest in (model, gateway):
        answer = server_side_apply(good, manifest["kind"], "emptied", manifest)
        assert answer.status == 200, answer.body
        assert answer.body["spec"] == manifest["spec"]


def test_object_that_is_too_large_is_refused(bad: Table, door: Door) -> None:
    """By the rule, long before etcd's limit."""
    before = bad.contents()
    for way in ("JSON merge patch", "JSON patch", "PUT", BY_APPLY):
        (answer,) = WAYS[way](Table(bad.plane, bad.namespace, [TOO_LARGE]), False).values()
        assert "spec: is about 264 KiB large; at most 256 KiB are allowed for one object" in answer, way
    assert bad.contents() == before


def test_kubectl_prints_a_line_for_each_violation(bad: Table, door: Door) -> None:
    """The exact text that a person sees; the object is a new one, so that kubectl prints no patch."""
    wrong = changed(
        base(GATEWAY_CONFIG, "new"), {"spec.app.prot": 1, "spec.storage.redis.host": "localhost", "spec.log.sytem": {}}
    )
    shown = bad.plane.kubectl("apply", "-n", bad.namespace, "-f", "-", input=json.dumps(wrong))
    assert shown.returncode == 1
    head, *lines = shown.stderr.strip().splitlines()
    assert head.rstrip() == 'The GatewayConfig "new" is invalid:'
    unknown = "* spec.app.prot: Cannot add new key 'prot' to fixed structure at spec.app. Allowed keys: host, port, debug."
    stream = "* spec.log.sytem: Cannot add new key 'sytem' to fixed structure at spec.log. Allowed keys: system, operation."
    host = (
        "* spec.storage.redis.host: Not an allowed host: 'localhost' is a loopback address: the gateway pod itself; gateways "
        "and the operator never connect there. Name the server by its public name, its Service (<service>.<namespace>.svc) or "
        "its private address."
    )
    assert lines == [f"{unknown} Did you mean 'port'?", f"{stream} Did you mean 'system'?", host]


@pytest.mark.parametrize("number", range(0, len(BAD), len(BAD) // 8))
def test_helm_upgrade_with_a_bad_edit_fails_and_changes_nothing(bad: Table, door: Door, tmp_path: Path, number: int) -> None:
    """A chart whose values carry the object: installed valid, upgraded wrong. The release says what the API server said."""
    edit, name = BAD[number], f"h{number:03}"
    helm = Helm(bad, tmp_path)
    assert helm.run("install", name, base(edit.kind, name)).returncode == 0
    before = bad.plane.request("GET", bad.path(edit.kind, name)).body
    upgraded = helm.run("upgrade", name, changed(base(edit.kind, name), edit.change))
    assert upgraded.returncode != 0
    assert edit.path in upgraded.stderr
    assert bad.plane.request("GET", bad.path(edit.kind, name)).body == before


class Helm:
    """A throw-away chart with one object in its values, and Helm with a home of its own."""

    def __init__(self, table: Table, folder: Path) -> None:
        self.table, self.folder = table, folder
        self.binary = require_binaries(["helm"])["helm"]
        (folder / "chart" / "templates").mkdir(parents=True)
        (folder / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: throw-away\nversion: 0.1.0\n")
        (folder / "chart" / "templates" / "object.yaml").write_text("{{ .Values.object }}\n")

    def run(self, command: str, release: str, manifest: Manifest) -> subprocess.CompletedProcess[str]:
        """Install or upgrade the release with this object."""
        values = self.folder / "values.json"
        values.write_text(json.dumps({"object": json.dumps(manifest)}))
        options = [
            "--namespace",
            self.table.namespace,
            "--values",
            str(values),
            "--kubeconfig",
            str(self.table.plane.kubeconfig),
        ]
        environment = {**os.environ, **{f"HELM_{kind}_HOME": str(self.folder) for kind in ("CACHE", "CONFIG", "DATA")}}
        return subprocess.run(
            [str(self.binary), command, release, str(self.folder / "chart"), *options],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def test_what_only_the_webhook_refuses_never_reaches_documents(world: World, start_operator: StartOperator) -> None:
    """Without a webhook the rest of the table is stored, by all six ways in turn; every object is Accepted=False, and what
    gateways read stays byte for byte as it was.
    """
    rest = [edit for edit in BAD if edit.layer == WEBHOOK]
    tables = {
        way: Table(world.plane, world.namespace, rest[number :: len(WAYS)], first=number * 100)
        for number, way in enumerate(WAYS)
    }
    world.create(gateway_config(), *SECRETS)
    for way, table in tables.items():
        table.store(storer_of(way))
    start_operator()
    names = {f"{kind}/{name}" for way, table in tables.items() for kind, name in objects_of(table, way)}
    eventually(lambda: assert_accepted(world, tables, names, "True"), within_seconds=60, every_seconds=0.5)
    before = documents(world)
    for way, table in tables.items():
        refused = {name: text for name, text in WAYS[way](table, False).items() if text}
        assert refused == {}
    eventually(lambda: assert_accepted(world, tables, names, "False"), within_seconds=60, every_seconds=0.5)
    assert documents(world) == before


SECRETS = [
    secret("chat-keys", proxy="a"),
    secret("openai", **{"api-key": "b"}),
    secret("mongodb", password="c"),
    secret("redis", password="d"),
    secret("qdrant", key="e"),
    secret("search", key="f"),
    secret("ca", **{"ca.crt": "g"}),
]


def objects_of(table: Table, way: str) -> list[tuple[str, str]]:
    """Return (kind, name) of each object that a way edits."""
    return [(edit.kind, name) for edit, name in zip(table.edits, table.names(storer_of(way)), strict=True)]


def assert_accepted(world: World, tables: dict[str, Table], names: set[str], status: str) -> None:
    """Assert that each object's present generation is accepted or not, and programmed in the first case."""
    found = next(iter(tables.values())).contents()
    wrong = []
    for name in sorted(names):
        metadata, conditions = found[name]["metadata"], (found[name].get("status") or {}).get("conditions") or []
        wanted = {"Accepted", "Programmed"} if status == "True" else {"Accepted"}
        said = {
            one["type"] for one in conditions if one["status"] == status and one["observedGeneration"] == metadata["generation"]
        }
        if wanted - said:
            wrong.append(f"{name}: {conditions}")
    assert not wrong, f"{len(wrong)} objects, such as {wrong[:3]}"


def documents(world: World) -> dict[str, dict[str, str]]:
    """Return the data of every ConfigMap in the namespace."""
    listed = world.plane.request("GET", world.path("ConfigMap")).body["items"]
    return {item["metadata"]["name"]: item.get("data") or {} for item in listed}
