"""What asking pods needs from the outside: which pods there are, a way to poke one, a way to ask one.

The first two are fulfilled by `kube`, which this room does not know; the last by `rollout.asker`. Fakes of tests fulfil all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aigateway_operator.plan.proof import PodState
from aigateway_operator.rollout.answers import Outcome


class PodSet(Protocol):
    """The pods that one selector selects, kept up to date until `stop`."""

    @property
    def listed(self) -> bool:
        """Whether they have been listed completely once; before that nothing may be concluded from absence."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it is not known (any more) which pods there are, as a clause; None: it is, or an interruption is short."""
        ...

    @property
    def pods(self) -> Mapping[str, PodState]:
        """Pods by uid, as a view."""
        ...

    def stop(self) -> None:
        """Follow them no more."""
        ...


class Pods(Protocol):
    """Where pods are watched."""

    def follow(self, namespace: str, label_selector: str, on_change: Callable[[], None]) -> PodSet:
        """Follow the pods of a selector. `on_change`: they have been listed, one is another than before, or there is trouble.

        The end of trouble is not told.
        """
        ...


class Poke(Protocol):
    """Merge `metadata` into a pod through `pods/status`."""

    async def __call__(self, namespace: str, name: str, body: dict[str, Any]) -> object:
        """Raises errors.ClusterError."""
        ...


class Ask(Protocol):
    """One question to one pod."""

    async def __call__(self, pod: PodState, port: int) -> Outcome:
        """Return what came back, within its own time limit; raises nothing."""
        ...
