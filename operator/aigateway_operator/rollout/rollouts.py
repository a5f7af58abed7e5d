"""All gateways' rollouts: what the reconciler sees of this room. Fulfils `Rollouts` of `reconcile/ports.py`.

Nothing is asked or poked for a gateway before the reconciler has said what is to be proved, which it does after the writes and
only while it leads. Methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.plan.proof import Proof, Target
from aigateway_operator.rollout.ports import Ask, Pods, Poke
from aigateway_operator.rollout.selector import label_selector
from aigateway_operator.rollout.tracker import Outside, Tracker


class Rollouts:
    """Proves every gateway's target.

    on_change(key): what is known of a gateway is another than before. on_proven: seconds from a write to the last pod's
    answer. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        pods: Pods,
        poke: Poke,
        ask: Ask,
        *,
        on_change: Callable[[GatewayKey], None],
        clock: Callable[[], float],
        on_proven: Callable[[float], None],
        random: Random | None = None,
    ) -> None:
        chosen = random or Random()  # noqa: S311 - jitter, not a secret
        self._outside = Outside(pods, poke, ask, clock, chosen, on_change, on_proven)
        self._trackers: dict[GatewayKey, Tracker] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def set_target(self, key: GatewayKey, target: Target, delivery: Delivery | None, *, written: bool) -> None:
        """Prove `target`; called after every round, whatever it did.

        `delivery` None: it cannot be read now, so what was said last holds. `written`: the round has just written something of
        it, so that pods are poked at once; otherwise they are asked first.
        """
        tracker = self._trackers.get(key)
        if delivery is not None and (
            delivery.pod_selector is None or (tracker is not None and tracker.selector != label_selector(delivery.pod_selector))
        ):
            self.forget(key)
            tracker = None
        if tracker is not None:
            tracker.aim(target, delivery, written=written)
        elif delivery is not None and delivery.pod_selector is not None:
            self._trackers[key] = Tracker(key, target, delivery, written=written, outside=self._outside)

    def forget(self, key: GatewayKey) -> None:
        """Prove nothing of a gateway any more."""
        tracker = self._trackers.pop(key, None)
        for task in tracker.stop() if tracker is not None else ():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def forget_all(self) -> None:
        """Prove nothing any more: another process leads."""
        for key in list(self._trackers):
            self.forget(key)

    def proof(self, key: GatewayKey) -> Proof | None:
        """Return what is known of a gateway's pods; None: nothing is asked, or nobody has answered yet."""
        tracker = self._trackers.get(key)
        return None if tracker is None else tracker.proof

    async def stop(self) -> None:
        """Stop for good; returns when nothing is under way."""
        self.forget_all()
        await asyncio.gather(*self._ending, return_exceptions=True)
