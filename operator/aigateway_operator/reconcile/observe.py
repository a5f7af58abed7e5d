"""Gather the snapshot of one gateway: what the store has, what is live, what Secrets say. The only reads of a round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.errors import Conflict, NotFound
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS, Resource
from aigateway_operator.plan import names
from aigateway_operator.plan.memo import referenced_secrets
from aigateway_operator.plan.secret_state import SecretState
from aigateway_operator.plan.snapshot import LiveObject, Snapshot, Stored
from aigateway_operator.reconcile.gateway_state import GatewayState
from aigateway_operator.reconcile.ports import Cluster, Mirrors, Owned, Prober, Rollouts, Secrets
from aigateway_operator.reconcile.store import Store
from aigateway_operator.rules import RuleContext

ATTEMPTS: Final = 3
"""How often inputs are gathered anew when objects changed meanwhile; later changes are left to the round they ask for."""
FETCHES: Final = 8
"""Generated objects that are read at the same time: a new leader has over a hundred to read before its first write."""


class Observer:
    """Makes snapshots. Reads only what changed: a generated object is fetched when its resourceVersion is not the known one."""

    def __init__(
        self,
        cluster: Cluster,
        secrets: Secrets,
        owned: Owned,
        rollouts: Rollouts,
        mirrors: Mirrors,
        prober: Prober,
        store: Store,
        context: RuleContext,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._secrets = secrets
        self._owned = owned
        self._rollouts = rollouts
        self._mirrors = mirrors
        self._prober = prober
        self._store = store
        self._context = context
        self._clock = clock

    def ready(self, key: GatewayKey) -> bool:
        """Tell whether every kind of input has been listed completely once; no round may run before."""
        if not self._store.listed:
            return False
        if self._store.gateway(key) is None:
            return True
        return self._secrets.listed(key.namespace) and self._owned.listed(key.namespace)

    async def snapshot(self, key: GatewayKey, states: Mapping[GatewayKey, GatewayState]) -> Snapshot:
        """Return everything a round of `key` needs. Raises errors.ClusterError: a read that failed concludes nothing."""
        state = states[key]
        references: Mapping[str, frozenset[str]] = {}
        for _ in range(ATTEMPTS):
            changes, gateway = self._store.changes, self._store.gateway(key)
            state.begin(gateway)
            if gateway is None:
                await self._let_go(key, state)
            else:
                if not state.recalled:
                    self.warm_up(key, states)
                await self._refresh(key, state, gateway)
                references = referenced_secrets(self._compose(key, states, gateway, {}), state.memo)
                state.references = references
                await self._secrets.ensure(key.namespace, references, caller=str(key))
            if self._store.changes == changes:
                break
        gateway = self._store.gateway(key)
        if (gateway.uid if gateway is not None else None) != state.lineage or (gateway is not None and not state.recalled):
            raise Conflict(f"GatewayConfig '{key}' or the leader became another one while inputs were read", status=409)
        if gateway is None:
            return self._compose(key, states, None, {})
        found = self._secrets.states(key.namespace, references)
        return self._compose(key, states, gateway, state.inputs.take_secrets(found))

    def warm_up(self, key: GatewayKey, states: Mapping[GatewayKey, GatewayState]) -> None:
        """Judge and render the objects of a gateway: a standby that has done so has little left to do when it leads.

        What is live is not looked at, so nothing can be written on the strength of this.
        """
        gateway, state = self._store.gateway(key), states[key]
        state.begin(gateway)
        referenced_secrets(self._compose(key, states, gateway, {}), state.memo)

    async def _let_go(self, key: GatewayKey, state: GatewayState) -> None:
        """Need no Secrets any more, where somebody else in the namespace still does."""
        if state.references and self._secrets.listed(key.namespace):
            await self._secrets.ensure(key.namespace, {}, caller=str(key))
        state.references = {}

    def _compose(
        self,
        key: GatewayKey,
        states: Mapping[GatewayKey, GatewayState],
        gateway: Stored | None,
        secrets: Mapping[str, SecretState],
    ) -> Snapshot:
        state = states[key]
        state.inputs.take_models(self._store.changes, lambda: self._store.models_now(key), state.served)
        models = state.inputs.models
        return Snapshot(
            key=key,
            gateway=gateway,
            models=models,
            context=self._context,
            departed=self._departed(key, states),
            served_elsewhere=self._served_elsewhere(key, models, states),
            served=state.served,
            settings=state.settings,
            config_maps=state.live[CONFIG_MAPS],
            secrets_live=state.live[SECRETS],
            secrets=secrets,
            unreferenced_since=state.unreferenced_since,
            proof=self._rollouts.proof(key),
            renumber_after_seconds=state.renumber_after_seconds(self._clock()),
            mirror_key=state.mirror_key,
            mirror_trouble=self._mirrors.trouble(key),
            health=self._prober.health(key),
        )

    async def _refresh(self, key: GatewayKey, state: GatewayState, gateway: Stored) -> None:
        """Bring what is known of the generated objects up to date; deletions were noted when they were reported."""
        stale: list[tuple[Resource, str]] = []
        for resource in (CONFIG_MAPS, SECRETS):
            present = self._owned.names(key.namespace, resource)
            known = state.live[resource]
            changed = {
                name
                for name, version in present.items()
                if _is_news(known.get(name), version) and names.belongs_to(name, gateway.name)
            }
            stale.extend((resource, name) for name in changed | state.foreign[resource])
        if stale:
            await self._fetch_all(key, state, gateway, stale)
        state.recalled = True

    async def _fetch_all(
        self, key: GatewayKey, state: GatewayState, gateway: Stored, stale: list[tuple[Resource, str]]
    ) -> None:
        """Read some objects, several at a time; the first read that fails ends the others."""
        places = iter(stale)

        async def fetch() -> None:
            for resource, name in places:
                await self._fetch(key, state, gateway, resource, name)

        fetches = [asyncio.create_task(fetch()) for _ in range(min(FETCHES, len(stale)))]
        try:
            await asyncio.gather(*fetches)
        finally:
            for task in fetches:
                task.cancel()

    async def _fetch(self, key: GatewayKey, state: GatewayState, gateway: Stored, resource: Resource, name: str) -> None:
        try:
            obj = await self._cluster.get(resource, key.namespace, name)
        except NotFound:
            state.forget(resource, name)
        else:
            state.learn(resource, obj, gateway)

    def _departed(self, key: GatewayKey, states: Mapping[GatewayKey, GatewayState]) -> dict[str, Stored]:
        """Return the models served here that name another gateway now and are not served there yet."""
        state = states[key]
        departed: dict[str, Stored] = {}
        state.departed = {}
        for name in state.inputs.strangers:
            stored = self._store.get(VIRTUAL_MODELS, ObjectKey(key.namespace, name))
            if stored is None or stored.source != state.served[name].source:
                continue
            elsewhere = states.get(GatewayKey(key.namespace, stored.gateway))
            there = elsewhere.served.get(name) if elsewhere is not None else None
            if there is None or there.source != stored.source:
                departed[name] = stored
            state.departed[name] = stored.gateway
        return departed

    @staticmethod
    def _served_elsewhere(
        key: GatewayKey, models: Mapping[str, Stored], states: Mapping[GatewayKey, GatewayState]
    ) -> frozenset[str]:
        """Return the models of this gateway that another one of the namespace still serves."""
        found: set[str] = set()
        for other, state in states.items():
            if other != key and other.namespace == key.namespace and state.departed:
                found |= {name for name in state.departed if name in models}
        return frozenset(found)


def _is_news(live: LiveObject | None, resource_version: str) -> bool:
    """Tell whether an object has been written since it was read. Most have not, and there are two for each shard."""
    return live is None or (live.resource_version != resource_version and int(live.resource_version) < int(resource_version))
