"""How a pod reaches the API server: address, token and CA of its ServiceAccount, and two requests, list and watch.

A small client of its own, since pods install neither the Kubernetes client nor the operator. Imports aiohttp, which the
base library does not need: only `api_watch` imports this, when it runs. The token is read again for every request, because
the kubelet rotates it; it never appears in a repr, a log or an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from aigateway_config.api_objects import Event, Page, Status, cut_frames, parse_event, parse_page, parse_status
from aigateway_config.errors import ConfigError, SourceFault
from aigateway_config.protobuf import CONTENT_TYPE, MAGIC
from aigateway_config.tls import client_context

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS: Final = 5.0
CLOSING_SECONDS: Final = 0.05
"""TLS connections that are closed need some turns of the loop to end; a loop that ends before leaves sockets open."""
LIST_SECONDS: Final = 30.0
"""For one page."""
PAGE_ITEMS: Final = 2
"""ConfigMaps a page of a list: all at once would take three times their size of a pod's memory, which it keeps."""
OPENING_SECONDS: Final = 15.0
"""How long a watch may take to begin; the server answers its head at once."""
INACTIVITY_SECONDS: Final = 70.0
"""A watch without any byte for this long is dead: bookmarks come about every minute."""
WATCH_SECONDS: Final = 300
"""How long a watch may last before the server ends it, plus up to a fifth, so that pods do not return all at once."""
MAX_EVENT_BYTES: Final = 4 * 2**20
"""More than any ConfigMap makes of an event: etcd takes no object of 2 MiB."""


class Refusal(ConfigError):
    """The API server answered, but not with what was asked. `status` is the HTTP code, or that of an ERROR event."""

    def __init__(self, text: str, status: int, retry_after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is and who we are. `token` is for development; in a pod `token_file` is read again and again.

    ca_file: PEM file of the server's CA; None: those of the system.
    """

    server: str
    namespace: str
    token_file: Path | None = None
    ca_file: Path | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def in_cluster(cls, folder: Path = SERVICE_ACCOUNT, environment: Mapping[str, str] = os.environ) -> ApiAccess:
        """Return the access of this pod's ServiceAccount. Raises SourceFault if there is none."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
        try:
            namespace = (folder / "namespace").read_text().strip()
        except OSError as error:
            namespace = ""
            reason = error.strerror or str(error)
        else:
            reason = "KUBERNETES_SERVICE_HOST is not set"
        if not host or not namespace:
            raise SourceFault(
                f"the API server cannot be watched: no ServiceAccount in {folder} ({reason}); set "
                "automountServiceAccountToken: true in the pod, or name server, namespace and token explicitly"
            )
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        return cls(server, namespace, token_file=folder / "token", ca_file=folder / "ca.crt")

    def headers(self) -> dict[str, str]:
        """Return the headers of a request, with the token as it is now. Raises OSError if its file cannot be read."""
        token = self.token if self.token_file is None else self.token_file.read_text().strip()
        asked = {"Accept": CONTENT_TYPE, "Accept-Encoding": "identity", "User-Agent": "aigateway-config"}
        return asked if not token else {**asked, "Authorization": f"Bearer {token}"}


class ConfigMaps:
    """List and watch the ConfigMaps of one namespace. Made by `open_config_maps`."""

    def __init__(self, session: aiohttp.ClientSession, access: ApiAccess) -> None:
        self._session = session
        self._access = access
        self._url = f"{access.server.rstrip('/')}/api/v1/namespaces/{access.namespace}/configmaps"

    async def pages(self, query: Mapping[str, str]) -> AsyncGenerator[Page, None]:
        """Yield the ConfigMapList of one moment, page by page. Raises Refusal, OSError, aiohttp.ClientError, ValueError.

        A Refusal of 410 means that the moment is too long ago by now: begin again.
        """
        asked = {**query, "limit": str(PAGE_ITEMS)}
        while True:
            page = await self._page(asked)
            following = page.following
            yield page
            if not following:
                return
            del page  # or two would be in memory at a time
            asked["continue"] = following

    async def _page(self, asked: Mapping[str, str]) -> Page:
        timeout = aiohttp.ClientTimeout(total=LIST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._session.get(
            self._url, params=asked, headers=self._access.headers(), timeout=timeout, allow_redirects=False
        ) as response:
            await _check(response, "list")
            return parse_page(await response.read())

    async def watch(self, query: Mapping[str, str], version: str) -> AsyncGenerator[list[Event], None]:
        """Yield the events after `version` as they arrive, all of one packet together; ends when the server ends it.

        Raises as `pages` does; an ERROR event is a Refusal. Nothing for INACTIVITY_SECONDS is a TimeoutError.
        """
        lasting = WATCH_SECONDS + random.randrange(WATCH_SECONDS // 5)  # noqa: S311 - spreads the load, no secret
        asked = {**query, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=INACTIVITY_SECONDS)
        async with asyncio.timeout(OPENING_SECONDS):
            response = await self._session.get(
                self._url,
                params={**asked, "timeoutSeconds": str(lasting)},
                headers=self._access.headers(),
                timeout=timeout,
                allow_redirects=False,
            )
        async with response:
            await _check(response, "watch")
            rest = b""
            async for chunk in response.content.iter_any():
                frames, rest = cut_frames(rest + chunk, MAX_EVENT_BYTES)
                if frames:
                    yield [_event(frame) for frame in frames]


@asynccontextmanager
async def open_config_maps(access: ApiAccess) -> AsyncIterator[ConfigMaps]:
    """Open a client. Raises SourceFault if the CA file cannot be used; sends nothing yet."""
    try:
        context = await asyncio.to_thread(client_context, access.ca_file)
    except (OSError, ValueError) as error:
        raise SourceFault(
            f"the CA file {access.ca_file} of the API server cannot be used ({error}); name a readable PEM file"
        ) from error
    # No proxies from the environment: the API server is inside the cluster.
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            yield ConfigMaps(session, access)
    finally:
        await asyncio.sleep(CLOSING_SECONDS)


async def _check(response: aiohttp.ClientResponse, verb: str) -> None:
    if response.status == 200:
        return
    seconds = response.headers.get("Retry-After", "")
    raise Refusal(
        f"{verb} of ConfigMaps was answered {response.status}: {_said(await response.content.read(2_000)) or response.reason}",
        response.status,
        float(seconds) if seconds.isdecimal() else 0.0,
    )


def _said(body: bytes) -> str:
    """Return what an answer of refusal says: the message of a Status, in either encoding, or a proxy's text as it is."""
    try:
        text = parse_status(body).message if body.startswith(MAGIC) else str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace").strip()
    return text[:500]


def _event(frame: memoryview) -> Event:
    event = parse_event(frame)
    if isinstance(event, Status):
        raise Refusal(f"watch of ConfigMaps broke off: {event.message[:500]}", event.code)
    return event
