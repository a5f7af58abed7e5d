"""What a plan says: objects to write, in order, statuses to set, what is then served, and when to look again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aigateway_operator.api.conditions import Verdict
from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.plan.health import Probing
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.proof import Target
from aigateway_operator.plan.snapshot import LiveObject, Served
from aigateway_operator.render.settings import Settings


@dataclass(frozen=True, slots=True)
class Write:
    """One ConfigMap or Secret to bring to the given content.

    `live` is what is there now (None: create it). `values` are all values but those of `keep`: credentials files whose values
    are to be carried over from the live Secret unread. `digests`: SHA-256 hex of values, of those of which it is known.
    """

    kind: str
    name: str
    live: LiveObject | None
    values: Mapping[str, bytes] = field(repr=False)
    keep: frozenset[str] = frozenset()
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """What the status of one object should say once the writes are done. `fields` stand beside `conditions`.

    urgent: somebody waits for it, so it is not held back although the last one was a moment ago.
    """

    kind: str
    name: str
    uid: str
    generation: int
    verdicts: tuple[Verdict, ...]
    fields: Mapping[str, Any]
    urgent: bool = False


@dataclass(frozen=True)
class Plan:
    """The whole answer for one gateway.

    writes: in order; a later one must not be done before an earlier one has succeeded. served / settings: what is live after
    them, the last good of the next round.
    revision / credentials_revision: of the gateway after the writes; None without documents. refused: object names
    that are taken by somebody else. wake_after_seconds: when something is due without any event; None if nothing is.
    target: what pods are to prove after the writes; None without documents. delivery: how; None if that cannot be read.
    mirror: what the Redis mirror should hold after the writes; None: there is none.
    renumbered: something got a new number for no other reason than that a pod claims a higher one.
    probing: datastores and backends to probe; None: that cannot be read, so it stays as it is.
    """

    writes: tuple[Write, ...] = ()
    served: Mapping[str, Served] = field(default_factory=dict)
    settings: Settings | None = None
    revision: int | None = None
    credentials_revision: int | None = None
    unreferenced_since: Mapping[tuple[str, str], float] = field(default_factory=dict)
    wake_after_seconds: float | None = None
    target: Target | None = None
    mirror: MirrorTarget | None = None
    delivery: Delivery | None = None
    renumbered: bool = False
    probing: Probing | None = None
    make_statuses: Callable[[], Iterator[StatusWrite]] = field(default=lambda: iter(()), repr=False, compare=False)

    @cached_property
    def statuses(self) -> tuple[StatusWrite, ...]:
        """Statuses that may differ from what plans with the same memo said before, GatewayConfig last; all with a fresh memo.

        Made when they are first asked for, so that writes need not wait for them, and from then on taken for said. Raises
        RuntimeError when another plan has been made with the memo meanwhile.
        """
        return tuple(self.make_statuses())
