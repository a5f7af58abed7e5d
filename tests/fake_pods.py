"""Pods in memory: what a selector selects, pokes that reach a kubelet, and answers of pods that may misbehave.

Stands in for `Pods`, `Poke` and `Ask` of `rollout/ports.py`; `tests/contract/test_rollout_ports.py` holds it to the real ones.
Selectors are not read: every pod of the namespace is selected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from aigateway_config.documents import DocumentState, StatusAnswer
from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from aigateway_operator.errors import ClusterError, NotFound, Rejected
from aigateway_operator.plan.proof import PodState, Target
from aigateway_operator.rollout.answers import Answered, Outcome, Silent
from tests.virtual_time import now


def pod_state(name: str = "gateway-1", **parts: Any) -> PodState:
    """Return a ready pod."""
    state = PodState(name, f"uid-{name}", "10.0.0.1", running=True, ready=True, terminating=False, host_network=False)
    return replace(state, **parts)


def answer_of(target: Target | None, **parts: Any) -> StatusAnswer:
    """Return what a pod says that runs `target`; None: nothing yet."""
    said = StatusAnswer(
        lineage=target.lineage if target else None,
        documents={
            file: DocumentState(revision=revision, digest=digest)
            for file, (revision, digest) in (target.documents.items() if target else ())
        },
        credentials=dict(target.credentials) if target else {},
        credentials_revision=target.credentials_revision if target else None,
        loaded_at=None,
        restart_required=[],
        error=None,
    )
    return said.model_copy(update=parts)


@dataclass(slots=True)
class Poked:
    """One poke that arrived: which pod, what the annotation said, when."""

    pod: str
    value: str
    at: float


@dataclass
class FakePods:
    """A namespace of pods. `mounted`: what the API server has, which a poked pod runs `sync_seconds` later."""

    sync_seconds: float = 0.1
    mounted: Target | None = None
    states: dict[str, PodState] = field(default_factory=dict)
    runs: dict[str, Target | None] = field(default_factory=dict)
    """Pod name → what it runs."""
    frozen: set[str] = field(default_factory=set)
    """Pods that take up nothing."""
    outcomes: dict[str, Outcome | float] = field(default_factory=dict)
    """Pod name → what it answers whatever it runs; a number: it is silent after so many seconds."""
    pokes: list[Poked] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)
    proven: list[float] = field(default_factory=list)
    refuse_pokes: ClusterError | None = None
    answer_seconds: float = 0.002
    """How long an answer takes; it says what the pod ran when it was asked."""
    asking: int = 0
    most_asking: int = 0
    following: int = 0
    selectors: list[str] = field(default_factory=list)
    listed: bool = True
    trouble: str | None = None
    _receivers: list[Callable[[], None]] = field(default_factory=list)

    # -- what a test does

    def put(self, name: str, runs: Target | None = None, **parts: Any) -> None:
        """Create or change a pod."""
        known = self.states.get(name)
        self.states[name] = replace(known, **parts) if known else pod_state(name, **parts)
        if known is None:
            self.runs[name] = runs
        self.tell()

    def remove(self, name: str) -> None:
        """Delete a pod."""
        del self.states[name]
        self.tell()

    def tell(self) -> None:
        """Let the watch deliver."""
        for receiver in list(self._receivers):
            receiver()

    def poked(self, name: str) -> list[str]:
        """Return the values with which a pod was poked."""
        return [poke.value for poke in self.pokes if poke.pod == name]

    # -- Pods

    def follow(self, namespace: str, label_selector: str, on_change: Callable[[], None]) -> FakePodSet:
        self.following += 1
        self.selectors.append(label_selector)
        self._receivers.append(on_change)
        asyncio.get_running_loop().call_soon(on_change)
        return FakePodSet(self, on_change)

    def _leave(self, receiver: Callable[[], None]) -> None:
        if receiver in self._receivers:
            self._receivers.remove(receiver)
            self.following -= 1

    # -- Poke

    async def poke(self, namespace: str, name: str, body: dict[str, Any]) -> object:
        await asyncio.sleep(0.003)
        if self.refuse_pokes is not None:
            raise self.refuse_pokes
        if name not in self.states:
            raise NotFound(f"no pod {name}", status=404)
        if body["metadata"]["uid"] != self.states[name].uid:
            raise Rejected("metadata.uid: field is immutable", status=422)
        value = body["metadata"]["annotations"][CONFIG_REVISION_ANNOTATION]
        self.pokes.append(Poked(name, value, now()))
        if value != self.states[name].poked:
            self.states[name] = replace(self.states[name], poked=value)
            asyncio.get_running_loop().call_later(self.sync_seconds, self._sync, name)
        return {}

    def _sync(self, name: str) -> None:
        if name not in self.frozen:
            self.runs[name] = self.mounted

    # -- Ask

    async def ask(self, pod: PodState, port: int) -> Outcome:
        self.asked.append((pod.name, now()))
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            outcome, runs = self.outcomes.get(pod.name), self.runs[pod.name]
            await asyncio.sleep(self.answer_seconds)
            if isinstance(outcome, float):
                await asyncio.sleep(outcome)
                return Silent("gives no answer")
            return outcome if outcome is not None else Answered(answer_of(runs))
        finally:
            self.asking -= 1


@dataclass(frozen=True)
class FakePodSet:
    """The pods of a `FakePods`."""

    fleet: FakePods
    receiver: Callable[[], None]

    @property
    def listed(self) -> bool:
        return self.fleet.listed

    @property
    def trouble(self) -> str | None:
        return self.fleet.trouble

    @property
    def pods(self) -> Mapping[str, PodState]:
        return MappingProxyType({state.uid: state for state in self.fleet.states.values()})

    def stop(self) -> None:
        self.fleet._leave(self.receiver)
