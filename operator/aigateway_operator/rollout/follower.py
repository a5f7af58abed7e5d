"""One pod: asked until it says the target, poked while it does not, asked again every minute.

Two small loops, so that an API server that is slow to take a poke never holds up a question. Pokes go only to a running pod,
after the write they speak of, and carry the newest target at the moment they are sent. Used by `rollout.tracker` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from loguru import logger

from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from aigateway_operator.errors import ClusterError
from aigateway_operator.plan.proof import PodState, Target
from aigateway_operator.rollout import cadence
from aigateway_operator.rollout.answers import (
    Answered,
    Misanswered,
    Outcome,
    Silent,
    ahead,
    difference,
    highest_revisions,
    restart_required,
)
from aigateway_operator.rollout.ports import Ask, Poke
from aigateway_operator.waiting import wait

RECOVER_SECONDS: Final = 5.0
ANOTHER_POD: Final = (404, 409, 422)
"""No pod, or another one (by uid, which the API server refuses as immutable), has that name by now; the watch will tell."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be proved, and how. `since`: clock at the end of the write; `written`: this process has just written it."""

    target: Target
    port: int
    poke: bool
    since: float
    written: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What one question to a pod found out about the present target. `text`: "" if it matches. `asked` / `ended`: clock."""

    matches: bool
    silent: bool
    text: str
    asked: float
    ended: float
    restart_required: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tools:
    """What followers of one gateway share.

    `pods`: how many are followed; `behind`: how many of them do not match; `found`: something new is known.
    """

    namespace: str
    ask: Ask
    poke: Poke
    asking: asyncio.Semaphore
    poking: asyncio.Semaphore
    clock: Callable[[], float]
    random: Random
    pods: Callable[[], int]
    behind: Callable[[], int]
    found: Callable[[], None]
    poke_failed: Callable[[ClusterError], None]


class PodFollower:
    """Follows one pod from `start` to `stop`."""

    def __init__(self, pod: PodState, aim: Aim, tools: Tools) -> None:
        self.pod = pod
        self.finding: Finding | None = None
        """What is known of the present target; None: nothing yet."""
        self.highest = (0, 0)
        """Highest revisions of documents and credentials that the pod reported last."""
        self.since = tools.clock()
        """Since when the pod has been followed, or ready again."""
        self._aim, self._tools = aim, tools
        self._attempt = self._pokes = 0
        self._ask_at = self.since
        self._poke_at: float | None = None
        self._poked_at = float("-inf")
        self._poked = pod.poked
        self._ask_wake, self._poke_wake = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        if aim.written:
            self.aim(aim)

    def start(self) -> None:
        """Begin; inside a running loop."""
        steps = {"ask": self._ask_step, "poke": self._poke_step}
        self._tasks = [asyncio.create_task(self._forever(step), name=f"{name} {self.pod.name}") for name, step in steps.items()]

    def stop(self) -> list[asyncio.Task[None]]:
        """End; returns what is still ending."""
        for task in self._tasks:
            task.cancel()
        return self._tasks

    def aim(self, aim: Aim) -> None:
        """Prove something else from now on."""
        now = self._tools.clock()
        self._aim, self.finding = aim, None
        self._attempt = self._pokes = 0
        self._poke_at = self._next_poke(now) if aim.poke and aim.written else None
        self._ask_at = now + cadence.ask_pause(0, self._tools.behind()) if aim.written else now
        self._ask_wake.set()
        self._poke_wake.set()

    def update(self, pod: PodState) -> None:
        """Take note of how the pod is now."""
        turned_ready = pod.desired and not self.pod.desired
        moved = pod.ip != self.pod.ip
        if self.pod.desired and not pod.desired:
            self.finding = None
        self.pod = pod
        if turned_ready or moved:
            now = self._tools.clock()
            self.finding, self.since, self._ask_at = None, now, now
            self._attempt = self._pokes = 0
        self._ask_wake.set()
        self._poke_wake.set()

    # -- asking

    async def _ask_step(self) -> None:
        left = self._ask_at - self._tools.clock() if self.pod.desired else None
        if left is None or left > 0:
            await wait(self._ask_wake, left)
            return
        async with self._tools.asking:
            aim, pod, asked = self._aim, self.pod, self._tools.clock()
            if not pod.desired:
                return
            outcome = await self._tools.ask(pod, aim.port)
        self._learn(outcome, aim, pod, asked)

    def _learn(self, outcome: Outcome, aim: Aim, pod: PodState, asked: float) -> None:
        if not self.pod.desired or self.pod.ip != pod.ip:
            return
        target = self._aim.target
        finding = self._judge(outcome, target, asked)
        if self._aim is not aim and not finding.matches:
            return  # it was asked before the write; `aim` has set when it is asked next
        self.finding = finding
        now = finding.ended
        if finding.matches:
            self._attempt = self._pokes = 0
            self._poke_at = None
            self._ask_at = now + self._tools.random.uniform(*cadence.ASK_AGAIN_SECONDS)
        else:
            self._attempt += 1
            self._ask_at = now + cadence.ask_pause(self._attempt, self._tools.behind())
            self._plan_poke(finding, now)
        self._tools.found()

    def _judge(self, outcome: Outcome, target: Target, asked: float) -> Finding:
        now = self._tools.clock()
        match outcome:
            case Answered(answer):
                self.highest = highest_revisions(target, answer)
                text = difference(target, answer)
                paths = tuple(restart_required(answer))
                return Finding(text is None, False, text or "", asked, now, paths, ahead(target, answer))
            case Misanswered(text):
                return Finding(False, False, text, asked, now)
            case Silent(text):
                return Finding(False, True, text, asked, now)

    # -- poking

    def _plan_poke(self, finding: Finding, now: float) -> None:
        """Poke a pod that does not match, with growing pauses.

        One that is silent although nothing was written is left alone: a restart of this process writes nothing.
        """
        aim = self._aim
        if not aim.poke or self._poke_at is not None or (finding.silent and not aim.written):
            return
        if self._pokes == 0:
            self._poke_at = self._next_poke(now)
        else:
            pause = cadence.repoke_pause(self._pokes)
            self._poke_at = None if pause is None else self._poked_at + pause
        self._poke_wake.set()

    def _next_poke(self, now: float) -> float:
        """Return when a poke for a new target, or the first wrong answer, may be sent; one that is due sooner stays."""
        due = cadence.next_poke(now, self._poked_at, self._tools.pods())
        return due if self._poke_at is None else min(due, max(now, self._poke_at))

    async def _poke_step(self) -> None:
        left = self._poke_wait()
        if left is None or left > 0:
            await wait(self._poke_wake, left)
            return
        async with self._tools.poking:
            if self._poke_wait() is None:
                return  # it has answered while it waited for its turn
            aim, value = self._aim, self._value()
            self._poke_at, self._poked_at, self._poked = None, self._tools.clock(), value
            self._pokes += 1
            body = {"metadata": {"uid": self.pod.uid, "annotations": {CONFIG_REVISION_ANNOTATION: value}}}
            try:
                await self._tools.poke(self._tools.namespace, self.pod.name, body)
            except ClusterError as error:
                if error.status not in ANOTHER_POD:
                    self._tools.poke_failed(error)
                return
        if self._aim is aim and (self.finding is None or not self.finding.matches):
            self._attempt = 0
            self._ask_at = self._tools.clock() + cadence.ask_pause(0, self._tools.behind())
            self._ask_wake.set()

    def _poke_wait(self) -> float | None:
        """Return the seconds until the next poke, 0 or less when it is due, None if none is wanted or possible."""
        if self._poke_at is None or not self.pod.running or self.pod.terminating:
            return None
        return self._poke_at - self._tools.clock()

    def _value(self) -> str:
        """Return what the annotation is to say: the numbers, and an attempt that it does not say yet, or nothing happens."""
        numbers = f"{self._aim.target.revision}.{self._aim.target.credentials_revision}"
        said = [value.removeprefix(f"{numbers}.") for value in (self._poked, self.pod.poked) if value.startswith(f"{numbers}.")]
        attempts = [int(text) for text in said if text.isascii() and text.isdigit() and len(text) < 10]
        return f"{numbers}.{max(attempts, default=-1) + 1}"

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception:  # noqa: BLE001 - the edge of a loop: a fault with one pod must not end its proof
                logger.bind(namespace=self._tools.namespace, pod=self.pod.name).exception("Following a pod broke")
                await asyncio.sleep(RECOVER_SECONDS)
