"""A cluster that GitOps alone fills: Argo CD's loop installs the chart and a gateway, in the worst order.

Nothing runs pods, so the operator that the chart's Deployment names is started here as a process, with the ServiceAccount and
rights of the chart, and the webhook is reached by address instead of by Service. Called by tests of this folder.
"""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from hack.controlplane import NEEDED, ControlPlane
from hack.process import free_ports
from tests.apiserver.world import Manifest, World, secret
from tests.conftest import require_binaries
from tests.gitops.argocd import ArgoCD, Policy
from tests.gitops.argolua import ROOT, ArgoLua
from tests.operators import ACCOUNT, NAMESPACE, Process

EXAMPLE = ROOT / "examples" / "05-argocd"
FIRST = "ai"
"""Namespace of the example."""


def load(path: Path) -> list[Manifest]:
    """Return the manifests of a file or folder."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [obj for file in files for obj in yaml.safe_load_all(file.read_text()) if obj]


def policy(file: str) -> Policy:
    """Return how a shipped Application is synced."""
    return Policy.of(load(EXAMPLE / "argocd" / file)[0])


@dataclass
class Cluster:
    """The control plane, and what Argo CD keeps on it."""

    plane: ControlPlane
    lua: ArgoLua
    directory: Path
    webhook_port: int
    operator_app: ArgoCD = field(init=False)
    first_app: ArgoCD = field(init=False)
    process: Process | None = None

    def __post_init__(self) -> None:
        self.operator_app = ArgoCD(self.plane, self.lua, policy("10-operator.yaml"), NAMESPACE, self._chart())
        self.first_app = self.application(FIRST, pace=0.05)

    def application(self, namespace: str, *, pace: float = 0.02, options: frozenset[str] | None = None) -> ArgoCD:
        """Return the example's gateway as an Application of another namespace; nothing is applied yet."""
        chosen = policy("20-gateway.yaml")
        if options is not None:
            chosen = replace(chosen, options=options)
        text = "---\n".join(yaml.safe_dump(obj) for obj in load(EXAMPLE / "gateway"))
        git = list(yaml.safe_load_all(text.replace(f"namespace: {FIRST}\n", f"namespace: {namespace}\n")))
        for obj in git:
            if obj["kind"] == "Namespace":
                obj["metadata"]["name"] = namespace
        return ArgoCD(self.plane, self.lua, chosen, namespace, git, pace=pace)

    def add_secrets(self, namespace: str) -> World:
        """Make the namespace and the Secrets that the example refers to, as another tool would; return the namespace."""
        self.plane.kubectl("create", "namespace", namespace)
        world = World(self.plane, namespace)
        world.create(secret("openai", **{"api-key": "one"}), secret("caller-keys", chat="two", embeddings="three"))
        return world

    def start_operator(self) -> None:
        """Start what the chart's Deployment says, with webhook, under the chart's ServiceAccount; certificates rotate fast."""
        [container] = next(
            obj["spec"]["template"]["spec"]["containers"]
            for obj in self.operator_app.git
            if obj["kind"] == "Deployment" and obj["metadata"]["name"] == "aigateway-operator"
        )
        told = {one["name"].removeprefix("AIGATEWAY_").lower(): one["value"] for one in container["env"] if "value" in one}
        told = {name: value for name, value in told.items() if not value.startswith("/")}  # folders of the container
        token = self.plane.token_for_service_account(NAMESPACE, ACCOUNT)
        kubeconfig = self.plane.kubeconfig_for(ACCOUNT, token, self.directory / "operator.kubeconfig")
        settings = {
            **told,
            "lease_namespace": NAMESPACE,
            "with_webhook": "true",
            "webhook_host": "127.0.0.1",
            "webhook_port": str(self.webhook_port),
            "webhook_names": "127.0.0.1",
            "webhook_leaf_seconds": "20",
            "webhook_settle_seconds": "2",
            "webhook_authority_seconds": "90",
            "webhook_drain_seconds": "0",
            "health_port": "0",
            "allow_addresses": "127.0.0.0/8",
        }
        self.process = Process.start(kubeconfig, self.directory / "operator.log", **settings)

    def _chart(self) -> list[Manifest]:
        helm = require_binaries(["helm"])["helm"]
        arguments: list[str | Path] = [
            "template",
            "aigateway",
            ROOT / "charts" / "aigateway",
            f"--namespace={NAMESPACE}",
            "--kube-version=1.36.3",
        ]
        done = subprocess.run([helm, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}  # CreateNamespace=true
        git: list[Any] = [namespace, *(obj for obj in yaml.safe_load_all(done.stdout) if obj)]
        for obj in git:
            if obj["kind"] == "ValidatingWebhookConfiguration":
                for webhook in obj["webhooks"]:
                    webhook["clientConfig"] = {"url": f"https://127.0.0.1:{self.webhook_port}/validate"}
        return [obj for obj in git if "helm.sh/hook" not in (obj["metadata"].get("annotations") or {})]


@contextmanager
def filled_by_argo_cd(lua: ArgoLua, directory: Path) -> Iterator[Cluster]:
    """Yield a cluster on which the gateway was synced before there were CRDs, a webhook, Secrets or an operator."""
    with ControlPlane.start(binaries=require_binaries(NEEDED)) as plane:
        cluster = Cluster(plane, lua, directory, free_ports(1)[0])

        def arrives(attempt: int) -> None:
            if attempt == 1:
                cluster.add_secrets(FIRST)
                assert cluster.operator_app.sync(), cluster.operator_app.attempts
            if attempt == 2:
                cluster.start_operator()

        try:
            cluster.first_app.sync(arrives)
            yield cluster
        finally:
            if cluster.process is not None:
                cluster.process.stop()


def edited(git: list[Manifest], name: str, **spec: Any) -> list[Manifest]:
    """Return manifests of which one has other values in its spec; None removes a key."""
    changed = copy.deepcopy(git)
    [obj] = [one for one in changed if one["metadata"]["name"] == name and "spec" in one]
    for key, value in spec.items():
        _set(obj["spec"], key.split("__"), value)
    return changed


def _set(holder: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        holder = holder.setdefault(key, {})
    if value is None:
        holder.pop(path[-1], None)
    else:
        holder[path[-1]] = value
