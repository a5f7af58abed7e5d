"""State of referenced Secrets, per namespace that holds a GatewayConfig.

Watches with selectors that leave out Helm releases, tokens and our own credentials; keeps only values of referenced keys; never
logs any. What a reference newly names is read once: by a list of that one name (a LIST says as of which resourceVersion it is
true, a GET does not), or, for many, by one list of the namespace. Needs `list` and `watch` on Secrets, no `get`.
Fulfils `Secrets` of `reconcile/ports.py`; wired by `main`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final

from loguru import logger

from aigateway_logs import register_secret
from aigateway_operator.api.meta import MANAGED_BY, MANAGED_BY_LABEL
from aigateway_operator.errors import ClusterError
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import SECRETS, JsonObject
from aigateway_operator.kube.secret_book import REFUSED_TYPES, SecretBook, SecretNews, parse_secret
from aigateway_operator.kube.watching import Selection, Watcher
from aigateway_operator.plan.secret_state import SecretState

PAGE_SIZE: Final = 100
"""Secrets can be a megabyte each; a page is held whole while it is parsed."""
SINGLE_READS_PER_PAGE: Final = 2
"""Up to this many names a page of the namespace are read one by one; more are found by listing it."""
READ_ATTEMPTS: Final = 3
"""Another caller may refer to further keys of a Secret while it is being read; then it is read again."""
REFUSED_CHECK_SECONDS: Final = 60.0
MAX_RETRY_SECONDS: Final = 30.0
WATCHED: Final = ",".join(f"type!={kind}" for kind in REFUSED_TYPES)

OnChange = Callable[[str, str], None]


class SecretWatch:
    """Follows Secrets. `on_change(namespace, name)`: a referenced key's value, its presence or the Secret's type changed.

    Nothing else is told: no change of other keys, of labels or annotations, and no news that only confirms what is known.
    label_selector narrows what exists for us (None: everything). on_listed(namespace): rounds may begin. clock: what
    `SecretState.gone_since` is told in.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        on_change: OnChange,
        on_listed: Callable[[str], None] | None = None,
        label_selector: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._on_listed = on_listed
        self._label_selector = ",".join(filter(None, (f"{MANAGED_BY_LABEL}!={MANAGED_BY}", label_selector)))
        self._clock = clock
        self._spaces: dict[str, _Namespace] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def watch(self, namespace: str) -> None:
        """Begin to follow a namespace; idempotent."""
        if namespace not in self._spaces:
            space = _Namespace(self._client, namespace, self._label_selector, self._on_change, self._on_listed, self._clock)
            self._spaces[namespace] = space
            space.watcher.start()

    def unwatch(self, namespace: str) -> None:
        """Stop following a namespace and forget it."""
        space = self._spaces.pop(namespace, None)
        if space is not None:
            task = asyncio.create_task(space.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def listed(self, namespace: str) -> bool:
        """Tell whether the namespace has been listed completely once."""
        space = self._spaces.get(namespace)
        return space is not None and space.watcher.listed

    async def ensure(self, namespace: str, references: Mapping[str, frozenset[str]], *, caller: str) -> None:
        """Make the named Secrets and keys known, as far as the API server lets us; `caller` needs these and no others.

        Never raises a ClusterError: what cannot be read is `known=False`, is tried again, and then `on_change` is called.
        """
        self.watch(namespace)
        await self._spaces[namespace].ensure(references, caller)

    def state(self, namespace: str, name: str) -> SecretState:
        """Return what is known of a Secret that was ensured."""
        space = self._spaces.get(namespace)
        return SecretState(known=False, exists=False) if space is None else space.book.state(name)

    def states(self, namespace: str, names: Iterable[str]) -> dict[str, SecretState]:
        """Return what is known of each of these, as `state` does."""
        space = self._spaces.get(namespace)
        return {name: self.state(namespace, name) for name in names} if space is None else space.book.states(names)

    async def stop(self) -> None:
        """Stop following everything."""
        for namespace in list(self._spaces):
            self.unwatch(namespace)
        await asyncio.gather(*self._stopping)


class _Namespace:
    """One namespace: its watch, its book, and the reads that fill it."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        label_selector: str,
        on_change: OnChange,
        on_listed: Callable[[str], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self.book = SecretBook()
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._on_change = on_change
        self._on_first_list = on_listed
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter, not a secret
        self._reading = asyncio.Lock()
        self._retry: asyncio.Task[None] | None = None
        self._size = self._counted = 0
        self.watcher = Watcher(
            client,
            Selection(SECRETS, namespace, label_selector, WATCHED),
            reduce=self._reduce,
            on_listed=self._listed,
            on_event=self._event,
            page_size=PAGE_SIZE,
            clock=clock,
        )

    async def stop(self) -> None:
        await self.watcher.stop()
        if self._retry is not None:
            self._retry.cancel()
            with suppress(asyncio.CancelledError):
                await self._retry

    async def ensure(self, references: Mapping[str, frozenset[str]], caller: str) -> None:
        self.book.refer(caller, references)
        if not self._lacking(references):
            return
        async with self._reading:
            for _ in range(READ_ATTEMPTS):
                # What could not be read is tried again beside, so that an outage does not hold up every round.
                lacking = [name for name in self._lacking(references) if not self.book.doubted(name)]
                if not lacking or not await self._try_to_read(lacking):
                    return

    def _lacking(self, names: Mapping[str, object]) -> list[str]:
        return self.book.unsettled(names, self._clock() - REFUSED_CHECK_SECONDS)

    async def _try_to_read(self, names: list[str]) -> bool:
        try:
            await self._read(names)
        except ClusterError as error:
            logger.bind(namespace=self._namespace).warning("Secrets could not be read, what is live is kept: {}", error)
            self.book.doubt(self._lacking(dict.fromkeys(names)), self._clock())
            if self._retry is None or self._retry.done():
                self._retry = asyncio.create_task(self._read_again(), name=f"secrets of {self._namespace}")
            return False
        return True

    async def _read_again(self) -> None:
        """Read what could not be read, until nothing is left; never gives up."""
        delay = 0.5
        while True:
            await asyncio.sleep(delay * (0.5 + self._random.random()))
            delay = min(MAX_RETRY_SECONDS, delay * 2)
            async with self._reading:
                doubted = [name for name in self.book.names() if self.book.doubted(name)]
                if not doubted or await self._try_to_read(doubted):
                    return

    async def _read(self, names: list[str]) -> None:
        pages = 1 + self._size // PAGE_SIZE
        if len(names) <= SINGLE_READS_PER_PAGE * pages:
            for name in names:
                await self._read_one(name)
        else:
            await self._read_many(set(names))

    async def _read_one(self, name: str) -> None:
        """Read one Secret, of whatever type: one that the watch leaves out must be told from one that is missing."""
        items, version = await self._list(f"metadata.name={name}")
        wanted = self.book.wanted(name)
        news = _read(items[0], wanted, int(version)) if items else SecretNews(name, int(version), wanted, None)
        self._learn(news)

    async def _read_many(self, names: set[str]) -> None:
        """Read by listing the namespace, page by page; then tell the refused from the missing by their metadata."""
        left = set(names)
        news: list[SecretNews] = []
        version = "0"
        async for items, version in self._client.list_pages(
            SECRETS,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=WATCHED,
            limit=PAGE_SIZE,
        ):
            for item in items:
                name = item["metadata"]["name"]
                if name in left:
                    left.discard(name)
                    news.append(_read(item, self.book.wanted(name), int(version)))
        for found in news:
            self._learn(found)
        for kind in REFUSED_TYPES if left else ():
            refused, as_of = await self._list(f"type={kind}", metadata_only=True)
            for name in left & {item["metadata"]["name"] for item in refused}:
                left.discard(name)
                self._learn(SecretNews(name, int(as_of), self.book.wanted(name), kind))
        for name in left:
            self._learn(SecretNews(name, int(version), self.book.wanted(name), None))

    async def _list(self, field_selector: str, *, metadata_only: bool = False) -> tuple[list[JsonObject], str]:
        return await self._client.list_all(
            SECRETS,
            self._namespace,
            metadata_only=metadata_only,
            label_selector=self._label_selector,
            field_selector=field_selector,
        )

    def _learn(self, news: SecretNews) -> None:
        if self.book.learn(news, self._clock()):
            self._on_change(self._namespace, news.name)

    def _reduce(self, obj: JsonObject) -> SecretNews | None:
        self._counted += 1
        wanted = self.book.wanted(obj["metadata"]["name"])
        return _read(obj, wanted, 0) if wanted else None

    def _listed(self, items: list[SecretNews], version: str) -> None:
        self._size, self._counted = self._counted, 0
        for news in items:
            self._learn(replace(news, version=int(version)))
        for name in self.book.absent((news.name for news in items), int(version), self._clock()):
            self._on_change(self._namespace, name)
        if self._on_first_list is not None:
            told, self._on_first_list = self._on_first_list, None
            told(self._namespace)

    def _event(self, kind: str, obj: JsonObject) -> None:
        name, version = obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"])
        wanted = self.book.wanted(name)
        if wanted:
            gone = kind == "DELETED"
            self._learn(SecretNews(name, version, wanted, None) if gone else _read(obj, wanted, version))


def _read(obj: JsonObject, wanted: frozenset[str], version: int) -> SecretNews:
    """Parse a Secret; whatever is logged of its values from now on is masked."""
    news = parse_secret(obj, wanted, version)
    for value in news.values.values():
        register_secret(value)
    return news
