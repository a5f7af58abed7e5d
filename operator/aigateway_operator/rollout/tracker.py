"""One gateway: follows its pods, sums up what they say, and decides when that is news.

News is what a status should say: that all pods match, that one is behind although time was given, or that what was true no
longer is. What lies between (three of five, four of five …) is not told, so that a revision costs two statuses, not one a pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from loguru import logger

from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.errors import ClusterError
from aigateway_operator.plan.proof import Phase, Proof, Target
from aigateway_operator.rollout import cadence
from aigateway_operator.rollout.answers import MAX_RESTART_REQUIRED
from aigateway_operator.rollout.follower import Aim, Finding, PodFollower, Tools
from aigateway_operator.rollout.ports import Ask, Pods, PodSet, Poke
from aigateway_operator.rollout.selector import label_selector
from aigateway_operator.waiting import wait

ASKING: Final = 32
"""Pods of one gateway that are asked at the same time."""
POKING: Final = 16
"""Pods of one gateway that are poked at the same time."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a tracker works with. on_news: the proof changed; on_proven: seconds from a write to the last pod's answer."""

    pods: Pods
    poke: Poke
    ask: Ask
    clock: Callable[[], float]
    random: Random
    on_news: Callable[[GatewayKey], None]
    on_proven: Callable[[float], None]


