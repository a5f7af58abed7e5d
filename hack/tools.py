"""The programs that are needed, their versions, and which other versions do.

Only facts and pure checks, but for asking a program its version. Where they come from is the business of
`hack.binaries`. Source of the versions: the newest release of each that builds with the pinned modules in
`hack/servers/`; change both together.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Version = tuple[int, int, int]

KUBERNETES: Final = "1.36.3"
LOWEST_KUBERNETES: Final = (1, 32)
ETCD: Final = "3.6.16"
HELM: Final = "3.19.4"
KIND: Final = "0.32.0"
MONGOWIRE: Final = "1.24.2"
REDIS: Final = "7"
ARGOLUA: Final = "1.1.2"
PROMETHEUS: Final = "3.5.0"
KUBECONFORM: Final = "0.8.0"
KUBE_SCORE: Final = "1.20.0"
KUBERNETES_VARIABLE: Final = "AIGATEWAY_KUBERNETES_VERSION"

_ASK_TIMEOUT_SECONDS = 15


class ToolError(RuntimeError):
    """A setting of the environment cannot be used; the text says which and what it may be."""


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The Kubernetes release that is wanted: `minor` as (1, 36); `exact` as "1.36.3", or None for its newest patch.

    `chosen` says that somebody asked for it, so that another minor is not good enough.
    """

    minor: tuple[int, int]
    exact: str | None
    chosen: bool

    def __str__(self) -> str:
        return self.exact or f"{self.minor[0]}.{self.minor[1]}"


@dataclass(frozen=True, slots=True)
class Tool:
    """One program. `group` are the Go modules in `hack/servers/` it is built from ("" if it is not), `package` what is
    built there; `ask` makes it tell its version; `use` says in words what it is for.
    """

    name: str
    ask: tuple[str, ...]
    use: str
    group: str = ""
    package: str = ""


TOOLS: Final[Mapping[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool("kube-apiserver", ("--version",), "API server", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
        Tool(
            "kube-controller-manager", ("--version",), "garbage collection", "kubernetes",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        Tool("kubectl", ("version", "--client"), "command line", "kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
        Tool("etcd", ("--version",), "the API server's storage", "etcd", "go.etcd.io/etcd/server/v3"),
        Tool("mongowire", ("-version",), "a MongoDB wire server", "mongowire", "."),
        Tool("helm", ("version", "--short"), "charts", "helm", "helm.sh/helm/v3/cmd/helm"),
        Tool("argolua", ("-version",), "Argo CD's Lua interpreter", "argolua", "."),
        Tool("kubeconform", ("-v",), "schemas of manifests", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
        Tool("kube-score", ("version",), "advice on manifests", "kubescore", "github.com/zegl/kube-score/cmd/kube-score"),
        Tool("promtool", ("--version",), "tests of alerts"),
        Tool("redis-server", ("--version",), "Redis"),
    )
}  # fmt: skip


def wanted_kubernetes(environment: Mapping[str, str] = os.environ) -> Kubernetes:
    """The release asked for by `AIGATEWAY_KUBERNETES_VERSION` ("1.34", "1.34.2", "v1.34.2"), else the pinned one."""
    asked = environment.get(KUBERNETES_VARIABLE, "").strip()
    if not asked:
        return Kubernetes(parse_version(KUBERNETES)[:2], KUBERNETES, chosen=False)
    match = re.fullmatch(r"v?(1)\.(\d+)(\.\d+)?", asked)
    if not match or (minor := (1, int(match[2]))) < LOWEST_KUBERNETES:
        raise ToolError(
            f"{KUBERNETES_VARIABLE}={asked!r} is no Kubernetes release from 1.32 on; give one as 1.34 or 1.34.2, or unset it"
        )
    pinned = KUBERNETES if minor == parse_version(KUBERNETES)[:2] else None
    return Kubernetes(minor, asked.removeprefix("v") if match[3] else pinned, chosen=True)


def parse_version(text: str) -> Version:
    """The first `a.b` or `a.b.c` in `text` as a tuple, (0, 0, 0) when there is none."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def version_text(version: Version) -> str:
    """(1, 36, 3) as "1.36.3"."""
    return ".".join(str(part) for part in version)


def ask_version(tool: Tool, binary: Path) -> Version | str:
    """The version `binary` says it has, or in words why it says none."""
    try:
        done = subprocess.run(
            [binary, *tool.ask], capture_output=True, text=True, timeout=_ASK_TIMEOUT_SECONDS, check=False,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"does not say its version within {_ASK_TIMEOUT_SECONDS} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    version = parse_version(done.stdout)
    if done.returncode != 0 or version == (0, 0, 0):
        return f"does not say its version (exit code {done.returncode})"
    return version


def misfit(tool: Tool, version: Version, kubernetes: Kubernetes) -> str | None:
    """Why `version` of `tool` does not do beside that Kubernetes release; None when it does.

    kubectl may be one minor away and the controller manager none: https://kubernetes.io/releases/version-skew-policy/
    """
    rule, wanted = _rules(kubernetes)[tool.name]
    return None if rule(version) else f"is {version_text(version)}, wanted is {wanted}"


def _rules(kubernetes: Kubernetes) -> dict[str, tuple[Callable[[Version], bool], str]]:
    minor, name = kubernetes.minor, f"{kubernetes.minor[0]}.{kubernetes.minor[1]}"

    def same(version: Version) -> bool:
        return version[:2] == minor

    server = (same, name) if kubernetes.chosen else (lambda version: version[:2] >= LOWEST_KUBERNETES, "1.32 or newer")
    return {
        "kube-apiserver": server,
        "kube-controller-manager": (same, f"{name}, as the API server's"),
        "kubectl": (
            lambda version: version[0] == 1 and abs(version[1] - minor[1]) <= 1,
            f"at most one minor away from {name}",
        ),
        "etcd": (lambda version: (3, 5) <= version[:2] < (4, 0), "3.5 or newer"),
        "mongowire": (lambda version: version_text(version) == MONGOWIRE, MONGOWIRE),
        "helm": (lambda version: (3, 14) <= version[:2] < (4, 0), "3.14 or newer, below 4"),
        "redis-server": (lambda version: version[0] >= 6, "6 or newer"),
        "argolua": (lambda version: version_text(version) == ARGOLUA, ARGOLUA),
        "promtool": (lambda version: version[:2] >= (2, 40), "2.40 or newer"),
        "kubeconform": (lambda version: (0, 6) <= version[:2] < (1, 0), "0.6 or newer, below 1"),
        # Each release has other checks, and waivers are held to what is found.
        "kube-score": (lambda version: version_text(version) == KUBE_SCORE, KUBE_SCORE),
    }


def pinned_version(name: str, kubernetes: Kubernetes) -> str | None:
    """The version that is fetched when none is found; None when that is the newest patch of a minor."""
    pinned = {"etcd": ETCD, "helm": HELM, "mongowire": MONGOWIRE, "redis-server": REDIS}
    pinned |= {"argolua": ARGOLUA, "promtool": PROMETHEUS, "kubeconform": KUBECONFORM, "kube-score": KUBE_SCORE}
    return pinned.get(name, kubernetes.exact)


def platform_name() -> tuple[str, str]:
    """Operating system and processor as Go and the download sites name them, as ("linux", "amd64")."""
    machine = platform.machine().lower()
    return platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
