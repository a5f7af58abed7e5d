"""Calls of the API server as plain JSON objects: read, write, list, watch. ConfigMaps and Secrets travel as protobuf.

Every call has a deadline and raises only `errors.ClusterError`. Before each write the fence is asked how much leadership
is left: a former leader's write is not sent, and none outlives the lease. Used by the rest of this room, by `rollout`
and, through the Protocols of `reconcile/ports.py`, by the reconciler.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from aigateway_operator.errors import Rejected, Unavailable
from aigateway_operator.kube import protobuf
from aigateway_operator.kube.access import ClusterAccess
from aigateway_operator.kube.answers import GONE, drop_managed_fields, parse_object, parse_watch_error
from aigateway_operator.kube.resources import ACCESS_REVIEWS, SUBJECT_REVIEWS, JsonObject, Resource
from aigateway_operator.kube.transport import CONNECT_SECONDS, READ_BYTES, Transport

DEADLINE_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 300
"""How long one watch may last before the server ends it; the next continues where it ended."""
INACTIVITY_SECONDS: Final = 70.0
"""A watch without any line for this long is dead: bookmarks come about every minute."""
PAGE_SIZE: Final = 250
"""Objects in a page of a LIST. One of 500 takes 10 MB while it is read, which the process never gives back."""
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

_LIST_ATTEMPTS: Final = 3
_JSON: Final = {"Accept": JSON}
_PROTOBUF: Final = {"Accept": f"{protobuf.CONTENT_TYPE}, {JSON}", "Content-Type": protobuf.CONTENT_TYPE}
_AS: Final = "application/json;as={};g=meta.k8s.io;v=v1"
_METADATA: Final = {"Accept": _AS.format("PartialObjectMetadata")}
_METADATA_LIST: Final = {"Accept": _AS.format("PartialObjectMetadataList")}

Fence = Callable[[], float | None]
"""Seconds for which writes are still allowed; None: no limit; 0 or less: not at all."""


def _no_fence() -> float | None:
    return None


class KubeClient:
    """The API server as this operator sees it. `metadata.managedFields` never comes back from any call.

    Namespaces of resources that have none are ignored.
    """

    def __init__(self, transport: Transport, deadline_seconds: float = DEADLINE_SECONDS, fence: Fence = _no_fence) -> None:
        self._transport = transport
        self._deadline_seconds = deadline_seconds
        self.fence = fence

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        user_agent: str = "aigateway-operator/0.1.0 (controller)",
        server_override: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> AsyncIterator[KubeClient]:
        """Open a client; see `ClusterAccess` for where credentials come from. Raises SettingsError; sends nothing yet."""
        async with Transport(ClusterAccess(kubeconfig, context, server_override), user_agent) as transport:
            yield cls(transport, deadline_seconds)

    def unfenced(self) -> KubeClient:
        """Return a client over the same connections that may write without being leader: for the Lease itself."""
        return KubeClient(self._transport, self._deadline_seconds)

    async def get(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        metadata_only: bool = False,
        deadline_seconds: float | None = None,
    ) -> JsonObject:
        """Return one object. Raises NotFound if it is not there."""
        headers = _METADATA if metadata_only else _JSON
        timeout = self._deadline_seconds if deadline_seconds is None else deadline_seconds
        path = resource.object_path(namespace, name)
        body = await self._transport.send("GET", path, headers=headers, timeout_seconds=timeout)
        return drop_managed_fields(parse_object(f"GET {path}", body))

    async def create(
        self, resource: Resource, namespace: str, body: JsonObject, *, deadline_seconds: float | None = None
    ) -> JsonObject:
        """Create. Raises Conflict if an object of that name exists."""
        return await self._write("POST", resource.collection_path(namespace), body, deadline_seconds=deadline_seconds)

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: JsonObject, *, deadline_seconds: float | None = None
    ) -> JsonObject:
        """Replace whole. Raises Conflict if `metadata.resourceVersion` of `body` is not the current one."""
        return await self._write("PUT", resource.object_path(namespace, name), body, deadline_seconds=deadline_seconds)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete that very object. Raises Conflict if another has its name, or it has changed since `resource_version`."""
        preconditions = {"uid": uid} | ({} if resource_version is None else {"resourceVersion": resource_version})
        body: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._write("DELETE", resource.object_path(namespace, name), body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: JsonObject | list[JsonObject],
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
    ) -> JsonObject:
        """Patch; `body` is a list for JSON_PATCH. Raises Conflict if it names a resourceVersion that is not the current one.

        `force`, of a server-side apply: take over fields that others have set.
        """
        query = {} if field_manager is None else {"fieldManager": field_manager}
        query |= {"force": "true"} if force else {}
        path = resource.object_path(namespace, name, subresource)
        return await self._write("PATCH", path, body, content_type=content_type, query=query)

    async def patch_status(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        """Merge into `/status`; `body` holds `status`, and `metadata.resourceVersion` where that is a precondition."""
        return await self.patch(resource, namespace, name, body, subresource="status")

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        metadata_only: bool = False,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield pages of one consistent list, each with the resourceVersion of the whole; namespace None: the cluster.

        If the server forgets the list before its end (410), Unavailable is raised and what was yielded is no complete list:
        the caller begins anew.
        """
        path = resource.collection_path(namespace)
        query = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        headers = _METADATA_LIST if metadata_only else _JSON
        following = asyncio.create_task(self._page(path, query, headers))
        try:
            while True:
                page = parse_object(f"LIST {path}", await following)
                metadata = page.get("metadata") or {}
                token = metadata.get("continue") or ""
                if token:  # asked for now, since the server takes as long to make a page as the caller to go through one
                    following = asyncio.create_task(self._page(path, {**query, "continue": token}, headers))
                    await asyncio.sleep(0)  # in this turn it is sent: a caller that awaits nothing would hold it back
                yield [drop_managed_fields(item) for item in page.pop("items", None) or []], metadata.get("resourceVersion", "")
                if not token:
                    return
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _page(self, path: str, query: dict[str, str], headers: dict[str, str]) -> bytes:
        """Return the body of one page of a list."""
        try:
            return await self._transport.send("GET", path, query=query, headers=headers, timeout_seconds=self._deadline_seconds)
        except Rejected as error:
            if error.status != GONE or "continue" not in query:
                raise
            text = f"LIST {path} was forgotten by the server before its end and has to begin anew"
            raise Unavailable(text, status=GONE) from error

    async def list_all(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        metadata_only: bool = False,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> tuple[list[JsonObject], str]:
        """Return a complete list and its resourceVersion."""
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            found: list[JsonObject] = []
            version = ""
            try:
                async for items, as_of in self.list_pages(
                    resource,
                    namespace,
                    metadata_only=metadata_only,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=limit,
                ):
                    found.extend(items)
                    version = as_of
            except Unavailable as error:
                if error.status != GONE or attempt == _LIST_ATTEMPTS:
                    raise
            else:
                return found, version
        raise AssertionError("the last attempt returns or raises")

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        resource_version: str,
        metadata_only: bool = False,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = WATCH_SECONDS,
        inactivity_seconds: float = INACTIVITY_SECONDS,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[tuple[str, JsonObject], None]:
        """Yield (type, object) of everything after `resource_version`: ADDED, MODIFIED, DELETED and BOOKMARK.

        `on_open` is called when the server has accepted the watch, which may be long before its first event.

        Ends when the server ends it. Raises Rejected with status 410 if `resource_version` is forgotten (list again), other
        ClusterErrors for other ends. Close it (`contextlib.aclosing`) when it is left early.
        """
        path = resource.collection_path(namespace)
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        async for line in self._lines(path, query, _METADATA if metadata_only else _JSON, inactivity_seconds, on_open):
            yield _parse_event(f"WATCH {path}", line)
            del line  # what a Secret holds must not linger in a frame that waits for the next event

    async def can_i(
        self,
        verb: str,
        resource: Resource,
        namespace: str | None,
        *,
        subresource: str | None = None,
        name: str | None = None,
        account: tuple[str, str] | None = None,
    ) -> bool:
        """Return whether these credentials may do that; namespace None: everywhere; name None: to any object.

        `account`: ask it of this ServiceAccount (namespace, name); that takes the right to create SubjectAccessReviews.
        """
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "namespace": namespace or ""}
        attributes |= {"subresource": subresource} if subresource is not None else {}
        attributes |= {"name": name} if name is not None else {}
        spec: JsonObject
        kind, spec = (ACCESS_REVIEWS, {}) if account is None else (SUBJECT_REVIEWS, _subject(*account))
        review = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": {"resourceAttributes": attributes, **spec}}
        answer = await self._write("POST", kind.collection_path(None), review, fenced=False)
        return bool((answer.get("status") or {}).get("allowed"))

    async def version(self) -> str:
        """Return the version of the API server, such as `v1.36.3`."""
        body = await self._transport.send("GET", "/version", headers=_JSON, timeout_seconds=self._deadline_seconds)
        return str(parse_object("GET /version", body).get("gitVersion", ""))

    async def try_create(self, resource: Resource, namespace: str, body: JsonObject) -> None:
        """Ask what would become of a create, admission included, and write nothing (dry run). Raises as `create` does."""
        await self._write("POST", resource.collection_path(namespace), body, query={"dryRun": "All"}, fenced=False)

    async def _write(
        self,
        method: str,
        path: str,
        body: JsonObject | list[JsonObject],
        *,
        content_type: str = JSON,
        query: dict[str, str] | None = None,
        deadline_seconds: float | None = None,
        fenced: bool = True,
    ) -> JsonObject:
        timeout = self._deadline_seconds if deadline_seconds is None else deadline_seconds
        data, headers = _encode(body, content_type)
        left = self.fence() if fenced else None
        if left is not None:
            if left <= 0:
                raise Unavailable(f"{method} {path} was not sent: this replica is not the leader")
            timeout = min(timeout, left)
        # The server drops the request by then too; a connection that is cut alone may leave a write half-way.
        limit = {"timeout": f"{max(1, math.ceil(timeout * 1000))}ms"}
        answer = await self._transport.send(
            method, path, query=(query or {}) | limit, body=data, headers=headers, timeout_seconds=timeout
        )
        return drop_managed_fields(parse_object(f"{method} {path}", answer))

    async def _lines(
        self,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        inactivity_seconds: float,
        on_open: Callable[[], None] | None,
    ) -> AsyncIterator[bytes]:
        """Yield the lines of a watch. Lines may be as long as an object is; aiohttp's own line reader refuses those."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        what = f"WATCH {path}"
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._deadline_seconds):
                    response = await stack.enter_async_context(
                        self._transport.stream("GET", path, query=query, headers=headers, timeout=timeout)
                    )
                if on_open is not None:
                    on_open()
                rest = b""
                while True:
                    async with asyncio.timeout(inactivity_seconds):
                        chunk = await response.content.read(READ_BYTES)
                    if not chunk:
                        return
                    *lines, rest = (rest + chunk).split(b"\n")
                    del chunk
                    while lines:
                        line = lines.pop(0)
                        if line.strip():
                            yield line
                        del line
        except TimeoutError as error:
            raise Unavailable(f"{what} has been silent for too long") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{what} failed: {type(error).__name__} {error}".rstrip()) from error


def _encode(body: JsonObject | list[JsonObject], content_type: str) -> tuple[bytes, dict[str, str]]:
    """Return what is sent of a body, and its headers: protobuf for what that can say, which spares the server work."""
    if content_type == JSON and isinstance(body, dict) and (data := protobuf.encode(body)) is not None:
        return data, _PROTOBUF
    return orjson.dumps(body), _JSON | {"Content-Type": content_type}


def _subject(namespace: str, name: str) -> JsonObject:
    """Return the part of an access review that names a ServiceAccount, with the groups that all of them are in."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {"user": f"system:serviceaccount:{namespace}:{name}", "groups": groups}


def _parse_event(what: str, line: bytes) -> tuple[str, JsonObject]:
    event = parse_object(what, line)
    kind, obj = event.get("type"), event.get("object")
    if kind == "ERROR" or not isinstance(kind, str) or not isinstance(obj, dict):
        raise parse_watch_error(what, obj)
    return kind, drop_managed_fields(obj)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    query = {}
    if label_selector:
        query["labelSelector"] = label_selector
    if field_selector:
        query["fieldSelector"] = field_selector
    return query
