"""Real binaries for tests and the demo, wherever they can be had.

In this order: `$KUBEBUILDER_ASSETS` and `PATH` where the version fits (the binary is asked), the user's cache, official
downloads verified by their published checksums, a build from pinned Go modules; Redis and promtool from Debian's
packages. `locate` only looks; `ensure` fetches what is missing, says what it does, and can be interrupted and called
again. `python -m hack binaries` fetches all of them. Where a thing comes from in detail is the business of `cache`,
`download`, `gobuild` and `debian`. Called by `hack.controlplane`, `hack.stores`, tests and the demo.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hack import cache
from hack.debian import GET, PackageError
from hack.download import HOSTS, DownloadError, Downloads
from hack.gobuild import LOWEST_GO, BuildError, build, inputs_of
from hack.progress import Progress
from hack.tools import (
    KUBERNETES,
    TOOLS,
    Kubernetes,
    Tool,
    ToolError,
    ask_version,
    misfit,
    parse_version,
    pinned_version,
    version_text,
    wanted_kubernetes,
)  # fmt: skip

ALL: Final = tuple(TOOLS)
"""Names of everything there is to have."""

ASSETS_VARIABLE: Final = "KUBEBUILDER_ASSETS"
GROUPS: Final = ("argolua", "kubeconform", "etcd", "kubescore", "mongowire", "helm", "kubernetes")
"""Builds run one after the other in this order, the longest last."""
_BUILT_ONLY: Final = ("argolua", "kubeconform", "kubescore", "mongowire")


class MissingBinaries(RuntimeError):
    """Some binaries are missing; the text names all of them, what was tried, and what would do."""


@dataclass(slots=True)
class _Search:
    """What was found so far, and for what was not: why, in the order things were tried."""

    kubernetes: Kubernetes
    found: dict[str, Path] = field(default_factory=dict)
    tried: dict[str, list[str]] = field(default_factory=dict)

    def missed(self, name: str, reason: str) -> None:
        self.tried.setdefault(name, []).append(reason)


def locate(names: Iterable[str] = ALL) -> dict[str, Path]:
    """Paths of the named binaries where they are at hand. MissingBinaries when one is not; fetches nothing."""
    wanted = _checked(names)
    search = _look(wanted)
    if missing := [name for name in wanted if name not in search.found]:
        raise MissingBinaries(_explain(missing, search))
    return {name: search.found[name] for name in wanted}


def ensure(names: Iterable[str] = ALL, *, progress: Progress | None = None) -> dict[str, Path]:
    """Paths of the named binaries; those not at hand are downloaded or built, which may take ten minutes once.

    Two processes do not do it twice: the second waits. MissingBinaries names all that could not be had.
    """
    wanted = _checked(names)
    search = _look(wanted)
    if all(name in search.found for name in wanted):
        return {name: search.found[name] for name in wanted}
    progress = progress or Progress()
    with cache.locked(lambda holder: progress.say(f"Process {holder} is fetching binaries; waiting for it …")):
        search = _look(wanted)
        if missing := [name for name in wanted if name not in search.found]:
            progress.say(f"Not at hand: {_named(missing, search)}. Fetching into {cache.cache_root()}:")
            _fetch(missing, search, progress)
    if missing := [name for name in wanted if name not in search.found]:
        raise MissingBinaries(_explain(missing, search))
    return {name: search.found[name] for name in wanted}


def _checked(names: Iterable[str]) -> list[str]:
    wanted = list(names)
    if unknown := [name for name in wanted if name not in TOOLS]:
        raise ToolError(f"unknown binaries {', '.join(unknown)}; there are {', '.join(TOOLS)}")
    return wanted


def _look(names: Sequence[str]) -> _Search:
    """Search the folders and the cache. The API server comes first: others have to fit it."""
    search = _Search(wanted_kubernetes())
    kubernetes_names = [name for name in names if TOOLS[name].group == "kubernetes"]
    if kubernetes_names:
        _look_for(TOOLS["kube-apiserver"], search)
        if server := search.found.get("kube-apiserver"):
            version = ask_version(TOOLS["kube-apiserver"], server)
            if not isinstance(version, str):
                exact = version_text(version)
                search.kubernetes = replace(search.kubernetes, minor=version[:2], exact=exact)
    for name in names:
        if name != "kube-apiserver":
            _look_for(TOOLS[name], search)
    return search


def _look_for(tool: Tool, search: _Search) -> None:
    for place, folder in _folders():
        found = shutil.which(tool.name, path=folder)
        if found is None:
            search.missed(tool.name, f"{place}: not there")
            continue
        version = ask_version(tool, Path(found))
        reason = version if isinstance(version, str) else misfit(tool, version, search.kubernetes)
        if reason is None:
            search.found[tool.name] = Path(found).absolute()
            return
        search.missed(tool.name, f"{place}: {found} {reason}")
    _look_in_cache(tool, search)


def _folders() -> list[tuple[str, str]]:
    places = []
    if assets := os.environ.get(ASSETS_VARIABLE):
        places.append((f"{ASSETS_VARIABLE}={assets}", assets))
    return [*places, ("PATH", os.environ.get("PATH", ""))]


def _look_in_cache(tool: Tool, search: _Search) -> None:
    for version in _cached_versions(tool, search.kubernetes):
        if found := cache.find(tool.name, version, inputs=inputs_of(tool)):
            search.found[tool.name] = found
            return
        if cache.entry(tool.name, version).exists():
            search.missed(tool.name, f"cache: {cache.entry(tool.name, version)} is broken or outdated, so it is made again")
    search.missed(tool.name, f"cache {cache.cache_root()}: none that fits")


def _cached_versions(tool: Tool, kubernetes: Kubernetes) -> list[str]:
    """The pinned version; for Kubernetes also any patch of the wanted minor, unless one patch was asked for."""
    pinned = pinned_version(tool.name, kubernetes)
    versions = [pinned] if pinned else []
    if tool.group == "kubernetes":
        versions += [text for text in cache.versions(tool.name) if parse_version(text)[:2] == kubernetes.minor]
    return list(dict.fromkeys(versions))


def _fetch(missing: Sequence[str], search: _Search, progress: Progress) -> None:
    """Try downloads side by side, then builds one after the other, then the package; reasons go into `search`."""
    downloads = Downloads(progress)

    def download(name: str) -> None:
        try:
            search.found[name] = downloads.get(TOOLS[name], search.kubernetes)
        except (DownloadError, OSError) as error:
            search.missed(name, f"download: {error}")

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(download, missing))
    for group in GROUPS:
        _build([TOOLS[name] for name in missing if TOOLS[name].group == group], group, search, progress)
    for name in [name for name in missing if name in GET and name not in search.found]:
        try:
            search.found[name] = GET[name](progress)
        except (PackageError, OSError) as error:
            search.missed(name, f"package: {error}")


def _build(tools: Sequence[Tool], group: str, search: _Search, progress: Progress) -> None:
    wanted = [tool for tool in tools if tool.name not in search.found]
    if not wanted:
        return
    if group == "kubernetes" and search.kubernetes.minor != parse_version(KUBERNETES)[:2]:
        for tool in wanted:
            search.missed(tool.name, f"build: only {KUBERNETES} can be built, {search.kubernetes} is wanted")
        return
    try:
        search.found.update(build(group, wanted, progress))
    except (BuildError, OSError) as error:
        for tool in wanted:
            search.missed(tool.name, f"build: {error}")


def _named(names: Sequence[str], search: _Search) -> str:
    return ", ".join(f"{name} {pinned_version(name, search.kubernetes) or search.kubernetes}" for name in names)


def _explain(missing: Sequence[str], search: _Search) -> str:
    """The message: what is missing and for what, what was tried, and the several things of which any one would do."""
    lines = ["Missing: " + ", ".join(f"{name} ({TOOLS[name].use})" for name in missing) + "."]
    for name in missing:
        lines.append(f"  {_named([name], search)}:")
        lines += [f"    - {reason}" for reason in search.tried.get(name, [])]
    go = f"{LOWEST_GO[0]}.{LOWEST_GO[1]}"
    others = [name for name in missing if name not in GET]
    ours = ", ".join(name for name in others if TOOLS[name].group in _BUILT_ONLY)
    if others:
        lines += [
            f"Any one of these will do for {', '.join(others)}; then run `python -m hack binaries`:",
            f"  1. Go {go} or newer in PATH, with its modules in reach (builds them, about 10 minutes, once);",
            (
                f"  2. the official downloads in reach: {', '.join(f'https://{host}' for host in HOSTS)}"
                f"{f' (not of {ours}, which Go has to build)' if ours else ''};"
            ),
            (
                f"  3. {ASSETS_VARIABLE}=<folder> with them in it, as `setup-envtest use -p path {search.kubernetes}` gives"
                " (for what it holds), or the same in PATH."
            ),
        ]
    if "redis-server" in missing:
        lines += [
            "Any one of these will do for redis-server:",
            "  1. Redis 6 or newer in PATH; 2. Debian or Ubuntu with its packages in reach (no root needed).",
        ]
    if "promtool" in missing:
        lines += [
            "Any one of these will do for promtool:",
            "  1. promtool 2.40 or newer in PATH; 2. https://github.com in reach; 3. Debian or Ubuntu, as above.",
        ]
    return "\n".join(lines)
