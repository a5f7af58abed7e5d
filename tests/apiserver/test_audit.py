"""One edit made with kubectl, followed by one trace id: admission, storage, rendering, the pods' reload; in MongoDB and by
`aigateway audit`. Operator and webhook are one real process, the MongoDB server is real, and so are the pods.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from hack.controlplane import ControlPlane
from hack.process import free_ports
from hack.stores import MongoServer
from tests.apiserver.test_admission_roles import write_pair
from tests.apiserver.world import World
from tests.delivery import fleet, furnish, wait_all_run
from tests.eventually import eventually
from tests.operators import ROOT, Process
from tests.webhooks import Authority, configured

pytestmark = pytest.mark.apiserver

CANARY = "sk-canary0123456789abcdefgh"
FULL = "The disk takes no records for the log spool"
WORKS_AGAIN = "The log spool works again"
FLIP = '{"spec": {"current": "big"}}'


@dataclass
class Audited:
    """`aigateway run --with-webhook` that logs to MongoDB and files."""

    process: Process
    authority: Authority
    url: str
    health_port: int
    folder: Path
    uri_file: Path
    database: str
    mongo: MongoServer

    def reviews(self) -> float:
        """How many reviews it has decided."""
        return self.metrics("aigateway_admission_reviews_total")

    def metrics(self, name: str) -> float:
        """Sum of a metric over its labels."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError as error:
            raise AssertionError(f"no metrics: {error}\n{self.process.output()[-2000:]}") from None
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def told(self, text: str) -> int:
        """How many lines on standard error say so."""
        return self.process.output().count(text)

    def records(self) -> list[dict[str, Any]]:
        """Every operation record in MongoDB."""
        with MongoClient[dict[str, Any]](self.mongo.url, tz_aware=True) as client:
            return list(client[self.database]["operation_logs"].find({}))

    def audit(self, *arguments: str, files: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the command as a user would."""
        place = ["--log-dir", str(self.folder / "logs")] if files else ["--mongodb-uri-file", str(self.uri_file)]
        command = [sys.executable, "-m", "aigateway_operator", "audit", *arguments, *place, "--database", self.database]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), "HOME": str(self.folder)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def audited(
    plane: ControlPlane, world: World, kubeconfig: Path, mongo_server: MongoServer, tmp_path: Path
) -> Iterator[Audited]:
    """A running operator with its webhook in front of the test's namespace."""
    with auditing(plane, world, kubeconfig, mongo_server, tmp_path, tmp_path) as made:
        yield made


@contextmanager
def auditing(
    plane: ControlPlane, world: World, kubeconfig: Path, mongo_server: MongoServer, tmp_path: Path, disk: Path
) -> Iterator[Audited]:
    """As `audited`, with log files and spool on `disk`."""
    authority = Authority()
    write_pair(tmp_path / "tls", authority)
    port, health_port = free_ports(2)
    database = f"audit_{world.namespace.replace('-', '_')}"
    uri_file = tmp_path / "uri"
    uri_file.write_text(mongo_server.url)
    process = Process.start(
        kubeconfig,
        tmp_path / "operator.log",
        namespaces=world.namespace,
        lease_namespace="aigateway-system",
        lease_name=world.namespace,
        allow_addresses="127.0.0.0/8",
        health_port=str(health_port),
        with_webhook="true",
        webhook_certificates="files",
        webhook_cert_dir=str(tmp_path / "tls"),
        webhook_host="127.0.0.1",
        webhook_port=str(port),
        webhook_drain_seconds="0",
        log_level="DEBUG",
        log_dir=str(disk / "logs"),
        log_spool_dir=str(disk / "spool"),
        log_mongodb_uri_file=str(uri_file),
        log_mongodb_database=database,
        log_mongodb_indexes="false",
    )
    made = Audited(process, authority, f"https://127.0.0.1:{port}", health_port, tmp_path, uri_file, database, mongo_server)
    try:
        eventually(made.reviews, within_seconds=40)
        with configured(plane, made, world.namespace):
            yield made
    finally:
        code = process.stop()
        with MongoClient[dict[str, Any]](mongo_server.url) as client:
            client.drop_database(database)
        assert code == 0, process.output()


def kubectl_as(world: World, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl as a user."""
    return world.plane.kubectl("--as", user, "--as-group", "system:masters", "-n", world.namespace, *arguments)


def test_one_edit_is_followed_by_one_trace_from_admission_to_the_pods(world: World, audited: Audited, tmp_path: Path) -> None:
    """Who, what field by field, and what became of it, under one id in MongoDB and on the screen; secrets nowhere."""
    with fleet(world, tmp_path / "pods") as pods:
        furnish(world, pods.port)
        pods.start("reader")
        wait_all_run(world, 1)
        edit = kubectl_as(world, "jane@example.com", "patch", "vmodel", "chat", "--type=merge", "-p", FLIP)
        assert edit.returncode == 0, edit.stderr
        secret = {"spec": {"backends": [{"name": "big", "model": "m", "parameters": {"api_key": CANARY}}]}}
        refused = kubectl_as(world, "mallory", "patch", "vmodel", "chat", "--type=merge", "-p", json.dumps(secret))
        assert refused.returncode != 0, "a secret in an open map is refused"
        wait_all_run(world, 1)

        def all_there() -> list[dict[str, Any]]:
            records = audited.records()
            admissions = [one for one in records if one["user_id"] == "jane@example.com"]
            assert len(admissions) == 1, admissions
            mine = [one for one in records if one["trace_id"] == admissions[0]["trace_id"]]
            steps = [one["operation"] for one in sorted(mine, key=lambda one: one["_id"]) if one["user_id"] != "mallory"]
            assert steps == ["admission", "config_update", "render", "rollout"], steps
            return mine

        mine = {one["operation"]: one for one in eventually(all_there, within_seconds=30)}
    admission, stored = mine["admission"], mine["config_update"]
    assert admission["status"] == "pending"
    assert "system:masters" in admission["request_data"]["groups"]
    change = {"path": "spec.current", "old": "small", "new": "big"}
    assert admission["metadata"]["changes"] == stored["metadata"]["changes"] == [change]
    assert (stored["metadata"]["previous_version"], stored["metadata"]["new_version"]) == (1, 2)
    assert admission["trace_id"] in mine["rollout"]["metadata"]["traces"]
    assert mine["rollout"]["status"] == "success"
    assert mine["render"]["metadata"]["revision"] == mine["rollout"]["metadata"]["revision"]

    shown = audited.audit("vmodel/chat", "--user", "jane@example.com", "-n", world.namespace)
    assert shown.returncode == 0, shown.stderr
    assert f"update VirtualModel {world.namespace}/chat: spec.current: small → big  [rolled out]" in shown.stdout
    assert f"trace {admission['trace_id']}" in shown.stdout
    assert "1 of 1 pods" in shown.stdout
    data = json.loads(audited.audit("--trace", admission["trace_id"], "-o", "json").stdout)
    assert [step["operation"] for entry in data for step in entry["steps"]] == ["config_update", "render", "rollout"]
    mallory = json.loads(audited.audit("--user", "mallory", "-n", world.namespace, "-o", "json").stdout)
    assert [entry["outcome"] for entry in mallory] == ["refused"]
    assert mallory[0]["violations"]

    audited.process.stop()
    from_files = json.loads(audited.audit("vmodel/chat", "-n", world.namespace, "-o", "json", files=True).stdout)
    from_mongodb = json.loads(audited.audit("vmodel/chat", "-n", world.namespace, "-o", "json").stdout)
    assert [(one["trace"], one["outcome"]) for one in from_files] == [(one["trace"], one["outcome"]) for one in from_mongodb]
    assert_nowhere(audited, CANARY, "caller-key", "small-model-key", "big-model-key")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_no_edit_and_costs_the_trail_nothing(
    plane: ControlPlane, world: World, kubeconfig: Path, mongo_server: MongoServer, tmp_path: Path, tiny_disk: Path
) -> None:
    """Edits go through at once and each is recorded once; the failing disk is told once, and once that it works again."""
    with auditing(plane, world, kubeconfig, mongo_server, tmp_path, tiny_disk) as audited:
        furnish(world, 1)
        hog = tiny_disk / "hog"
        with pytest.raises(OSError, match="No space"):
            hog.write_bytes(b"x" * 2 * 1024 * 1024)
        names = [f"full-{number}" for number in range(12)]
        slowest = max(edited(world, name) for name in names)
        eventually(lambda: assert_told(audited, over=False), within_seconds=30)
        assert slowest < 5, "the API server waits for 10 s at most"
        hog.unlink()
        eventually(lambda: assert_told(audited, over=True), within_seconds=30)
        edited(world, "after")

        def all_there() -> None:
            found = [one for one in audited.records() if one["operation"] == "admission"]
            # The API server asks again when somebody wrote in between: another review of the same edit, never the same twice.
            reviews = Counter(one["request_data"]["review"] for one in found)
            assert max(reviews.values()) == 1, reviews
            changes = [change for one in found for change in one["metadata"]["changes"]]
            models = {str(change["new"]) for change in changes if change["path"].endswith(".model")}
            assert {one for one in models if one.startswith(("full-", "after"))} == {*names, "after"}

        eventually(all_there, within_seconds=30)
        assert audited.metrics("aigateway_log_dropped_total") == audited.metrics("aigateway_log_lost_total") == 0
        assert audited.told(FULL) <= 3, "what is trimmed makes room for a moment, but it is not told again and again"


def edited(world: World, model: str) -> float:
    """Change a model's live backend; returns the seconds until the API server said that it is stored."""
    patch = json.dumps({"spec": {"backends": [{"name": "small", "model": model}], "current": "small"}})
    began = time.monotonic()
    done = kubectl_as(world, "jane@example.com", "patch", "vmodel", "chat", "--type=merge", "-p", patch)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def assert_told(audited: Audited, *, over: bool) -> None:
    """For `eventually`: it was told that the disk is full, and, if it is `over`, as often that it works again."""
    full, again = audited.told(FULL), audited.told(WORKS_AGAIN)
    assert full, audited.process.output()[-2000:]
    assert again == full or not over, audited.process.output()[-2000:]


def assert_nowhere(audited: Audited, *secrets: str) -> None:
    """Assert that no file, spool segment, document or line on standard error holds one of these."""
    texts = {str(path): path.read_bytes() for path in audited.folder.rglob("*") if path.is_file() and "pods" not in path.parts}
    texts = {name: data for name, data in texts.items() if "kubeconfig" not in name and "/tls/" not in name}
    assert any("operation_" in name for name in texts)
    texts["MongoDB"] = json.dumps(audited.records(), default=str).encode()
    for secret in secrets:
        assert [name for name, data in texts.items() if secret.encode() in data] == []
