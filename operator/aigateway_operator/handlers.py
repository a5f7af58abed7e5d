"""kopf in, objects out: the only module besides `main` that imports kopf.

kopf is the source of watch events for VirtualModels and GatewayConfigs and nothing else: no state, no finalizers, no
annotations, no Events, no timers. It has a thread and a loop of its own, because when `kopf.operator()` ends it cancels
whatever was started in its loop, and it ends at any ERROR of a watch but 410; a supervisor here starts it again. A handler
only hands its object over, in batches. What kopf never tells, deletions behind a 410, `reconcile.repair` finds.
Wired by `main`. Source: docs/measured.md#kopf.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import kopf
from kopf._cogs.clients.errors import APIError  # not public; kopf is pinned to one minor version
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory  # the same
from loguru import logger

from aigateway_config.tls import as_others_verify
from aigateway_operator.errors import SettingsError
from aigateway_operator.kube.access import ClusterAccess
from aigateway_operator.kube.answers import drop_managed_fields
from aigateway_operator.kube.client import PAGE_SIZE
from aigateway_operator.kube.pages import taking_pages
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, JsonObject, Resource

OnObject = Callable[[Resource, str | None, JsonObject], None]
"""(kind, type, object). type: ADDED, MODIFIED, DELETED; None: the object was listed, at the start or after a 410."""

KINDS: Final = (VIRTUAL_MODELS, GATEWAY_CONFIGS)
BATCH: Final = 200
"""Objects handed over before other tasks of the receiving loop have their turn, and that may wait when a page is asked for."""
PAGE_PAUSE_SECONDS: Final = 0.005
"""How long a page waits before it looks again whether there is room."""
HOLD_SECONDS: Final = 5.0
"""How long kopf's first start may wait for rounds: its LIST of ten thousand objects takes the interpreter from them."""
HOLD_PAUSE_SECONDS: Final = 0.02
"""How long it waits before it looks again."""
FIRST_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 15.0
STEADY_SECONDS: Final = 60.0
"""After a run of this length the next end is not a repeated failure."""
STOP_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 1.0
"""How long kopf may take to end when it is asked to, and again when it is cancelled."""
CLOSING_SECONDS: Final = 0.1
"""Until connections that were closed have told their loop so."""


class _Backoffs:
    """Endless, jittered, capped pauses: kopf ends after the last of a finite list, that is after a minute of 503."""

    def __iter__(self) -> Iterator[float]:
        random = Random()  # noqa: S311 - jitter, not a secret
        pause = 0.5
        while True:
            yield pause * (0.5 + random.random())
            pause = min(MAX_BACKOFF_SECONDS / 1.5, pause * 1.6)


class _NoDiffs(kopf.DiffBaseStorage):
    """What an object was when it was last handled: nobody asks, and kopf would copy each one, deeply, at every event."""

    def build(self, **_: Any) -> Any:
        """Return nothing that could differ."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Remember nothing."""

    def store(self, **_: Any) -> None:
        """Write nothing into objects."""


class _NoMemories(ResourceMemories):
    """What kopf remembers of each object: nothing. It would stay until a deletion is seen, 2 kB each, and is for daemons."""

    async def recall(self, raw_body: Any, **options: Any) -> ResourceMemory:
        """Return a memory for one event."""
        return await super().recall(raw_body, **{**options, "ephemeral": True})


def make_settings() -> kopf.OperatorSettings:
    """Return kopf's settings, each with its reason."""
    settings = kopf.OperatorSettings()
    # Events are ours to post, on transitions only; kopf would post one for every log line of a handler.
    settings.posting.enabled = False
    # Peering is a heartbeat of 40 to 60 seconds, not a lock; we have a Lease, and standbys watch too.
    settings.peering.standalone = True
    # No LIST and WATCH of CRDs and namespaces: no rights for them needed, and a broken aggregated API does not matter.
    settings.scanning.disabled = True
    # A task per object lives this long after its last event; at the default of 5 s a start with 10,000 objects takes 260 MB.
    settings.queueing.idle_timeout = 0.05
    # What changed in an object is of interest to `on.update` alone; a deep copy of each at every event is not for free.
    settings.persistence.diffbase_storage = _NoDiffs()
    # What is left in the queues when we stop is of no interest: the next start lists everything.
    settings.queueing.exit_timeout = 0.5
    # Pages; a list of 10,000 objects in one piece peaks at 320 MB. Not `initial_streaming`, though faster: it has no fallback
    # where WatchList is off (Kubernetes 1.33 by default), and a stream that is cut before its end is continued from the
    # resourceVersion of whichever object came last, so that the others are never seen.
    settings.watching.chunk_size = PAGE_SIZE
    # The server ends each watch after this; the next continues where it ended. Keeps load balancers from silently dropping it.
    settings.watching.server_timeout = 300
    # Bookmarks come about every minute: a watch that is silent for longer is dead. (Python 3.11 and newer only.)
    settings.watching.inactivity_timeout = 70.0
    settings.watching.reconnect_backoff = 0.1
    settings.watching.connect_timeout = 10.0
    # The default of 300 s would hide a hanging API server for five minutes.
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    # An outage of any length is survived: with the finite default kopf ends after 55 s of 503.
    settings.networking.error_backoffs = _Backoffs()
    # kopf would kill the thread that does not end in time with SIGKILL, which in Linux is the whole process.
    settings.process.ultimate_exiting_timeout = None
    return settings


