"""`doctor` on the cluster: the API server, kinds, rights, and whether somebody leads. Reads, and asks what may be done."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from aigateway_operator.api import meta
from aigateway_operator.api.crd import KINDS, custom_resource_definition
from aigateway_operator.cli.checkup import Check, doubt, fine, wrong
from aigateway_operator.cli.cluster import Cluster
from aigateway_operator.cli.conditions import parse_time
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import ClusterError, Forbidden, NotFound
from aigateway_operator.kube.owner import WORKLOADS
from aigateway_operator.kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCES,
    EVENTS,
    GATEWAY_CONFIGS,
    LEASES,
    NAMESPACES,
    PODS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    VIRTUAL_MODELS,
    JsonObject,
    Resource,
)

OLDEST: Final = (1, 32)
_INSTALL: Final = "aigateway crds -o yaml | kubectl apply --server-side -f -"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "update", "delete")


class Patient(Cluster, Protocol):
    """A cluster that can be examined. All raise `errors.ClusterError`. `kube.client.KubeClient` fulfils it."""

    async def version(self) -> str:
        """Return the version of the API server."""
        ...

    async def can_i(
        self,
        verb: str,
        resource: Resource,
        namespace: str | None,
        *,
        subresource: str | None = None,
        name: str | None = None,
        account: tuple[str, str] | None = None,
    ) -> bool:
        """Tell whether we, or `account`, may do that."""
        ...

    async def try_create(self, resource: Resource, namespace: str, body: JsonObject) -> None:
        """Ask what would become of a create."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """Rights the operator cannot do without. where: "work" (each namespace it works in), "home" (its own) or "cluster"."""

    resource: Resource
    verbs: tuple[str, ...]
    where: str = "work"
    subresource: str | None = None
    named: str = ""
    """What names the one object this is about, a setting or a kind: no need where nothing names it. "": all objects."""
    only_with: str = ""
    """Setting without which there is no such need. "": there always is."""

    @property
    def subject(self) -> str:
        """How a row names it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)


NEEDS: Final = (
    Need(VIRTUAL_MODELS, ("list", "watch")),
    Need(GATEWAY_CONFIGS, ("list", "watch")),
    Need(VIRTUAL_MODELS, ("patch",), subresource="status"),
    Need(GATEWAY_CONFIGS, ("patch",), subresource="status"),
    Need(CONFIG_MAPS, (*_READ, *_WRITE)),
    Need(SECRETS, (*_READ, *_WRITE)),
    Need(PODS, ("list", "watch")),
    Need(PODS, ("patch",), subresource="status"),
    Need(EVENTS, ("create",)),
    Need(VALIDATING_WEBHOOKS, (*_READ, "patch"), where="cluster", named="webhook_configuration"),
    Need(LEASES, ("create",), where="home"),
    Need(LEASES, ("get", "update"), where="home", named="lease_name"),
    Need(NAMESPACES, ("list", "watch"), where="cluster", only_with="namespace_selector"),
    Need(WORKLOADS["Deployment"], ("get",), where="home", named="Deployment"),
    Need(WORKLOADS["StatefulSet"], ("get",), where="home", named="StatefulSet"),
)
"""hack/manifests/operator.yaml grants exactly these; a test compares them."""

ASK: Final = "Ask as somebody who may; nothing is written."
"""What to do about a row that these credentials do not suffice for."""
_ROLES: Final = "Apply the operator's roles again, see docs/operations.md#rights."


async def check_api(cluster: Patient) -> Check:
    """Return a row on the API server. Raises ClusterError if it cannot be reached: nothing else can be said then."""
    version = await cluster.version()
    found = re.match(r"v?(\d+)\.(\d+)", version)
    oldest = ".".join(map(str, OLDEST))
    if found and (int(found[1]), int(found[2])) < OLDEST:
        return wrong(
            "api", "version", f"Kubernetes {version} is older than {oldest}", f"Upgrade the cluster to {oldest} or newer."
        )
    return fine("api", "version", f"Kubernetes {version}")


