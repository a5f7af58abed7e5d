"""What one gateway's rounds remember, so that a round costs what changed and not what exists. It never changes a result.

Each part remembers what it was made from, and looks again at what is another object since. A memo that broke half-way through a
plan is thrown away (`reconcile.controller`); a fresh one gives the same plans, only later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aigateway_operator.plan.claims import Claims
from aigateway_operator.plan.known import Known
from aigateway_operator.plan.news import Told
from aigateway_operator.plan.serving import Serving
from aigateway_operator.plan.snapshot import Snapshot
from aigateway_operator.plan.units import Composer
from aigateway_operator.plan.writing import Ledger
from aigateway_operator.rules import RuleContext


@dataclass(slots=True)
class Memo:
    """known: the objects. claims: who is served under which name. composer: documents. ledger: what agrees with what is live.

    serving: what pods have. told: what statuses were said, and of what. plans: how many there were.
    """

    known: Known = field(default_factory=Known)
    claims: Claims = field(default_factory=Claims)
    composer: Composer = field(default_factory=Composer)
    ledger: Ledger = field(default_factory=Ledger)
    serving: Serving = field(default_factory=Serving)
    told: Told = field(default_factory=Told)
    plans: int = 0
    _context: RuleContext | None = None

    def take(self, snapshot: Snapshot) -> None:
        """Take a snapshot in. Under other rules nothing that is remembered holds."""
        if self._context != snapshot.context:
            self.known, self.claims, self.composer, self.told = Known(), Claims(), Composer(), Told()
            self.ledger, self.serving = Ledger(), Serving()
            self._context = snapshot.context
        self.known.take(snapshot)

    def forget_told(self) -> None:
        """Say every status again in the next plan: what was said may not have been written."""
        self.told = Told()


def referenced_secrets(snapshot: Snapshot, memo: Memo) -> Mapping[str, frozenset[str]]:
    """Return every Secret and the keys that this gateway's round needs to know: of accepted specs and of the last good.

    The very mapping of before where nothing names anything else.
    """
    memo.take(snapshot)
    return memo.known.referenced()