class KopfSource:
    """Runs kopf in a thread and hands what it sees to `on_object`, in `loop` (None: the one in which `start` is called).

    kubeconfig, context and server_override: as for KubeClient; credentials are loaded at each start of kopf and after a 401.
    namespaces: empty for the whole cluster. An `on_object` that
    raises is logged and does not stop the others. Objects of one kind come in the order of the watch; nothing else is ordered.
    busy: tells whether rounds have something to do, which kopf leaves alone before it begins, for a while.
    """

    def __init__(
        self,
        on_object: OnObject,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        server_override: str | None = None,
        namespaces: tuple[str, ...] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        settings: Callable[[], kopf.OperatorSettings] = make_settings,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._busy = busy
        self._access = ClusterAccess(kubeconfig, context, server_override)
        self._on_object = on_object
        self._namespaces = namespaces
        self._make_settings = settings
        self._handed: deque[tuple[Resource, str | None, JsonObject]] = deque()
        self._handing = threading.Lock()
        self._drain_is_due = False
        self._loop = loop
        self._supervisor: asyncio.Task[None] | None = None
        self._run: _Run | None = None
        self._random = Random()  # noqa: S311 - jitter, not a secret
        self._sessions: list[aiohttp.ClientSession] = []
        self.starts = 0
        self.seen = 0
        """How many objects have been handed over."""

    @property
    def alive(self) -> bool:
        """Whether kopf's thread is running now. False between its end and the next start."""
        return self._run is not None and self._run.thread.is_alive()

    @property
    def restarts(self) -> int:
        """How often kopf was started again."""
        return max(0, self.starts - 1)

    def start(self) -> None:
        """Begin; call it inside the loop that shall receive the objects. Idempotent."""
        if self._supervisor is None:
            _quiet_kopf()
            self._loop = self._loop or asyncio.get_running_loop()
            self._supervisor = asyncio.create_task(self._supervise(), name="kopf supervisor")

    def restart(self) -> None:
        """End kopf; the supervisor starts it again, which lists everything anew."""
        if self._run is not None:
            self._run.request_stop()

    async def stop(self) -> None:
        """End kopf for good; returns within STOP_SECONDS, whether or not its thread has ended (it is a daemon)."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        with suppress(asyncio.CancelledError):
            await supervisor
        if self._run is not None:
            self._run.request_stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._run.ended.wait()
                    await asyncio.to_thread(self._run.thread.join, GRACE_SECONDS)
        self._handed.clear()

    async def _hold(self) -> None:
        """Wait until rounds have nothing to do. Nothing is lost: kopf's LIST brings what has changed meanwhile."""
        for _ in range(round(HOLD_SECONDS / HOLD_PAUSE_SECONDS)):
            if not self._busy():
                return
            await asyncio.sleep(HOLD_PAUSE_SECONDS)

    async def _supervise(self) -> None:
        await self._hold()
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            self._run = _Run(loop, self._operate, self._close_sessions)
            self.starts += 1
            self._run.thread.start()
            await self._run.ended.wait()
            # An end that was asked for is no failure: it must not make the next restart wait.
            failures = 1 if self._run.asked_to_stop or loop.time() - began >= STEADY_SECONDS else failures + 1
            pause = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10)) * (
                0.5 + self._random.random()
            )
            logger.bind(restarts=self.starts).warning("Event source ended and starts again in {:.1f} s", pause)
            await asyncio.sleep(pause)

    async def _operate(self, stop: asyncio.Event) -> None:
        """Run kopf's tasks until one of them ends, in its own loop; raises what ended it.

        Not `kopf.operator()`: after a task has failed that waits without limit for others, one of which may wait for new
        credentials that nobody hands out any more (seen with 1.45.2 after an ERROR event of a watch).
        """
        where: dict[str, Any] = {"namespaces": list(self._namespaces)} if self._namespaces else {"clusterwide": True}
        tasks = await kopf.spawn_tasks(
            registry=self._make_registry(), settings=self._make_settings(), memories=_NoMemories(), stop_flag=stop, **where
        )
        ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=GRACE_SECONDS)
        for task in ended:
            task.result()

    def _make_registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._log_in)
        for resource in KINDS:
            self._register(registry, resource)
        return registry

    def _register(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        async def hand_over(event: Any, **_: Any) -> None:
            self._hand_over(resource, event["type"], take_from(event["object"]))

        kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=registry)(hand_over)

    async def _log_in(self, **_: Any) -> kopf.AiohttpSession:
        try:
            found = await self._access.credentials()
        except SettingsError as error:
            raise kopf.PermanentError(str(error)) from error
        scheme, _space, token = (found.authorization or "").partition(" ")
        info = kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_file,
            insecure=found.insecure,
            scheme=scheme or None,
            token=token or None,
            certificate_path=found.certificate_file,
            private_key_path=found.key_file,
        )
        # The session is ours, so that its connections can be closed for certain: kopf leaves them to the garbage collector
        # when it is stopped while it starts.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=as_others_verify(info.as_ssl_context())),
            headers={**info.as_http_headers(), "Accept-Encoding": "identity"},  # as `kube.transport`: the network is local
            proxy=found.proxy,
            response_class=taking_pages(KINDS, self._hand_over_page),
        )
        self._sessions.append(session)
        return kopf.AiohttpSession(server=found.server, aiohttp_session=session)

    async def _close_sessions(self) -> None:
        """Called in kopf's loop, at its end: abort what is still open, without the farewell of TLS."""
        while self._sessions:
            session = self._sessions.pop()
            if session.connector is not None:
                await session.connector.close()
            await session.close()

    async def _hand_over_page(self, resource: Resource, objects: list[JsonObject]) -> None:
        """Called in kopf's loop with each page of a LIST; returns when the receiver has taken most of it.

        So no more than a page or two wait in memory, however slow the receiver is.
        """
        for obj in objects:
            self._hand_over(resource, None, obj)
        objects.clear()
        while len(self._handed) > BATCH:  # noqa: ASYNC110 - an Event would have to be set from the other thread, object by object
            await asyncio.sleep(PAGE_PAUSE_SECONDS)

    def _hand_over(self, resource: Resource, kind: str | None, obj: JsonObject) -> None:
        """Called in kopf's thread. One wake-up of the receiving loop for all objects that come before it has run."""
        with self._handing:
            self._handed.append((resource, kind, obj))
            due, self._drain_is_due = self._drain_is_due, True
        if not due and self._loop is not None:
            # A loop that is closed has nobody left to tell: the process ends.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Called in the receiving loop."""
        for _ in range(BATCH):
            with self._handing:
                if not self._handed:
                    self._drain_is_due = False
                    return
                resource, kind, obj = self._handed.popleft()
            self.seen += 1
            try:
                self._on_object(resource, kind, obj)
            except Exception:  # noqa: BLE001 - the edge of the loop: one odd object must not stop the others
                logger.bind(kind=resource.kind).exception("An object was not taken over")
        asyncio.get_running_loop().call_soon(self._drain)


