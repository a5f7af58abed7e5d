"""Which generated ConfigMaps and Secrets exist, by metadata alone: so that a hand edit or a deletion is noticed and mended.

Per namespace that holds a GatewayConfig, everything that carries our managed-by label. Contents are never read here.
Fulfils `Owned` of `reconcile/ports.py`; wired by `main`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aigateway_operator.api.meta import MANAGED_BY, MANAGED_BY_LABEL
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, JsonObject, Resource
from aigateway_operator.kube.watching import Selection, Watcher

KINDS: Final = (CONFIG_MAPS, SECRETS)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})

OnChange = Callable[[Resource, str, str, str | None], None]


class OwnedWatch:
    """Follows generated objects. `on_change(resource, namespace, name, resourceVersion)`; resourceVersion None: it is gone.

    Our own writes are told too: the receiver knows their resourceVersions. on_listed(namespace): both kinds have been
    listed for the first time.
    """

    def __init__(self, client: KubeClient, *, on_change: OnChange, on_listed: Callable[[str], None] | None = None) -> None:
        self._client = client
        self._on_change = on_change
        self._on_listed = on_listed
        self._kinds: dict[tuple[str, Resource], _Kind] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def watch(self, namespace: str) -> None:
        """Begin to follow a namespace; idempotent."""
        for resource in KINDS:
            if (namespace, resource) not in self._kinds:
                kind = _Kind(self._client, resource, namespace, self._on_change, self._listed_one)
                self._kinds[namespace, resource] = kind
                kind.watcher.start()

    def unwatch(self, namespace: str) -> None:
        """Stop following a namespace and forget it."""
        for resource in KINDS:
            kind = self._kinds.pop((namespace, resource), None)
            if kind is not None:
                task = asyncio.create_task(kind.watcher.stop())
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)

    def listed(self, namespace: str) -> bool:
        """Tell whether both kinds of the namespace have been listed completely once."""
        kinds = [self._kinds.get((namespace, resource)) for resource in KINDS]
        return all(kind is not None and kind.watcher.listed for kind in kinds)

    def names(self, namespace: str, resource: Resource) -> Mapping[str, str]:
        """Return name → resourceVersion of everything that carries our label, as a view."""
        kind = self._kinds.get((namespace, resource))
        return _NONE if kind is None else MappingProxyType(kind.versions)

    async def stop(self) -> None:
        """Stop following everything."""
        for namespace in {namespace for namespace, _ in self._kinds}:
            self.unwatch(namespace)
        await asyncio.gather(*self._stopping)

    def _listed_one(self, namespace: str) -> None:
        if self._on_listed is not None and self.listed(namespace):
            self._on_listed(namespace)


class _Kind:
    """One kind in one namespace."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str,
        on_change: OnChange,
        on_first_list: Callable[[str], None],
    ) -> None:
        self.versions: dict[str, str] = {}
        self._resource = resource
        self._namespace = namespace
        self._on_change = on_change
        self._on_first_list: Callable[[str], None] | None = on_first_list
        self.watcher: Watcher[tuple[str, str]] = Watcher(
            client,
            Selection(resource, namespace, f"{MANAGED_BY_LABEL}={MANAGED_BY}", metadata_only=True),
            reduce=lambda obj: (obj["metadata"]["name"], obj["metadata"]["resourceVersion"]),
            on_listed=self._listed,
            on_event=self._event,
        )

    def _listed(self, items: list[tuple[str, str]], _version: str) -> None:
        before, self.versions = self.versions, dict(items)
        for name, seen in self.versions.items():
            if before.get(name) != seen:
                self._on_change(self._resource, self._namespace, name, seen)
        for name in before.keys() - self.versions.keys():
            self._on_change(self._resource, self._namespace, name, None)
        if self._on_first_list is not None:
            told, self._on_first_list = self._on_first_list, None
            told(self._namespace)

    def _event(self, kind: str, obj: JsonObject) -> None:
        name, version = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self.versions.pop(name, None)
            self._on_change(self._resource, self._namespace, name, None)
        else:
            self.versions[name] = version
            self._on_change(self._resource, self._namespace, name, version)
