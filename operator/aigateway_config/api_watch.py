"""Documents straight from the API server, milliseconds after the operator wrote them, for pods with that right.

    ConfigReader([MountedVolume(config, credentials), ApiWatch("main")])

Needs `list` and `watch` of ConfigMaps in its own namespace, and aiohttp. Brings documents only: credentials and the lineage
come from the mounted volume, and the state machine lets a document wait for credentials that are not there yet. Never
writes and never reads Secrets. An outage costs nothing: what is known is kept, and the volume goes on. A document that is in
force is not kept here as text besides: nobody asks for it again, and it would be half a megabyte for a thousand models.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from aigateway_config import documents
from aigateway_config.api_objects import ConfigMap, Event
from aigateway_config.errors import SourceFault
from aigateway_config.source import MemoryReading, Offer
from aigateway_config.verification import document_of

if TYPE_CHECKING:
    from aigateway_config.api_access import ApiAccess, ConfigMaps
    from aigateway_config.configuration import Configuration

GATEWAY_LABEL: Final = "ai-gateway.io/gateway"
"""Label of every ConfigMap that the operator makes: the name of its GatewayConfig."""
GONE: Final = 410
FORBIDDEN: Final = 403
FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 10.0
MAX_RETRY_AFTER_SECONDS: Final = 60.0
SETTLED_SECONDS: Final = 5.0
"""A watch that lasted this long was a good one: the next fault starts at the first back-off again."""

log = logging.getLogger("aigateway_config")


@dataclass(slots=True, eq=False)
class _Selection:
    """One list and watch: its query, where it stands, and the ConfigMaps it has shown."""

    query: Mapping[str, str]
    version: str | None = None
    failures: int = 0
    complaint: str = ""


class _InForce(dict[str, bytes]):
    """The manifest of a document that is in force, whose text was let go of: there is nothing in it to offer."""


class ApiWatch:
    """A source, and a follower of the configuration in force: the ConfigMaps of one gateway.

    Followed by label, or by name where the Role lists `resourceNames`.

    gateway: name of the GatewayConfig. access: None for this pod's ServiceAccount. config_maps: exact names
    (`main-config`, `main-models-00` …), one watch each; None: one watch by label, which also sees shards that come later.
    Raises SourceFault if aiohttp is not installed.
    """

    name: Final = "api"

    def __init__(self, gateway: str, *, access: ApiAccess | None = None, config_maps: Sequence[str] | None = None) -> None:
        if find_spec("aiohttp") is None:
            raise SourceFault("the API source needs aiohttp: install it beside this package, or use the mounted volume alone")
        self._gateway = gateway
        self._access = access
        if config_maps is None:
            self._selections = [_Selection({"labelSelector": f"{GATEWAY_LABEL}={gateway}"})]
        else:
            self._selections = [_Selection({"fieldSelector": f"metadata.name={name}"}) for name in config_maps]
        self._files: dict[_Selection, dict[str, Mapping[str, bytes]]] = {selection: {} for selection in self._selections}
        self._ignored: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._in_force: Configuration | None = None

    @property
    def ignored(self) -> Mapping[str, int]:
        """ConfigMaps that carry the gateway's label without being one of its own (`ForeignConfigMap`), once a sighting."""
        return self._ignored

    def follow(self, configuration: Configuration) -> None:
        """Take note of what is in force: the text of those documents is let go of."""
        self._in_force = configuration

    async def run(self, offer: Offer) -> None:
        """Offer all documents that are not in force, now and after every change, until cancelled.

        Raises SourceFault where a new start may help: no ServiceAccount, an unusable CA file, a certificate that does not
        verify (the CA may have been rotated). Every other fault is tried again here.
        """
        from aigateway_config.api_access import ApiAccess, open_config_maps  # imported when used: needs aiohttp

        access = self._access or ApiAccess.in_cluster()
        self._in_force = None  # of this run: who offers to another reader begins from nothing
        for selection in self._selections:
            selection.version = None
        try:
            async with open_config_maps(access) as client, asyncio.TaskGroup() as group:
                for selection in self._selections:
                    group.create_task(self._follow(client, selection), name=f"config api {selection.query}")
                group.create_task(self._offer(offer), name="config api offers")
        except* SourceFault as faults:
            raise SourceFault(str(faults.exceptions[0])) from faults

    async def _offer(self, offer: Offer) -> None:
        """Offer the newest state; what changes while an offer is judged goes into the next one."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            every = [files for by_name in self._files.values() for files in by_name.values()]
            shown = [files for files in every if not isinstance(files, _InForce)]
            await offer(MemoryReading({name: content for files in shown for name, content in files.items()}))
            for by_name in self._files.values():
                for name, files in by_name.items():
                    by_name[name] = self._needed(files)

    async def _follow(self, client: ConfigMaps, selection: _Selection) -> None:
        from aiohttp import ClientConnectorCertificateError, ClientError  # imported when used

        from aigateway_config.api_access import Refusal

        loop = asyncio.get_running_loop()
        while True:
            began, retry_after = loop.time(), 0.0
            try:
                await self._list_and_watch(client, selection)
                selection.failures = 0 if loop.time() - began > SETTLED_SECONDS else selection.failures + 1
                selection.complaint = ""
            except ClientConnectorCertificateError as error:
                raise SourceFault(f"the API server's certificate does not verify: {error}") from error
            except (Refusal, ClientError, OSError, ValueError) as error:
                retry_after = self._note(selection, error, settled=loop.time() - began > SETTLED_SECONDS)
            await asyncio.sleep(_pause(selection.failures, retry_after))

    async def _list_and_watch(self, client: ConfigMaps, selection: _Selection) -> None:
        """Go on from where the selection stands; returns when the server ends the watch."""
        if selection.version is None:
            await self._list(client, selection)
        async with aclosing(client.watch(selection.query, str(selection.version))) as packets:
            async for events in packets:
                selection.complaint, selection.failures = "", 0
                for event in events:
                    self._apply(selection, event)
                    selection.version = event.config_map.version

    async def _list(self, client: ConfigMaps, selection: _Selection) -> None:
        """Take a complete list: what is absent is gone."""
        found: dict[str, Mapping[str, bytes]] = {}
        version = None
        async with aclosing(client.pages(selection.query)) as pages:
            async for page in pages:
                for config_map in page.items:
                    if files := self._needed(self._files_of(config_map)):
                        found[config_map.name] = dict(files)  # what is in force already is offered this once
                version = page.version
        self._files[selection] = found
        self._changed.set()
        selection.version = version

    def _note(self, selection: _Selection, error: Exception, *, settled: bool) -> float:
        """Count and log a fault; return how many seconds to wait at least."""
        status = getattr(error, "status", 0)
        selection.failures = 1 if settled else selection.failures + 1
        if status == GONE or isinstance(error, ValueError):
            selection.version = None  # only a new list helps
        complaint = f"{type(error).__name__} {status}"
        if status != GONE and complaint != selection.complaint:
            log.warning("documents do not come from the API server, the volume goes on: %s %s", type(error).__name__, error)
            selection.complaint = complaint
        if status == FORBIDDEN:
            return MAX_BACKOFF_SECONDS  # a missing right is mended by a person
        return min(getattr(error, "retry_after_seconds", 0.0), MAX_RETRY_AFTER_SECONDS)

    def _apply(self, selection: _Selection, event: Event) -> None:
        if event.kind == "BOOKMARK":
            return
        known, name = self._files[selection], event.config_map.name
        files: Mapping[str, bytes] = {} if event.kind == "DELETED" else self._files_of(event.config_map)
        shown = known.get(name, {})
        if shown and shown.items() <= files.items():
            files = self._needed(files)  # its manifest is as it was: the document may be the one that was let go of
        if files == shown:
            return  # labels or annotations changed, not the documents
        if files:
            known[name] = files
        else:
            known.pop(name, None)
        self._changed.set()

    def _files_of(self, config_map: ConfigMap) -> dict[str, bytes]:
        """Return the files that a ConfigMap of this name may bring: anyone may put our label on anything."""
        wanted = files_of(self._gateway, config_map.name)
        if not wanted:
            self._ignored["ForeignConfigMap"] += 1
        return {name: config_map.data[name] for name in wanted if name in config_map.data}

    def _needed(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the files of a ConfigMap, less its document if that is in force just as its manifest says (`_InForce`)."""
        current, manifest_file = self._in_force, next((name for name in files if name.endswith(".json")), None)
        if current is None or manifest_file is None or isinstance(files, _InForce):
            return files
        state, manifest = current.documents.get(document_of(manifest_file)), files[manifest_file]
        if state is None or not _describes(manifest, current.lineage, state):
            return files
        return _InForce({manifest_file: manifest})


def _describes(manifest: bytes, lineage: str, state: documents.DocumentState) -> bool:
    try:
        said = documents.ManifestHead.model_validate_json(manifest)
    except ValueError:
        return False
    return (said.lineage, said.revision, said.sha256) == (lineage, state.revision, state.digest)


def files_of(gateway: str, config_map: str) -> tuple[str, ...]:
    """Return the files of a gateway's ConfigMap by its name; () for a name that is none of this gateway's."""
    if config_map == f"{gateway}-config":
        return documents.CONFIG_FILE, documents.CONFIG_MANIFEST
    shard = re.fullmatch(rf"{re.escape(gateway)}-models-([0-9]{{2}})", config_map)
    if shard is None:
        return ()
    return documents.document_file(int(shard[1])), documents.document_manifest(int(shard[1]))


def _pause(failures: int, at_least_seconds: float) -> float:
    """Return the seconds until the next attempt; 0 after a watch that ended as it should."""
    if failures == 0:
        return 0.0
    pause = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16))
    return max(pause * random.uniform(0.75, 1.25), at_least_seconds)  # noqa: S311 - spreads the load, no secret