def take_from(obj: JsonObject) -> JsonObject:
    """Return an event's object, and leave neither spec nor status to kopf, whose views stay until the collector comes by."""
    taken = drop_managed_fields({**obj})
    obj.pop("spec", None)
    obj.pop("status", None)
    return taken


class _Run:
    """One life of kopf: a thread with a loop of its own."""

    def __init__(
        self,
        receiver: asyncio.AbstractEventLoop,
        operate: Callable[[asyncio.Event], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.ended = asyncio.Event()
        self.thread = threading.Thread(target=self._work, name="kopf", daemon=True)
        self._receiver = receiver
        self._operate = operate
        self._close = close
        self.asked_to_stop = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """Ask kopf to end; safe from any thread, at any time."""
        self.asked_to_stop = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._operate_once())
        except Exception as error:  # noqa: BLE001 - the edge of the thread: the supervisor starts the next
            logger.opt(exception=not isinstance(error, APIError)).warning("Event source broke: {}", error)
        finally:
            with suppress(RuntimeError):
                self._receiver.call_soon_threadsafe(self.ended.set)

    async def _operate_once(self) -> None:
        # kopf cancels what begins after it does: this one begins before.
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.sleep(0)
        operating = asyncio.ensure_future(self._operate(self._stop))
        await asyncio.wait({operating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({operating}, timeout=GRACE_SECONDS)
        # kopf waits five seconds for tasks that it does not cancel, such as a request to a server that hangs.
        for task in (left := asyncio.all_tasks() - {asyncio.current_task()} | {operating}):
            task.cancel()
        await asyncio.wait(left, timeout=GRACE_SECONDS)
        await self._close()
        await asyncio.sleep(CLOSING_SECONDS)
        if operating.done() and not operating.cancelled():
            operating.result()


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Tell so, and take the traceback away from what the API server answered: it shows kopf's insides, twice forty lines."""
    if record.exc_info and isinstance(record.exc_info[1], APIError):
        record.exc_info = None
    return not record.getMessage().startswith("OS signals are ignored")


def _quiet_kopf() -> None:
    """Leave out what kopf says at every start in a thread, and at every event: "Handler … succeeded"."""
    for name in ("running", "orchestration", "queueing"):
        logging.getLogger(f"kopf._core.reactor.{name}").addFilter(_is_worth_logging)
    for name in ("kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
