"""Who is served under which public name: the competition among accepted models, and what is kept as last good.

A model asks for the name its spec says; if it cannot have that, or its spec is invalid, it asks for the name it is served under
as it was last valid. Of those that ask for a name the older has it (creationTimestamp, then name), so no model that exists ever
loses its place to a younger one. Deterministic: nothing depends on order of arrival.

Only models that changed are settled anew, with all that ask for a name that one of them asks for or has, and so on: whoever is
left out of such a group asks for nothing that is at stake in it, so the outcome is that of settling everybody.
Source: docs/concepts.md#the-last-good-version, #one-name-one-model; it is deferred acceptance (Gale and Shapley, 1962).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from aigateway_operator.plan.known import Known
from aigateway_operator.plan.snapshot import Served
from aigateway_operator.render.entries import Entry
from aigateway_operator.rules import RuleContext, check_entry


@dataclass(frozen=True, slots=True)
class Claim:
    """One model's place in the documents. `kept`: the entry is the last good one, not what the object says now.

    entry, source: as in `Served`, which says besides since when pods have it.
    """

    owner: str
    entry: Entry
    source: str
    kept: bool

    @property
    def name(self) -> str:
        """Public name."""
        return self.entry.model_name


@dataclass(slots=True)
class Claims:
    """Outcome of the competition, kept true from round to round.

    winners: public name → claim. places: object name → the claim it won. conflicts: object name of a valid model that did not
    get the name it asks for → object name of the one that has it. kept: object name → public name under which its last good
    entry is served. moved: public names whose claim is another one since somebody emptied this.
    """

    winners: dict[str, Claim] = field(default_factory=dict)
    places: dict[str, Claim] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    _asked: dict[str, frozenset[str]] = field(default_factory=dict)
    """What a model asked for; only of those that asked for anything but the one name that they won."""
    _askers: dict[str, set[str]] = field(default_factory=dict)
    """The same by public name."""

    def settle(self, known: Known, context: RuleContext) -> None:
        """Decide for every public name of one gateway which model is served under it."""
        group = self._group(known)
        known.unsettled.clear()
        if not group:
            return
        before = {owner: self.places.pop(owner) for owner in group if owner in self.places}
        for owner, claim in before.items():
            del self.winners[claim.name]
            self.kept.pop(owner, None)
        self._compete(known, context, group, before)
        for owner in group:
            self._note(owner, group[owner], known, before.get(owner))

    def _group(self, known: Known) -> dict[str, frozenset[str]]:
        """Return all that have to be settled anew, with the names they ask for."""
        group: dict[str, frozenset[str]] = {}
        names: set[str] = set()
        todo = list(known.unsettled)
        while todo:
            owner = todo.pop()
            if owner in group:
                continue
            asks = group[owner] = _names_asked(owner, known)
            place = self.places.get(owner)
            for name in asks | ({place.name} if place is not None else set()):
                if name not in names:
                    names.add(name)
                    todo.extend(self._askers.get(name, ()))
                    todo.extend([self.winners[name].owner] if name in self.winners else [])
        return group

    def _compete(self, known: Known, context: RuleContext, group: dict[str, frozenset[str]], before: dict[str, Claim]) -> None:
        waiting = [owner for owner, names in group.items() if names]
        while waiting:
            owner = waiting.pop()
            for claim in _asks(owner, known, context, before.get(owner)):
                holder = self.winners.get(claim.name)
                if holder is None or _age(owner, known) < _age(holder.owner, known):
                    self.winners[claim.name] = self.places[owner] = claim
                    if holder is not None:
                        del self.places[holder.owner]
                        waiting.append(holder.owner)
                    break

    def _note(self, owner: str, asked: frozenset[str], known: Known, before: Claim | None) -> None:
        """Note what became of one model of the group."""
        for name in self._asked.pop(owner, ()):
            self._askers[name].discard(owner)
            if not self._askers[name]:
                del self._askers[name]
        place = self.places.get(owner)
        if asked and (place is None or asked != {place.name}):
            self._asked[owner] = asked
            for name in asked:
                self._askers.setdefault(name, set()).add(owner)
        if place is not before:
            self.moved.update(claim.name for claim in (before, place) if claim is not None)
        if place is not None and place.kept:
            self.kept[owner] = place.name
        assessment = known.assessments.get(owner)
        winner = self.winners[assessment.model_name].owner if assessment is not None and assessment.entry is not None else owner
        if winner != owner:
            self.conflicts[owner] = winner
        else:
            self.conflicts.pop(owner, None)


def _age(owner: str, known: Known) -> tuple[str, str]:
    stored = known.stored(owner)
    return (stored.created if stored is not None else "", owner)


def _names_asked(owner: str, known: Known) -> frozenset[str]:
    """Return the names a model asks for, if need be."""
    stored, assessment, before = known.stored(owner), known.assessments.get(owner), known.served.get(owner)
    names = [assessment.model_name] if assessment is not None and assessment.entry is not None else []
    if stored is not None and before is not None and before.source == stored.source:
        names.append(before.entry.model_name)
    return frozenset(names)


def _asks(owner: str, known: Known, context: RuleContext, place: Claim | None) -> Iterator[Claim]:
    """Yield what a model asks for: its entry, then its last good one. No assessment: it names another gateway now.

    Asking again for what was lost once is in vain: whoever holds a name gives it up only to an older one. `place`: what it had
    before; the very claim is used again where it is the same, so that what was made from it is known to be.
    """
    stored, assessment, before = known.stored(owner), known.assessments.get(owner), known.served.get(owner)
    if stored is not None and assessment is not None and assessment.entry is not None:
        yield _same_or(place, Claim(owner, assessment.entry, stored.source, kept=False))
    if stored is not None and before is not None and before.source == stored.source and still_allowed(before, context):
        yield _same_or(place, Claim(owner, before.entry, before.source, kept=True))


def _same_or(place: Claim | None, claim: Claim) -> Claim:
    return place if place == claim and place is not None else claim


def still_allowed(before: Served, context: RuleContext) -> bool:
    """Tell whether the rules, which may have become stricter since, still hold for a last good entry."""
    return not check_entry(before.entry.model_name, orjson.loads(before.entry.text), context)
