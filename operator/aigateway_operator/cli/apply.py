"""`aigateway apply FILE…`: VirtualModels and GatewayConfigs of files into the cluster, waiting until it takes them.

What the chart's Job runs: on a first install the kinds, the webhook and its certificate may be seconds away, and whoever
applies then is refused. All rules are checked first, and nothing is sent if one is broken. Of other kinds nothing is written,
Secrets included. With `--prune` models that an earlier apply of the same `--as NAME` brought, and files no longer name, are
deleted; gateways never are.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aigateway_operator.api import meta
from aigateway_operator.cli import flags
from aigateway_operator.cli.check import print_findings, violations_of
from aigateway_operator.cli.cluster import Cluster, chosen_namespace, with_cluster
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import ERROR, in_order
from aigateway_operator.cli.manifests import OURS, Manifest, read_manifests
from aigateway_operator.cli.output import print_data, say
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import ClusterError, Forbidden, NotFound, Rejected
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, JsonObject, Resource
from aigateway_operator.rules import RuleContext

APPLY_PATCH: Final = "application/apply-patch+yaml"
LONGEST_PAUSE_SECONDS: Final = 5.0
_RESOURCES: Final = {meta.GATEWAY_CONFIG: GATEWAY_CONFIGS, meta.VIRTUAL_MODEL: VIRTUAL_MODELS}
_DEFAULT_NAME: Final = "aigateway-apply"
_DENIED: Final = re.compile(r"""(admission webhook "[^"]+"|ValidatingAdmissionPolicy '[^']+' .{,300}) denied (the )?request""")
"""What an admission plugin says with a 403, which no role that arrives late changes. Source: k8s.io/apiserver."""


