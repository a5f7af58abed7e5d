"""What the reconciler remembers of one gateway between rounds: what is live, what is served, and the planner's memo.

Everything here can be rebuilt from the cluster, and is after a restart, a change of leader or a new lineage.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aigateway_config import documents
from aigateway_config.mirror import is_key
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, Resource
from aigateway_operator.plan.changes import Renewed, changed_keys
from aigateway_operator.plan.memo import Memo
from aigateway_operator.plan.names import credentials_name
from aigateway_operator.plan.readback import read_live, read_served, values_of
from aigateway_operator.plan.result import Plan, StatusWrite, Write
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import LiveObject, Served, Stored
from aigateway_operator.reconcile.ports import JsonObject
from aigateway_operator.render.settings import Settings

RENUMBER_SECONDS: Final = 60.0
MAX_RENUMBER_SECONDS: Final = 3600.0
"""Least pause between two times that numbers move for a pod's sake: the first, and the longest. Honest pods need one."""


def make_mirror_key() -> bytes:
    """Return a new key for signing the Redis mirror: 32 random bytes in hex."""
    return secrets.token_hex(32).encode()


@dataclass(slots=True)
class Inputs:
    """What a snapshot was composed from. models: of the store when it had seen `changes`. strangers: served and not among them.

    secrets: states by name of all that were referenced.
    """

    changes: int = -1
    models: Mapping[str, Stored] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    secrets: Mapping[str, SecretState] = field(default_factory=dict)

    def take_models(self, changes: int, models: Callable[[], Mapping[str, Stored]], served: Mapping[str, Served]) -> None:
        """Take what the store has, if it has seen other changes since."""
        changed = changed_keys(self.served, served)
        self.served = served
        if changes != self.changes:
            before, self.models = self.models, models()
            self.changes = changes
            changed |= changed_keys(before, self.models)
        if changed:
            kept = [name for name in self.strangers if name not in changed]
            self.strangers = (*kept, *sorted(name for name in changed if name in served and name not in self.models))

    def take_secrets(self, secrets: Mapping[str, SecretState]) -> Mapping[str, SecretState]:
        """Return these states, as the very mapping of before where they are the same."""
        if secrets is not self.secrets and secrets != self.secrets:
            self.secrets = secrets
        return self.secrets


@dataclass(slots=True)
class GatewayState:
    """Memory of one gateway. `lineage`: uid of the GatewayConfig all this belongs to, None before the first round.

    live: by name, in mappings that are never changed, since snapshots hold them. recalled: the last good has been read back
    from the live documents. foreign: names that exist without our label and are looked at again in every round. departed:
    models served here that name another gateway now, and which. told: what those gateways were last told of it. references:
    the Secrets that the last round looked at, by name. mirror_key: what signs the Redis mirror: the key in the live Secret, or
    one that goes there when it is needed and none is. renumberings: how often in a row documents got new numbers for the sake
    of pods that claimed higher ones, the last time at renumbered_at. status: what the last round said of the GatewayConfig,
    None if there is none. inputs: what the last snapshot was composed from, so that what has not changed is the very object of
    before.
    """

    lineage: str | None = None
    memo: Memo = field(default_factory=Memo)
    live: dict[Resource, Mapping[str, LiveObject]] = field(default_factory=lambda: {CONFIG_MAPS: {}, SECRETS: {}})
    foreign: dict[Resource, set[str]] = field(default_factory=lambda: {CONFIG_MAPS: set(), SECRETS: set()})
    recalled: bool = False
    served: Mapping[str, Served] = field(default_factory=dict)
    settings: Settings | None = None
    unreferenced_since: Mapping[tuple[str, str], float] = field(default_factory=dict)
    departed: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    references: Mapping[str, frozenset[str]] = field(default_factory=dict)
    mirror_key: bytes = field(default_factory=make_mirror_key, repr=False)
    renumberings: int = 0
    renumbered_at: float = 0.0
    status: StatusWrite | None = None
    inputs: Inputs = field(default_factory=Inputs)

    def begin(self, gateway: Stored | None) -> None:
        """Start anew when the GatewayConfig is another one than last time, or gone."""
        lineage = gateway.uid if gateway is not None else None
        if lineage != self.lineage:
            self.forget_cluster()
            self.lineage = lineage
            self.mirror_key = make_mirror_key()
            self.renumberings = 0

    def forget_cluster(self) -> None:
        """Forget what is live and served, so that it is read again; what was computed from objects alone stays."""
        self.live = {CONFIG_MAPS: {}, SECRETS: {}}
        for names in self.foreign.values():
            names.clear()
        self.recalled = False
        self.served, self.settings, self.unreferenced_since, self.departed = {}, None, {}, {}
        self.memo.forget_told()

    def learn(self, resource: Resource, obj: JsonObject, gateway: Stored, written: Write | None = None) -> LiveObject:
        """Take note of a generated object as the API server has it now, and of the last good in it if that is not known yet.

        `written`: the write that it is the answer to, so the plan says what is served by it.
        """
        live = read_live(obj, gateway.name, gateway.uid, written)
        first = not self.recalled or live.name not in self.live[resource]
        self.live[resource] = {**self.live[resource], live.name: live.without_sources()}
        (self.foreign[resource].discard if live.ours else self.foreign[resource].add)(live.name)
        if resource == CONFIG_MAPS and first and written is None:
            served, settings = read_served(obj, live, self.memo.known)
            self.served = Renewed(self.served, served)
            self.settings = settings or self.settings
        if resource == SECRETS and live.ours and live.name == credentials_name(gateway.name, None):
            key = values_of(obj).get(documents.MIRROR_KEY, b"")
            self.mirror_key = key if is_key(key) else self.mirror_key
        return live

    def doubt(self, resource: Resource, name: str) -> None:
        """Forget one object whose write may or may not have landed: what is served is read back from it."""
        self.forget(resource, name)
        self.recalled = False

    def forget(self, resource: Resource, name: str) -> None:
        """Take note that a generated object is gone."""
        if name in self.live[resource]:
            self.live[resource] = {known: live for known, live in self.live[resource].items() if known != name}
        self.foreign[resource].discard(name)

    def renumber_after_seconds(self, now: float) -> float:
        """Return when documents may get new numbers for a pod's sake again: the pause doubles each time, from a minute on."""
        if self.renumberings == 0:
            return 0.0
        pause = min(MAX_RENUMBER_SECONDS, RENUMBER_SECONDS * 2.0 ** min(self.renumberings - 1, 16))
        return max(0.0, self.renumbered_at + pause - now)

    def adopt(self, plan: Plan, now: float) -> None:
        """Make what a plan brought about the last good of the next round. `now`: the clock of the plan."""
        if plan.renumbered:
            in_a_row = now - self.renumbered_at < 2 * MAX_RENUMBER_SECONDS
            self.renumberings, self.renumbered_at = (self.renumberings if in_a_row else 0) + 1, now
        self.served, self.settings = plan.served, plan.settings
        self.departed = {name: gateway for name, gateway in self.departed.items() if name in plan.served}
        self.unreferenced_since = plan.unreferenced_since