class Tracker:
    """Proves one gateway's targets until it is stopped."""

    def __init__(self, key: GatewayKey, target: Target, delivery: Delivery, *, written: bool, outside: Outside) -> None:
        assert delivery.pod_selector is not None  # noqa: S101 - without one there is nothing to track
        self.proof: Proof | None = None
        """What is known; None: nothing since this began."""
        self._key, self._outside = key, outside
        self.selector = label_selector(delivery.pod_selector)
        self._aim = Aim(target, delivery.status_port, delivery.poke, outside.clock(), written)
        self._incomplete_since: float | None = self._aim.since if written else None
        self._measured = not written
        self._duration: int | None = None
        self._poke_error = ""
        self._followers: dict[str, PodFollower] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._tools = Tools(
            namespace=key.namespace,
            ask=outside.ask,
            poke=outside.poke,
            asking=asyncio.Semaphore(ASKING),
            poking=asyncio.Semaphore(POKING),
            clock=outside.clock,
            random=outside.random,
            pods=self._followers.__len__,
            behind=self._behind,
            found=self._changed.set,
            poke_failed=self._tell_poke_failed,
        )
        self._pods: PodSet = outside.pods.follow(key.namespace, self.selector, self._changed.set)
        self._task = asyncio.create_task(self._run(), name=f"rollout {key}")

    def aim(self, target: Target, delivery: Delivery | None, *, written: bool) -> None:
        """Prove `target` from now on; nothing happens if all is as it was. `delivery` None: as before."""
        before = self._aim
        port, poke = (before.port, before.poke) if delivery is None else (delivery.status_port, delivery.poke)
        if (target, port, poke) == (before.target, before.port, before.poke):
            return
        same = target == before.target
        now = self._outside.clock()
        self._aim = Aim(target, port, poke, before.since if same else now, before.written if same else written)
        if not same:
            if self.proof is not None and self.proof.complete and target.housekeeping and self.proof.target == before.target:
                self.proof = replace(self.proof, stands_for=target)
            self._measured = not written or target.housekeeping
            self._incomplete_since = self._patient_since(target, now)
        for follower in self._followers.values():
            follower.aim(self._aim)
        self._changed.set()

    def _patient_since(self, target: Target, now: float) -> float:
        """Return from when on pods are given their time for a new target."""
        began = self._incomplete_since
        if not target.repeats or began is None:
            return now
        return max(began, now - cadence.patience(self._aim.poke) + cadence.PATIENCE_REPEATED_SECONDS)

    def stop(self) -> list[asyncio.Task[None]]:
        """Ask and poke no more; returns what is still ending."""
        self._pods.stop()
        self._task.cancel()
        ending = [task for follower in self._followers.values() for task in follower.stop()]
        return [self._task, *ending, *self._ending]

    async def _run(self) -> None:
        while True:
            left: float | None = None
            try:
                left = self._look()
            except Exception:  # noqa: BLE001 - the edge of a loop: a fault of ours must not end the proof
                logger.bind(namespace=self._key.namespace, gateway=self._key.name).exception("Summing up pods broke")
            await wait(self._changed, left)

    def _look(self) -> float | None:
        """Sum up and tell news; return the seconds until time alone may be news, None if never."""
        trouble = self._pods.trouble
        if not self._pods.listed and trouble is None:
            return None
        self._follow()
        now, draft = self._outside.clock(), replace(self._sum_up(), blind=trouble or "")
        if draft.complete:
            self._incomplete_since = None
        elif self._incomplete_since is None:
            self._incomplete_since = min((found.asked for found in self._wrong()), default=now)
        news = self._news(draft, now)
        if news != self.proof:
            self.proof = news
            self._outside.on_news(self._key)
        return self._look_again(now, blind=trouble is not None)

    def _look_again(self, now: float, *, blind: bool) -> float | None:
        """Return the seconds until time alone may be news, None if never."""
        deadlines = [now + cadence.BLIND_LOOK_SECONDS] if blind else []
        if self._incomplete_since is not None:
            deadlines += [self._incomplete_since + cadence.patience(self._aim.poke), *self._first_answers_due()]
        return min((due - now for due in deadlines if due > now), default=None)

    def _news(self, draft: Proof, now: float) -> Proof | None:
        """Return what is to be told now: `draft`, or what was told before."""
        before, target = self.proof, self._aim.target
        if draft.complete or draft.blind:
            return draft
        speaks = before is not None and before.speaks_of(target)
        began = self._incomplete_since if self._incomplete_since is not None else now
        over = now - began >= cadence.patience(self._aim.poke)
        waiting = any(due > now for due in self._first_answers_due())
        if draft.desired == 0 and not (speaks and before is not None and before.complete):
            return draft  # nobody to wait for
        if over and not (waiting and speaks):
            return draft
        progressing = replace(draft, phase=Phase.PROGRESSING)
        if draft.ahead and not (speaks and before is not None and before.ahead == draft.ahead):
            return progressing  # no waiting helps such a pod: the numbers have to move
        if before is None:
            # After a change of leader the status may still say that all is well: one pod that says otherwise ends that.
            return progressing if draft.stragglers and not self._aim.written else None
        if before.complete and before.target == target and draft.stragglers:
            return progressing
        return before

    def _follow(self) -> None:
        """Follow each pod that is there, and no other."""
        pods = {uid: pod for uid, pod in self._pods.pods.items() if pod.running}
        for uid in self._followers.keys() - pods.keys():
            for task in self._followers.pop(uid).stop():
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        for uid, pod in pods.items():
            follower = self._followers.get(uid)
            if follower is None:
                follower = self._followers[uid] = PodFollower(pod, self._aim, self._tools)
                follower.start()
            elif follower.pod is not pod:
                follower.update(pod)

    def _sum_up(self) -> Proof:
        """Return what pods say now, whether or not it is news."""
        desired = self._desired()
        wrong = {follower.pod.name: follower.finding for follower in desired if not _matches(follower)}
        silent = {name for name, finding in wrong.items() if finding is None or finding.silent}
        findings = [follower.finding for follower in desired if follower.finding is not None]
        complete = bool(desired) and not wrong
        if complete and not self._measured:
            self._measure(max(finding.ended for finding in findings))
        paths = {path for finding in findings for path in finding.restart_required}
        numbers = [follower.highest for follower in self._followers.values()]
        return Proof(
            target=self._aim.target,
            desired=len(desired),
            updated=len(desired) - len(wrong),
            unknown=len(silent),
            stragglers=tuple(sorted(wrong.keys() - silent)),
            unreachable=tuple(sorted(silent)),
            reasons={name: finding.text if finding is not None else "has not answered yet" for name, finding in wrong.items()},
            restart_required=tuple(sorted(paths)[:MAX_RESTART_REQUIRED]),
            last_duration_milliseconds=self._duration,
            highest_revision=max((revision for revision, _ in numbers), default=0),
            highest_credentials_revision=max((revision for _, revision in numbers), default=0),
            ahead=tuple(sorted({file for finding in findings for file in finding.ahead})),
            everyone=len(desired) == len(self._followers),
        )

    def _measure(self, ended: float) -> None:
        seconds = max(0.0, ended - self._aim.since)
        self._measured, self._duration = True, round(seconds * 1000)
        self._outside.on_proven(seconds)

    def _desired(self) -> list[PodFollower]:
        return [follower for follower in self._followers.values() if follower.pod.desired]

    def _wrong(self) -> list[Finding]:
        return [found for follower in self._desired() if (found := follower.finding) is not None and not found.matches]

    def _first_answers_due(self) -> list[float]:
        """Return by when pods that have not answered at all should have."""
        return [
            max(follower.since, self._aim.since) + cadence.FIRST_ANSWER_SECONDS
            for follower in self._desired()
            if follower.finding is None
        ]

    def _behind(self) -> int:
        return sum(not _matches(follower) for follower in self._followers.values())

    def _tell_poke_failed(self, error: ClusterError) -> None:
        """Log a kind of failure once until another one comes: two hundred pods fail the same way."""
        kind = type(error).__name__
        level = "DEBUG" if kind == self._poke_error else "WARNING"
        self._poke_error = kind
        logger.bind(namespace=self._key.namespace, gateway=self._key.name).log(
            level, "A pod was not poked, so that its volume may follow only in a minute: {}", error
        )


def _matches(follower: PodFollower) -> bool:
    return follower.finding is not None and follower.finding.matches
