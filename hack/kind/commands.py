"""Every command of the demo on kind, as a value. Pure.

Tests hold each against what it is for: helm's against the chart, kubectl's against a real API server. Called by
`hack.kind.acts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
CHART: Final = "charts/aigateway"
SYSTEM: Final = "aigateway-system"
NAMESPACE: Final = "ai"
GATEWAY: Final = "main"
MODEL: Final = "chat"
SERVICE: Final = "main-gateway"
CALLER_KEY: Final = "example-caller-key-of-chat"
NODE_IMAGES: Final[Mapping[str, str]] = {
    "1.33": "kindest/node:v1.33.1@sha256:050072256b9a903bd914c0b2866828150cb229cea0efe5892e2b644d5dd3b34f",
    "1.34": "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a",
    "1.35": "kindest/node:v1.35.0@sha256:452d707d4862f52530247495d180205e029056831160e22870e37e3f6c1ac31f",
    "1.36": "kindest/node:v1.36.1@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5",
}
"""Kubernetes release to node image. Source: `pkg/apis/config/defaults/image.go` of kind 0.29, 0.30, 0.31 and 0.32."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a user would type. `program` is kind, helm, kubectl or docker; `input` goes to its standard input."""

    program: str
    arguments: tuple[str, ...]
    input: str = ""
    limit_seconds: float = 240

    def __str__(self) -> str:
        words = [self.program, *self.arguments]
        return " ".join(f"'{word}'" if any(letter in word for letter in " {}$") else word for word in words)


def kind(*arguments: str) -> Command:
    """A command of kind, with the time that an image of a gigabyte takes to be pulled."""
    return Command("kind", arguments, limit_seconds=900)


def create_cluster(name: str, node_image: str) -> Command:
    """Make the cluster, and wait for its node."""
    return kind("create", "cluster", f"--name={name}", f"--image={node_image}", "--wait=180s")


def load_images(name: str, tag: str) -> Command:
    """Bring both images onto the node; no registry is between."""
    return kind("load", "docker-image", f"aigateway-operator:{tag}", f"aigateway-gateway:{tag}", f"--name={name}")


def delete_cluster(name: str) -> Command:
    """Take the cluster away."""
    return kind("delete", "cluster", f"--name={name}")


def install_operator(tag: str, *, upgrade: bool = False) -> Command:
    """Install the operator with the chart's defaults, or upgrade it to two controllers."""
    verb = "upgrade" if upgrade else "install"
    extra = ("--set=controller.replicas=2",) if upgrade else ("--create-namespace",)
    return _helm(verb, "aigateway", CHART, f"--namespace={SYSTEM}", *extra, *_image(tag), "--wait", "--timeout=180s")


def install_gateway(tag: str) -> Command:
    """Install a gateway with one model, from values."""
    values = f"--values={(HERE / 'gateway.yaml').relative_to(ROOT)}"
    return _helm("install", "gateway", CHART, f"--namespace={NAMESPACE}", values, *_image(tag), "--wait", "--timeout=180s")


def test_operator() -> Command:
    """Run what the chart brings as its test."""
    return _helm("test", "aigateway", f"--namespace={SYSTEM}", "--timeout=120s")


def uninstall(release: str, namespace: str) -> Command:
    """Remove a release."""
    return _helm("uninstall", release, f"--namespace={namespace}", "--wait", "--timeout=120s")


def apply_namespace() -> Command:
    """Make the gateway's namespace."""
    return kubectl("apply", f"--filename={(HERE / 'manifests' / 'namespace.yaml').relative_to(ROOT)}")


def apply_upstream(tag: str) -> list[Command]:
    """Start the stub provider: its program as a ConfigMap, then the rest, with our own image to run it in."""
    program = json.dumps({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "upstream", "namespace": NAMESPACE},
        "data": {"upstream.py": (HERE / "upstream.py").read_text()},
    })  # fmt: skip
    manifests = (HERE / "manifests" / "upstream.yaml").read_text().replace("IMAGE", f"aigateway-gateway:{tag}")
    return [kubectl("apply", "--filename=-", given=program), kubectl("apply", "--filename=-", given=manifests)]


def wait_upstream() -> Command:
    """Wait for the stub."""
    return kubectl("rollout", "status", "deployment/upstream", f"--namespace={NAMESPACE}", "--timeout=120s")


def wait_for(what: str, condition: str, seconds: int = 90) -> Command:
    """Wait until an object has a condition."""
    return kubectl("wait", f"--for=condition={condition}", what, f"--namespace={NAMESPACE}", f"--timeout={seconds}s")


def patch(what: str, spec: Mapping[str, object]) -> Command:
    """Edit an object as a user would."""
    body = json.dumps({"spec": spec})
    return kubectl("patch", what, f"--namespace={NAMESPACE}", "--type=merge", f"--patch={body}")


def switch_to(backend: str) -> Command:
    """Make another backend the live one."""
    return patch(f"vmodel/{MODEL}", {"current": backend})


def refused_edits() -> list[tuple[Command, str]]:
    """Edits that must be refused, each with words of the reason that the user must be told."""
    return [
        (switch_to("huge"), "huge"),
        (patch(f"gwc/{GATEWAY}", {"app": {"colour": "red"}}), "Cannot add new key 'colour' to fixed structure at spec.app"),
    ]


def list_pods() -> Command:
    """Names, uids and restarts of the gateway's pods, one a line: what must stay the same over an edit."""
    columns = "{.metadata.uid} {.metadata.name} {.status.containerStatuses[0].restartCount}"
    selector = "--selector=app.kubernetes.io/component=gateway"
    template = f"jsonpath={{range .items[*]}}{columns}{{'\\n'}}{{end}}"
    return kubectl("get", "pods", f"--namespace={NAMESPACE}", selector, f"--output={template}")


def show_gateway() -> Command:
    """What a user looks at."""
    return kubectl("get", "gwc,vmodel", f"--namespace={NAMESPACE}")


def list_left() -> Command:
    """What an uninstall must leave: resources and the documents that pods read."""
    names = [f"gwc/{GATEWAY}", f"vmodel/{MODEL}", f"configmap/{GATEWAY}-config"]
    return kubectl("get", *names, f"--namespace={NAMESPACE}", "--output=name")


def wait_gone() -> Command:
    """Wait for the last pods of the operator: helm waits for objects, not for what their pods still have to finish."""
    return kubectl("wait", "--for=delete", "pods", "--all", f"--namespace={SYSTEM}", "--timeout=60s")


def list_system() -> Command:
    """What is left in the operator's namespace."""
    return kubectl("get", "deployments,services,pods", f"--namespace={SYSTEM}", "--output=name")


def forward(port: int = 80) -> Command:
    """Open a way to the gateway; the port on this side is chosen by kubectl."""
    return kubectl("port-forward", f"service/{SERVICE}", f":{port}", f"--namespace={NAMESPACE}", "--address=127.0.0.1")


def kubectl(*arguments: str, given: str = "") -> Command:
    """A command of kubectl."""
    return Command("kubectl", arguments, given)


def _helm(*arguments: str) -> Command:
    return Command("helm", arguments)


def _image(tag: str) -> tuple[str, ...]:
    """The image that was loaded, and no other: a node of kind must not go and pull one of that name."""
    return f"--set=image.tag={tag}", "--set=image.pullPolicy=Never"
