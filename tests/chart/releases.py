"""Releases of the chart on a cluster whose pods run, as a user of Helm sees them; and everything that a cluster holds.

Called by the tests of this folder.
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from hack.node import Cluster
from tests.apiserver.world import Manifest, World
from tests.eventually import eventually

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "aigateway"
CRDS: Final = ROOT / "crds"
Values = Mapping[str, Any]
Key = tuple[str, str, str]
"""Resource with its group ("deployments.apps"), namespace ("" outside of any) and name."""

PASSING: Final = frozenset({"events", "events.events.k8s.io", "componentstatuses"})
"""What comes and goes by itself."""
ROOT_CA: Final = "kube-root-ca.crt"
"""The controller manager keeps a ConfigMap of this name in every namespace, and makes it again in one that is ending."""
LOCAL: Final = {"webhook": {"drainSeconds": 1}, "allowAddresses": ["127.0.0.0/8"]}
"""Values that only make tests quicker, or possible on one machine."""


@dataclass
class Release:
    """One release, by default in a namespace of its own that admits only what PodSecurity `restricted` does."""

    cluster: Cluster
    name: str = field(default_factory=lambda: f"r{secrets.token_hex(3)}")
    namespace: str = ""

    def __post_init__(self) -> None:
        """Make the namespace."""
        self.namespace = self.namespace or self.name
        restricted_namespace(self.cluster, self.namespace)

    def install(self, *arguments: str, values: Values | None = None, wait: bool = True, chart: Path = CHART) -> None:
        """`helm install`, by default until everything is ready."""
        self._change("install", arguments, values, wait, chart)

    def upgrade(self, *arguments: str, values: Values | None = None, wait: bool = True, chart: Path = CHART) -> None:
        """`helm upgrade`."""
        self._change("upgrade", arguments, values, wait, chart)

    def rollback(self, revision: int) -> None:
        """`helm rollback`, until everything is ready."""
        self.cluster.helm("rollback", self.name, str(revision), "-n", self.namespace, "--wait", "--timeout", "60s")

    def uninstall(self, *, wait: bool = True) -> None:
        """`helm uninstall`; without `wait` pods may still be ending."""
        self.cluster.helm("uninstall", self.name, "-n", self.namespace, *(("--wait", "--timeout", "60s") if wait else ()))

    def helm_test(self) -> subprocess.CompletedProcess[str]:
        """`helm test`; its result whatever it is."""
        return self.cluster.helm("test", self.name, "-n", self.namespace, "--timeout", "60s", check=False)

    def manifest(self) -> list[dict[str, Any]]:
        """Return what Helm says it has installed, hooks left out."""
        text = self.cluster.helm("get", "manifest", self.name, "-n", self.namespace).stdout
        return [one for one in yaml.safe_load_all(text) if one]

    def _change(self, verb: str, arguments: tuple[str, ...], values: Values | None, wait: bool, chart: Path) -> None:
        file = self.cluster.directory / f"{self.name}.json"
        file.write_text(json.dumps(merged(LOCAL, values or {})))
        waiting = ("--wait", "--timeout", "60s") if wait else ()
        self.cluster.helm(verb, self.name, chart, "-n", self.namespace, "-f", file, *waiting, *arguments)


def create_soon(world: World, *manifests: Manifest, within_seconds: float = 20.0) -> None:
    """Create objects as a user does who tries again: nodes learn of a webhook's ready pods a moment later than Helm does."""

    def create(manifest: Manifest) -> None:
        answer = world.plane.request("POST", world.path(manifest["kind"]), manifest)
        assert answer.status in (201, 409), answer.body

    for manifest in manifests:
        eventually(partial(create, manifest), within_seconds=within_seconds)


def merged(lower: Values, upper: Values) -> dict[str, Any]:
    """Return `lower` with `upper` over it, as Helm merges values."""
    result = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def restricted_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace that enforces PodSecurity `restricted` at `latest`, and warns of it."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    labels |= {f"pod-security.kubernetes.io/{mode}-version": "latest" for mode in ("enforce", "warn")}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    answer = cluster.plane.request("POST", "/api/v1/namespaces", body)
    assert answer.status in (201, 409), answer.body


def everything(cluster: Cluster, namespace: str | None = None) -> dict[Key, str]:
    """Return every object there is with its resourceVersion, of every kind the API server serves; without what is PASSING.

    `namespace`: only those in it.
    """
    found: dict[Key, str] = {}
    with closing(_connection(cluster)) as connection:
        for path, resource, namespaced in _resources(cluster, connection):
            if namespace is not None:
                if not namespaced:
                    continue
                head, _, plural = path.rpartition("/")
                path = f"{head}/namespaces/{namespace}/{plural}"
            status, body = _get(cluster, connection, path)
            assert status == 200, f"{path}: {body}"
            for item in body["items"]:
                metadata = item["metadata"]
                if metadata["name"] == ROOT_CA:
                    continue
                found[resource, metadata.get("namespace", ""), metadata["name"]] = metadata.get("resourceVersion", "")
    return found


def _resources(cluster: Cluster, connection: HTTPSConnection) -> Iterator[tuple[str, str, bool]]:
    """Yield path of the collection, "plural.group" and whether it is namespaced, for all that can be listed."""
    groups = _get(cluster, connection, "/apis")[1]["groups"]
    for path in ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]:
        status, body = _get(cluster, connection, path)
        if status != 200:  # a group whose CRDs were removed a moment ago
            continue
        group = path.split("/")[2] if path.startswith("/apis/") else ""
        for one in body["resources"]:
            name = f"{one['name']}.{group}" if group else one["name"]
            if "list" in one["verbs"] and "/" not in one["name"] and name not in PASSING:
                yield f"{path}/{one['name']}", name, one["namespaced"]


def _connection(cluster: Cluster) -> HTTPSConnection:
    """Return one connection for many requests: a handshake for each of sixty kinds takes longer than all answers."""
    context = ssl.create_default_context(cafile=str(cluster.plane.ca_file))
    return HTTPSConnection(urlsplit(cluster.plane.url).netloc, timeout=10, context=context)


def _get(cluster: Cluster, connection: HTTPSConnection, path: str) -> tuple[int, Any]:
    connection.request("GET", path, headers={"Authorization": f"Bearer {cluster.plane.admin_token}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())
