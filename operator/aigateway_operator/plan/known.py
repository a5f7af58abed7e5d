"""What is known of the objects of one gateway: assessments, counts, needed Secrets, and what changed since somebody looked.

Takes each snapshot in and looks at nothing but what differs from the one before. A cache: it never changes a result. Called by
`memo`; `claims` and `news` take from here what they have to look at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aigateway_operator.plan.assess import GatewayAssessment, ModelAssessment, assess_gateway, assess_model
from aigateway_operator.plan.changes import changed_keys
from aigateway_operator.plan.needs import Credentials, Needs
from aigateway_operator.plan.probing import Backends
from aigateway_operator.plan.snapshot import Served, Snapshot, Stored
from aigateway_operator.render.settings import Settings
from aigateway_operator.rules import RuleContext


@dataclass(slots=True)
class Known:
    """The objects of the last snapshot. models, departed, served: as in `Snapshot`. probed: backends to probe, by model.

    valid: how many models break no rule; off: how many of them are switched off. unsettled: names that `claims` has to look
    at again; untold: names whose status has to be.
    """

    models: Mapping[str, Stored] = field(default_factory=dict)
    departed: Mapping[str, Stored] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    assessments: dict[str, ModelAssessment] = field(default_factory=dict)
    gateway: GatewayAssessment | None = None
    probed: dict[str, Backends] = field(default_factory=dict)
    valid: int = 0
    off: int = 0
    unsettled: set[str] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    _needs: Needs = field(default_factory=Needs)
    _settings: tuple[Settings | None, Settings | None] = (None, None)

    def take(self, snapshot: Snapshot) -> None:
        """Take a snapshot in."""
        self._take_models(snapshot.models, snapshot.context)
        self._take_departed(snapshot.departed)
        self._take_served(snapshot.served)
        accepted = self._take_gateway(snapshot.gateway, snapshot.context)
        for before, now in zip(self._settings, (snapshot.settings, accepted), strict=True):
            self._needs.swap(_credentials(before), _credentials(now))
        self._settings = snapshot.settings, accepted

    def referenced(self) -> Mapping[str, frozenset[str]]:
        """Return every Secret and the keys that accepted specs and the last good name."""
        return self._needs.keys()

    def stored(self, name: str) -> Stored | None:
        """Return a model that is here or on its way elsewhere."""
        return self.models.get(name) or self.departed.get(name)

    def _take_models(self, models: Mapping[str, Stored], context: RuleContext) -> None:
        if models is self.models:
            return
        before, self.models = self.models, models
        for name in changed_keys(before, models):
            stored = models.get(name)
            self.untold.add(name)
            if stored is None:
                self._swap(name, None)
                continue
            known = self.assessments.get(name)
            if known is None or (known.uid, known.generation) != (stored.uid, stored.generation):
                self._swap(name, assess_model(stored, context))

    def _swap(self, name: str, now: ModelAssessment | None) -> None:
        was = self.assessments.pop(name, None)
        for sign, one in ((-1, was), (1, now)):
            if one is not None and one.entry is not None:
                self.valid += sign
                self.off += sign * (not one.entry.use)
        self._needs.swap(_entry_credentials(was), _entry_credentials(now))
        self.probed.pop(name, None)
        if now is not None:
            self.assessments[name] = now
            if now.backends:
                self.probed[name] = now.backends
        self.unsettled.add(name)

    def _take_departed(self, departed: Mapping[str, Stored]) -> None:
        self.unsettled |= changed_keys(self.departed, departed)
        self.departed = departed

    def _take_served(self, served: Mapping[str, Served]) -> None:
        if served is self.served:
            return
        before = self.served
        changed = changed_keys(before, served)
        for name in changed:
            was, now = before.get(name), served.get(name)
            self._needs.swap(was.entry.credentials if was else None, now.entry.credentials if now else None)
        self.unsettled |= changed
        self.untold |= changed
        self.served = served

    def _take_gateway(self, stored: Stored | None, context: RuleContext) -> Settings | None:
        found = self.gateway
        if stored is None:
            self.gateway = None
        elif found is None or (found.uid, found.generation) != (stored.uid, stored.generation):
            self.gateway = assess_gateway(stored, context)
        return self.gateway.settings if self.gateway is not None else None


def _entry_credentials(assessment: ModelAssessment | None) -> Credentials | None:
    return assessment.entry.credentials if assessment is not None and assessment.entry is not None else None


def _credentials(settings: Settings | None) -> Credentials | None:
    return settings.credentials if settings is not None else None
