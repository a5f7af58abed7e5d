"""How commands reach the API server: a small Protocol that they read through, its real fulfilment, and namespaces.

Commands only read, but for `apply`. The Kubernetes client is imported when a cluster is opened, not before. Tests pass their
own `Connect`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import yaml

from aigateway_operator import __version__
from aigateway_operator.errors import NotFound, SettingsError
from aigateway_operator.kube.resources import JsonObject, Resource

DEADLINE_SECONDS: Final = 10.0
_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

T = TypeVar("T")


class Cluster(Protocol):
    """What commands read. All raise `errors.ClusterError`. `kube.client.KubeClient` fulfils it."""

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        """Return one object; NotFound if it is not there."""
        ...

    async def list_all(
        self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
    ) -> tuple[list[JsonObject], str]:
        """Return a complete list and its resourceVersion; namespace None: the whole cluster."""
        ...


Connect = Callable[[argparse.Namespace], AbstractAsyncContextManager[Cluster]]


@asynccontextmanager
async def connect(args: argparse.Namespace) -> AsyncIterator[Cluster]:
    """Open the cluster that `--kubeconfig` and `--context` name. Raises SettingsError."""
    from aigateway_operator.kube.client import KubeClient

    _see_that_context_exists(args.kubeconfig, args.context)
    agent = f"aigateway/{__version__} (cli)"
    async with KubeClient.connect(args.kubeconfig, args.context, user_agent=agent, deadline_seconds=DEADLINE_SECONDS) as client:
        yield client


def with_cluster(args: argparse.Namespace, work: Callable[[Cluster], Awaitable[T]]) -> T:
    """Open the cluster, do `work` with it and return its result. Raises errors.AigatewayError."""

    async def run() -> T:
        async with (args.connect or connect)(args) as cluster:
            return await work(cluster)

    return asyncio.run(run())


async def list_ours(cluster: Cluster, resource: Resource, namespace: str | None) -> list[JsonObject]:
    """Return all objects of one of our kinds. Raises NotFound with the remedy where the kind is not installed."""
    try:
        return (await cluster.list_all(resource, namespace))[0]
    except NotFound as error:
        remedy = "is not known to the cluster. Install it: aigateway crds -o yaml | kubectl apply --server-side -f -"
        raise NotFound(f"{resource.kind} ({resource.group}) {remedy}", status=404) from error


def chosen_namespace(args: argparse.Namespace) -> str | None:
    """Return the namespace to work in; None: all of them."""
    if getattr(args, "all_namespaces", False):
        return None
    namespace: str | None = args.namespace
    return namespace or current_namespace(args.kubeconfig, args.context)


def current_namespace(kubeconfig: Path | None, context: str | None) -> str:
    """Return the namespace of the context, or of the pod we run in, or `default`, as kubectl does."""
    files = [kubeconfig] if kubeconfig is not None else _kubeconfigs()
    contents = [content for content in map(_read, files) if content is not None]
    if not contents and _POD_NAMESPACE.is_file():
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip() or "default"
    wanted = context or next((name for content in contents if (name := content.get("current-context"))), None)
    named = [one for content in contents for one in _items(content.get("contexts")) if one.get("name") == wanted]
    inside = named[0].get("context") if named else None
    namespace = inside.get("namespace") if isinstance(inside, dict) else None
    return namespace if isinstance(namespace, str) and namespace else "default"


def _see_that_context_exists(kubeconfig: Path | None, context: str | None) -> None:
    """Raise SettingsError with the names there are, for a context that none of the readable kubeconfigs has."""
    files = [kubeconfig] if kubeconfig is not None else _kubeconfigs()
    contents = [content for content in map(_read, files) if content is not None]
    names = sorted({str(one.get("name")) for content in contents for one in _items(content.get("contexts"))})
    if context is not None and contents and context not in names:
        there = f"There: {', '.join(names)}." if names else "There is none."
        raise SettingsError(f"{', '.join(map(str, files))} has no context '{context}'. {there}")


def _kubeconfigs() -> list[Path]:
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path("~/.kube/config").expanduser()]


def _read(path: Path) -> dict[str, Any] | None:
    """Return a kubeconfig; None where it cannot be read, which connecting will say better."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def _items(value: object) -> Iterable[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
