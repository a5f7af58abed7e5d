"""Who is served under which public name: the competition among accepted models, and what is kept as last good.

A model asks for the name its spec says; if it cannot have that, or its spec is invalid, it asks for the name it is served under
as it was last valid. Of those that ask for a name the older has it (creationTimestamp, then name), so no model that exists ever
loses its place to a younger one. Deterministic: nothing depends on order of arrival.
Source: DESIGN section 4, "A served model stays served"; the procedure is deferred acceptance (Gale and Shapley, 1962).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from aigateway_operator.plan.assess import ModelAssessment
from aigateway_operator.plan.snapshot import Served, Snapshot, Stored
from aigateway_operator.rules import RuleContext, check_entry


@dataclass(frozen=True, slots=True)
class Claim:
    """One model's place in the documents. `kept`: the entry is the last good one, not what the object says now."""

    owner: str
    served: Served
    kept: bool

    @property
    def name(self) -> str:
        """Public name."""
        return self.served.entry.model_name


@dataclass(frozen=True, slots=True)
class Claims:
    """Outcome of the competition.

    winners: public name → claim. conflicts: object name of a valid model that did not get the name it asks for → object name
    of the one that has it. kept: object name → public name under which its last good entry is served.
    """

    winners: Mapping[str, Claim]
    conflicts: Mapping[str, str]
    kept: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settled:
    """How the competition of one round ended where nobody competed: every model had the name that it asked for.

    A cache: it never changes a result.
    """

    assessments: Mapping[str, ModelAssessment]
    claims: Claims


def settle_claims(snapshot: Snapshot, assessments: Mapping[str, ModelAssessment], settled: Settled | None = None) -> Claims:
    """Decide for every public name of one gateway which model is served under it. `settled`: how the last round ended."""
    claims = _settle_edits(snapshot, assessments, settled) if settled is not None else None
    return claims if claims is not None else _settle_all(snapshot, assessments)


def settled_claims(snapshot: Snapshot, assessments: Mapping[str, ModelAssessment], claims: Claims) -> Settled | None:
    """Return what the next round can start from; None where models compete, are invalid or are on their way elsewhere."""
    quiet = not (claims.conflicts or claims.kept or snapshot.departed) and len(claims.winners) == len(assessments)
    return Settled(assessments, claims) if quiet else None


def _settle_edits(snapshot: Snapshot, assessments: Mapping[str, ModelAssessment], settled: Settled) -> Claims | None:
    """Return the outcome where some models changed and none its name, its validity or its existence; None for any other case.

    The same assessment means the same object and generation (`Memo`), so that such a model asks for what it has.
    """
    if snapshot.departed or len(assessments) != len(settled.assessments):
        return None
    before = settled.assessments
    edited = [(name, found) for name, found in assessments.items() if before.get(name) is not found]
    winners = dict(settled.claims.winners)
    for name, assessment in edited:
        known = before.get(name)
        if known is None or assessment.entry is None or known.model_name != assessment.model_name:
            return None
        winners[assessment.model_name] = Claim(name, Served(assessment.entry, snapshot.models[name].source), kept=False)
    return Claims(winners, {}, {})


def _settle_all(snapshot: Snapshot, assessments: Mapping[str, ModelAssessment]) -> Claims:
    winners: dict[str, Claim] = {}
    everyone = {**snapshot.departed, **snapshot.models}
    waiting = list(everyone)
    while waiting:
        name = waiting.pop()
        for claim in _asks(name, everyone[name], assessments.get(name), snapshot):
            holder = winners.get(claim.name)
            if holder is None or (everyone[name].created, name) < (everyone[holder.owner].created, holder.owner):
                winners[claim.name] = claim
                if holder is not None:
                    waiting.append(holder.owner)
                break
    conflicts = {
        name: winners[assessment.model_name].owner
        for name, assessment in assessments.items()
        if assessment.entry is not None and winners[assessment.model_name].owner != name
    }
    kept = {claim.owner: model_name for model_name, claim in winners.items() if claim.kept}
    return Claims(winners, conflicts, kept)


def _asks(name: str, stored: Stored, assessment: ModelAssessment | None, snapshot: Snapshot) -> Iterator[Claim]:
    """Yield what a model asks for: its entry, then its last good one. `assessment` None: it names another gateway now.

    Asking again for what was lost once is in vain: whoever holds a name gives it up only to an older one.
    """
    if assessment is not None and assessment.entry is not None:
        yield Claim(name, Served(assessment.entry, stored.source), kept=False)
    before = snapshot.served.get(name)
    if before is not None and before.source == stored.source and still_allowed(before, snapshot.context):
        yield Claim(name, before, kept=True)


def still_allowed(before: Served, context: RuleContext) -> bool:
    """Tell whether the rules, which may have become stricter since, still hold for a last good entry."""
    return not check_entry(before.entry.model_name, orjson.loads(before.entry.text), context)