class Writable(Cluster, Protocol):
    """A cluster that is written to. All raise `errors.ClusterError`. `kube.client.KubeClient` fulfils it."""

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: JsonObject | list[JsonObject],
        *,
        content_type: str,
        field_manager: str | None = None,
        force: bool = False,
    ) -> JsonObject:
        """Patch an object, or make it."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete that very object."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object. `message`: why it failed, "" if it did not. `name`: "" for all that were to be pruned."""

    kind: str
    namespace: str
    name: str
    action: str
    message: str = ""
    unready: bool = False
    """It failed because the cluster was not ready for it, and not because it was refused."""

    def __str__(self) -> str:
        what = f"{self.kind}/{self.name}" if self.name else f"{self.kind}s"
        return f"{what} in namespace {self.namespace} {self.action}{self.message and ': '}{self.message}"


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("apply", help="apply models and gateways, waiting for the cluster", description=__doc__)
    flags.add_files(parser)
    parser.add_argument(
        "--as", dest="owner", default=_DEFAULT_NAME, metavar="NAME", help=f"field manager, and label; default: {_DEFAULT_NAME}"
    )
    parser.add_argument("--prune", action="store_true", help="delete models of the same NAME that the files no longer hold")
    parser.add_argument(
        "--timeout",
        type=flags.parse_duration,
        default=300.0,
        metavar="DURATION",
        help="how long to wait for kinds, webhook and rights; default: 5m",
    )
    flags.add_cluster(parser, all_namespaces=False)
    flags.add_rules(parser)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Check, apply and prune; 1 if a rule is broken or an object is refused, 3 if the cluster was not ready in time."""
    namespace = chosen_namespace(args) or "default"
    reading = read_manifests(args.files, namespace, recursive=args.recursive)
    context = RuleContext("", flags.allowed_addresses(args), flags.cluster_domain(args))
    findings = [*reading.findings, *(finding for _, finding in violations_of(reading.manifests, context))]
    errors = [finding for finding in findings if finding.severity == ERROR]
    if errors:
        print_findings(in_order(errors))
        say("Nothing was applied.", "red")
        return Exit.REFUSED
    ours = [manifest for kind in OURS for manifest in reading.of(kind)]  # gateways first: models refer to them

    async def work(cluster: Cluster) -> list[Outcome]:
        return await _Applying(cast("Writable", cluster), args.owner, args.timeout).all(ours, namespace, prune=args.prune)

    outcomes = with_cluster(args, work)
    if args.output:
        print_data([_as_data(outcome) for outcome in outcomes], args.output)
    else:
        for outcome in outcomes:
            print(outcome, flush=True)
    if any(outcome.unready for outcome in outcomes):
        return Exit.CLUSTER
    return Exit.REFUSED if any(outcome.message for outcome in outcomes) else Exit.FINE


class _Applying:
    """One run, with one deadline for everything."""

    def __init__(self, cluster: Writable, owner: str, timeout_seconds: float) -> None:
        self._cluster = cluster
        self._owner = owner
        self._timeout_seconds = timeout_seconds
        self._until = time.monotonic() + timeout_seconds
        self._said = ""

    async def all(self, manifests: Sequence[Manifest], namespace: str, *, prune: bool) -> list[Outcome]:
        """Apply in order, then prune if everything was taken: a model must not vanish because a file could not be applied.

        After the deadline nothing more is sent. Raises nothing: whatever happens, what was applied until then is told.
        """
        outcomes: list[Outcome] = []
        for manifest in manifests:
            if outcomes and outcomes[-1].unready:
                reason = "the cluster was not ready before"
                place = manifest.kind, manifest.namespace, manifest.name
                outcomes.append(Outcome(*place, "was not tried", reason, unready=True))
            else:
                outcomes.append(await self._apply(manifest))
        if prune and not any(outcome.message for outcome in outcomes):
            kept = {(one.namespace, one.name) for one in manifests if one.kind == meta.VIRTUAL_MODEL}
            outcomes += await self._prune(kept, namespace)
        return outcomes

    async def _apply(self, manifest: Manifest) -> Outcome:
        """Apply one object, again and again while the cluster is not ready for it, until the deadline."""
        metadata = {
            key: manifest.body["metadata"][key] for key in ("labels", "annotations") if manifest.body["metadata"].get(key)
        }
        metadata["labels"] = {**metadata.get("labels", {}), meta.APPLIED_BY_LABEL: self._owner}
        body: JsonObject = {
            "apiVersion": meta.API_VERSION,
            "kind": manifest.kind,
            "metadata": {"name": manifest.name, "namespace": manifest.namespace, **metadata},
            "spec": manifest.spec,
        }
        place = manifest.kind, manifest.namespace, manifest.name
        pause = 0.2
        while True:
            try:
                await self._cluster.patch(
                    _RESOURCES[manifest.kind],
                    manifest.namespace,
                    manifest.name,
                    body,
                    content_type=APPLY_PATCH,
                    field_manager=self._owner,
                    force=True,  # the files are what is wanted, as with `helm upgrade`
                )
            except ClusterError as error:
                if _is_final(error):
                    return Outcome(*place, "was refused", str(error))
                # 404: the kind is not there yet; 5xx: the webhook does not answer; 403: roles reach API servers late.
                self._say(f"waiting, for {self._timeout_seconds:g} s at most: {error}")
                if time.monotonic() + pause > self._until:
                    return Outcome(*place, "was not applied", _told(error), unready=True)
                await asyncio.sleep(pause)
                pause = min(pause * 1.6, LONGEST_PAUSE_SECONDS)
            else:
                return Outcome(*place, "applied")

    async def _prune(self, kept: set[tuple[str, str]], namespace: str) -> list[Outcome]:
        """Delete models of our label in `namespace` that are not `kept`."""
        selector = f"{meta.APPLIED_BY_LABEL}={self._owner}"
        try:
            found, _ = await self._cluster.list_all(VIRTUAL_MODELS, namespace, label_selector=selector)
        except ClusterError as error:
            return [Outcome(meta.VIRTUAL_MODEL, namespace, "", "were not pruned", _told(error), unready=True)]
        outcomes = []
        for model in found:
            metadata = model["metadata"]
            place = metadata["namespace"], metadata["name"]
            if place in kept or "deletionTimestamp" in metadata:
                continue
            try:
                await self._cluster.delete(VIRTUAL_MODELS, *place, uid=metadata["uid"])
            except NotFound:
                continue
            except ClusterError as error:
                outcomes.append(Outcome(meta.VIRTUAL_MODEL, *place, "was not deleted", str(error)))
            else:
                outcomes.append(Outcome(meta.VIRTUAL_MODEL, *place, "deleted"))
        return outcomes

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            say(text)


def _is_final(error: ClusterError) -> bool:
    """Tell whether asking again is useless: the object was judged, and not merely sent too early."""
    return isinstance(error, Rejected) or (isinstance(error, Forbidden) and _DENIED.search(str(error)) is not None)


def _told(error: ClusterError) -> str:
    """Return the error with what to do about it."""
    remedy = remedy_of(error)
    return f"{str(error).rstrip('.')}. {remedy}" if remedy else str(error)


def _as_data(outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": outcome.kind,
        "namespace": outcome.namespace,
        "name": outcome.name,
        "action": outcome.action,
        "message": outcome.message,
    }
