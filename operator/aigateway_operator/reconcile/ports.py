"""What the reconciler needs from the outside. Adapters in `kube` fulfil these Protocols; so do the fakes of its unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.kube.resources import Resource
from aigateway_operator.plan.health import HealthOf, Probing
from aigateway_operator.plan.mirroring import MirrorTarget
from aigateway_operator.plan.proof import Proof, Target
from aigateway_operator.plan.secret_state import SecretState

if TYPE_CHECKING:
    from aigateway_logs import OperationRecord  # commands that need the words of this room do without a logger

JsonObject = dict[str, Any]


class Cluster(Protocol):
    """Reads and writes of the API server. All raise `errors.ClusterError` and return JSON objects."""

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        """Return one object; NotFound if it is not there."""
        ...

    async def create(self, resource: Resource, namespace: str, body: JsonObject) -> JsonObject:
        """Create; Conflict if it exists."""
        ...

    async def replace(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        """Replace whole; Conflict if `metadata.resourceVersion` is not the current one."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete that very object (uid and resourceVersion are preconditions)."""
        ...

    async def patch_status(self, resource: Resource, namespace: str, name: str, body: JsonObject) -> JsonObject:
        """Merge into `/status`; Conflict if `metadata.resourceVersion` is given and not the current one."""
        ...

    def list_pages(
        self, resource: Resource, namespace: str | None, *, metadata_only: bool = False
    ) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield a complete, consistent list page by page, each with the resourceVersion of the whole."""
        ...


class Secrets(Protocol):
    """State of referenced Secrets, per namespace that holds a GatewayConfig."""

    def watch(self, namespace: str) -> None:
        """Begin to follow a namespace; idempotent."""
        ...

    def unwatch(self, namespace: str) -> None:
        """Stop following a namespace and forget it."""
        ...

    def listed(self, namespace: str) -> bool:
        """Tell whether the namespace has been listed completely once."""
        ...

    async def ensure(self, namespace: str, references: Mapping[str, frozenset[str]], *, caller: str) -> None:
        """Make the state of the named Secrets and keys known as far as it may be read; `caller` needs these and no others."""
        ...

    def state(self, namespace: str, name: str) -> SecretState:
        """Return what is known of a Secret that was ensured."""
        ...

    def states(self, namespace: str, names: Iterable[str]) -> Mapping[str, SecretState]:
        """Return what is known of each of these: the very objects of before where nothing changed."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Owned(Protocol):
    """Which generated objects exist, by metadata alone."""

    def watch(self, namespace: str) -> None:
        """Begin to follow a namespace; idempotent."""
        ...

    def unwatch(self, namespace: str) -> None:
        """Stop following a namespace and forget it."""
        ...

    def listed(self, namespace: str) -> bool:
        """Tell whether the namespace has been listed completely once."""
        ...

    def names(self, namespace: str, resource: Resource) -> Mapping[str, str]:
        """Return name → resourceVersion of everything that carries our label."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Leadership(Protocol):
    """Whether this process may write."""

    @property
    def is_leader(self) -> bool:
        """True while the lease certainly holds."""
        ...


class Announcer(Protocol):
    """Where transitions are announced as Events; never fails and never waits."""

    def announce(self, resource: Resource, key: ObjectKey, uid: str, *, warning: bool, reason: str, note: str) -> None:
        """Announce one transition."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Rollouts(Protocol):
    """Pokes pods after a write and asks them what they run, until each says what was written."""

    def set_target(self, key: GatewayKey, target: Target, delivery: Delivery | None, *, written: bool) -> None:
        """Prove `target` from now on; called after every round. `written`: the round wrote something of it.

        `delivery` None: it cannot be read now, what was said last holds. Without a podSelector nothing is proved.
        """
        ...

    def forget(self, key: GatewayKey) -> None:
        """Prove nothing of a gateway any more."""
        ...

    def forget_all(self) -> None:
        """Prove nothing any more: another process leads."""
        ...

    def proof(self, key: GatewayKey) -> Proof | None:
        """Return what is known of a gateway's pods; None: nothing is asked, or nobody has answered yet."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Mirrors(Protocol):
    """Copies documents to Redis, beside what is written to the cluster. Nothing here waits or fails."""

    def set_target(self, key: GatewayKey, target: MirrorTarget) -> None:
        """Mirror this from now on; called after every round."""
        ...

    def drop(self, key: GatewayKey) -> None:
        """Mirror a gateway no more, and remove what is in Redis as well as it can be done."""
        ...

    def trouble(self, key: GatewayKey) -> str | None:
        """Return what is wrong with a mirror, as sentences; "" for nothing, None: not known (yet)."""
        ...

    def stand_by(self) -> None:
        """Write no more: another process leads. What is in Redis stays."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Prober(Protocol):
    """Checks datastores and backends, beside the rounds. Nothing here waits or fails."""

    def watch(self, key: GatewayKey, probing: Probing) -> None:
        """Probe exactly this for a gateway from now on; called after every plan."""
        ...

    def forget(self, key: GatewayKey) -> None:
        """Probe nothing more for a gateway."""
        ...

    def clear(self) -> None:
        """Probe nothing more for any gateway: another process leads."""
        ...

    def health(self, key: GatewayKey) -> HealthOf:
        """Return what is held to be true of a gateway's targets; one that is not judged yet is left out."""
        ...

    async def stop(self) -> None:
        """Stop for good and release what is held."""
        ...


class Recorder(Protocol):
    """Keeps records of what was done. `aigateway_logs.DualLog` fulfils it."""

    @property
    def keeps_operations(self) -> bool:
        """Whether records go anywhere now; False: to make one is in vain."""
        ...

    def operation_nowait(self, record: OperationRecord) -> None:
        """Keep a record without waiting; it is durable within 50 ms. Never raises."""
        ...
