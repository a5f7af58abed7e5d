"""Builds servers from pinned Go modules (`hack/servers/*/go.mod` and `go.sum`), where no download is in reach.

Go's own build cache makes an interrupted build go on where it stopped. Modules are only read (`-mod=readonly`), so a
build never changes the work tree. Without its version flags kubectl and the API server report a version that clients
refuse. Called by `hack.binaries`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hack import cache
from hack.process import REAPER
from hack.progress import Progress
from hack.tools import (
    ARGOLUA,
    ETCD,
    HELM,
    KIND,
    KUBE_SCORE,
    KUBECONFORM,
    KUBERNETES,
    MONGOWIRE,
    Tool,
    ask_version,
    parse_version,
    version_text,
)  # fmt: skip

LOWEST_GO: Final = (1, 26)
SERVERS: Final = Path(__file__).resolve().parent / "servers"

_VERSIONS = {
    "kubernetes": KUBERNETES, "etcd": ETCD, "helm": HELM, "kind": KIND, "mongowire": MONGOWIRE, "argolua": ARGOLUA,
    "kubeconform": KUBECONFORM, "kubescore": KUBE_SCORE,
}  # fmt: skip
_USUALLY = {
    "kubernetes": "4 to 9 minutes on 2 cores, once", "etcd": "half a minute", "mongowire": "a minute",
    "helm": "1 to 2 minutes", "argolua": "10 s", "kind": "half a minute",
    "kubeconform": "half a minute", "kubescore": "a minute",
}  # fmt: skip
_FIRST_GO_THAT_FETCHES_TOOLCHAINS = (1, 21)


class BuildError(RuntimeError):
    """Go is missing, too old, or failed; the text says which, and where the log is."""


def find_go() -> tuple[str, dict[str, str]]:
    """The Go command and the environment to build in. BuildError when there is none that will do.

    A Go from 1.21 on is asked to fetch the toolchain that the modules want; an older one cannot.
    """
    go = shutil.which("go")
    if go is None:
        raise BuildError("Go is not in PATH")
    environment = dict(os.environ)
    for name in ("GOOS", "GOARCH", "GOBIN"):
        environment.pop(name, None)
    environment.update(CGO_ENABLED="0", GOFLAGS="-mod=readonly -buildvcs=false", GOWORK="off")
    try:
        said = subprocess.run(
            [go, "version"], capture_output=True, text=True, timeout=30, check=False, cwd="/",
            env={**environment, "GOTOOLCHAIN": "local"},
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{go} cannot be run: {error}") from error
    version = parse_version(said)
    if version[:2] < _FIRST_GO_THAT_FETCHES_TOOLCHAINS:
        raise BuildError(f"{go} is {version_text(version)}; wanted is {LOWEST_GO[0]}.{LOWEST_GO[1]} or newer")
    if version[:2] < LOWEST_GO:
        environment["GOTOOLCHAIN"] = "auto"
    return go, environment


def inputs_of(tool: Tool) -> str:
    """What an entry in the cache must have been made from: a digest of our own sources, "" for other people's."""
    if tool.group not in ("mongowire", "argolua"):
        return ""
    digest = hashlib.sha256()
    for name in ("main.go", "go.mod", "go.sum"):
        digest.update((SERVERS / tool.group / name).read_bytes())
    return digest.hexdigest()


def build(group: str, tools: Sequence[Tool], progress: Progress) -> dict[str, Path]:
    """Build `tools`, all of one group, into the cache; name to path. BuildError when that fails."""
    go, environment = find_go()
    version = _VERSIONS[group]
    names = ", ".join(tool.name for tool in tools)
    logs = cache.cache_root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"build-{group}.log"
    with cache.workspace() as folder:
        with progress.step(f"{names} {version}: building from Go modules", _USUALLY[group]) as step:
            command = [go, "build", "-v", "-trimpath", "-ldflags", _link_flags(group), "-o", f"{folder}/"]
            _run([*command, *(tool.package for tool in tools)], SERVERS / group, environment, log, step.note)
        return {tool.name: _install(tool, version, folder) for tool in tools}


def _install(tool: Tool, version: str, folder: Path) -> Path:
    # A package at a module's root is named after the module: etcd's is called "server", or "v3" by older Go.
    made = next(path for path in (folder / tool.name, folder / "server", folder / "v3") if path.exists())
    if (said := ask_version(tool, made)) != (asked := parse_version(version)) and said != (*asked[:2], 0):
        raise BuildError(f"the {tool.name} just built says {said}, not {version}")
    return cache.install(tool.name, version, made, origin=f"built from hack/servers/{tool.group}", inputs=inputs_of(tool))


def _link_flags(group: str) -> str:
    flags = ["-s", "-w"]
    if group == "kubernetes":
        major, minor, _ = KUBERNETES.split(".")
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            for name, value in (("Version", f"v{KUBERNETES}"), ("Major", major), ("Minor", minor), ("TreeState", "clean")):
                flags += ["-X", f"{package}.git{name}={value}"]
    if group == "helm":
        flags += ["-X", f"helm.sh/helm/v3/internal/version.version=v{HELM}"]
    if group in ("kubeconform", "kubescore"):
        flags += ["-X", f"main.version=v{_VERSIONS[group]}"]
    return " ".join(flags)


def _run(command: Sequence[str], folder: Path, environment: dict[str, str], log: Path, note: Callable[[str], None]) -> None:
    """Run a build with its output in `log`; it dies with this process. BuildError when it fails."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    REAPER.tell("+group", process.pid)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
                break
            lines = log.read_text(errors="replace").splitlines()
            fetched = sum(line.startswith("go: downloading") for line in lines)
            note(f"{fetched} modules fetched, {len(lines) - fetched} packages compiled")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        REAPER.tell("-group", process.pid)
    if process.returncode != 0:
        tail = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-8:])
        raise BuildError(f"go build failed with exit code {process.returncode}; the end of {log}:\n{tail}")