async def check_kinds(cluster: Patient) -> AsyncIterator[Check]:
    """Yield a row for each of our kinds."""
    for kind in KINDS:
        name = f"{kind.plural}.{meta.GROUP}"
        try:
            found = await cluster.get(CUSTOM_RESOURCES, "", name)
        except NotFound:
            yield wrong("crds", name, "is not installed", f"Install it: {_INSTALL}")
        except Forbidden:
            yield doubt("crds", name, "cannot be looked at: no right to get CustomResourceDefinitions", ASK)
        else:
            yield _kind(name, found, custom_resource_definition(kind))


def _kind(name: str, found: JsonObject, ours: dict[str, Any]) -> Check:
    versions = {version["name"]: version for version in found["spec"]["versions"]}
    served = versions.get(meta.VERSION)
    if served is None or not served.get("served"):
        return wrong("crds", name, f"does not serve version {meta.VERSION}", f"Install this release's: {_INSTALL}")
    conditions = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
    established = conditions.get("Established", {})
    if established.get("status") != "True":
        return wrong(
            "crds", name, f"is not established: {established.get('message', 'not yet')}", "Wait, or see kubectl describe crd."
        )
    expected = next(version for version in ours["spec"]["versions"] if version["name"] == meta.VERSION)
    if served["schema"] != expected["schema"]:
        return wrong(
            "crds", name, "is of another release: its schema differs from this program's", f"Apply this one's: {_INSTALL}"
        )
    return fine("crds", name, f"{meta.VERSION}, of this release")


async def check_rights(
    cluster: Patient, namespaces: Sequence[str], home: str, named: dict[str, str], account: tuple[str, str] | None
) -> list[Check]:
    """Return a row for each need. `namespaces`: () for the whole cluster; `named`: what a `Need` speaks of → its name."""
    needs = [need for need in NEEDS if all(named.get(key) for key in (need.named, need.only_with) if key)]
    who = "this account" if account is None else f"ServiceAccount {account[0]}/{account[1]}"
    try:
        return list(await asyncio.gather(*(_need(cluster, need, namespaces, home, named, account, who) for need in needs)))
    except Forbidden as error:
        return [doubt("rights", who, f"cannot be asked about: {error}", "Ask as somebody who may create SubjectAccessReviews.")]


async def _need(
    cluster: Patient,
    need: Need,
    namespaces: Sequence[str],
    home: str,
    named: dict[str, str],
    account: tuple[str, str] | None,
    who: str,
) -> Check:
    places: Sequence[str | None] = {"work": namespaces or (None,), "home": (home,), "cluster": (None,)}[need.where]
    lacking = [
        (verb, place)
        for place in places
        for verb in need.verbs
        if not await cluster.can_i(
            verb, need.resource, place, subresource=need.subresource, name=named.get(need.named), account=account
        )
    ]
    if not lacking:
        return fine("rights", need.subject, f"{who} may {', '.join(need.verbs)}")
    verbs = ", ".join(dict.fromkeys(verb for verb, _ in lacking))
    where = ", ".join(dict.fromkeys(f"namespace {place}" if place else "the cluster" for _, place in lacking))
    return wrong(
        "rights",
        need.subject,
        f"{who} may not {verbs} in {where}",
        _ROLES if account else f"If the operator runs as this account: {_ROLES} If not, ask about its own with --account.",
    )


async def check_leader(cluster: Patient, namespace: str, name: str, now: datetime) -> Check:
    """Return a row on who leads."""
    subject, remedy = (
        f"Lease {namespace}/{name}",
        "Start the operator, and see its log; name its namespace with --operator-namespace.",
    )
    try:
        spec = (await cluster.get(LEASES, namespace, name)).get("spec") or {}
    except NotFound:
        return wrong("leader", subject, "does not exist: no operator has ever led here", remedy)
    except ClusterError as error:
        return doubt("leader", subject, f"cannot be looked at: {error}", remedy_of(error))
    holder, renewed = spec.get("holderIdentity"), parse_time(spec.get("renewTime"))
    if not holder or renewed is None:
        return wrong("leader", subject, "is held by nobody", remedy)
    limit = timedelta(seconds=3 * float(spec.get("leaseDurationSeconds") or 4))
    if now - renewed > limit:
        ago = int((now - renewed).total_seconds())
        return wrong("leader", subject, f"was last renewed {ago} s ago by {holder}: nobody leads", remedy)
    return fine("leader", subject, f"held by {holder}")
