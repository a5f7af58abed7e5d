"""`aigateway mount GATEWAY`: what to add to a Deployment so that its pods read a gateway's documents, to paste or to pipe.

Prints a patch of the pod template (volumes, mounts, port, labels) and a NetworkPolicy for the status port. Takes the gateway
from the cluster, where reading that one object is all the right it needs, or from manifests. Changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from aigateway_operator.api import meta
from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli import flags
from aigateway_operator.cli.cluster import Cluster, chosen_namespace, list_ours, with_cluster
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import ERROR
from aigateway_operator.cli.manifests import read_manifests
from aigateway_operator.cli.mounting import deployment_patch, network_policy
from aigateway_operator.cli.output import as_yaml, print_data, say
from aigateway_operator.errors import NotFound, SpecError
from aigateway_operator.kube.resources import GATEWAY_CONFIGS

OPERATOR_NAMESPACE: Final = "aigateway-system"
_NO_SELECTOR: Final = (
    "spec.delivery.podSelector is not set: the operator cannot prove what pods run, and no NetworkPolicy can be made. "
    "Set it to labels of your pods."
)
_EXPRESSIONS: Final = "spec.delivery.podSelector has matchExpressions: see to it yourself that the pods' labels meet them."


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "mount", help="print volumes, port and NetworkPolicy for the pods of a gateway", description=__doc__
    )
    parser.add_argument("gateway", type=flags.parse_gateway, metavar="GATEWAY", help="name of the GatewayConfig")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="FILE",
        help="take the GatewayConfig from a manifest, a folder or - instead of the cluster; repeatable",
    )
    parser.add_argument("--container", default="gateway", metavar="NAME", help="container to patch; default: gateway")
    parser.add_argument(
        "--operator-namespace",
        default=OPERATOR_NAMESPACE,
        metavar="NAME",
        help=f"where the operator runs, for the NetworkPolicy; default: {OPERATOR_NAMESPACE}",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--patch", action="store_true", help="only the patch, for kubectl patch deployment NAME --patch-file")
    part.add_argument("--network-policy", action="store_true", help="only the NetworkPolicy, for kubectl apply -f -")
    flags.add_cluster(parser, all_namespaces=False)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is asked for; 1 if there is no such gateway, or a NetworkPolicy is asked for that cannot be made."""
    key, spec = _from_files(args) if args.filename else with_cluster(args, lambda cluster: _from_cluster(cluster, args))
    delivery = parse_delivery(key, spec)
    selector = delivery.pod_selector
    patch = deployment_patch(
        key.name,
        shards=delivery.shards,
        status_port=delivery.status_port,
        labels={} if selector is None else selector.match_labels,
        container=args.container,
    )
    policy = network_policy(key, delivery, args.operator_namespace)
    notes = list(_notes(delivery))
    for note in notes:
        say(f"{key}: {note}", "yellow")
    if args.network_policy and policy is None:
        return Exit.REFUSED
    if args.patch or args.network_policy:
        print_data(patch if args.patch else policy, args.output or "yaml")
    elif args.output:
        print_data({"patch": patch, "networkPolicy": policy, "notes": notes}, args.output)
    else:
        sys.stdout.write(_page(key, patch, policy, args.container))
    return Exit.FINE


def parse_delivery(key: GatewayKey, spec: Any) -> Delivery:
    """Return `spec.delivery` with its defaults. Raises SpecError with the command that says what is wrong."""
    try:
        return Delivery.model_validate(spec.get("delivery") or {})
    except (ValidationError, AttributeError):
        raise SpecError(f"GatewayConfig {key}: spec.delivery breaks rules; `aigateway check` says which") from None


def _notes(delivery: Delivery) -> Iterator[str]:
    if delivery.pod_selector is None:
        yield _NO_SELECTOR
    elif delivery.pod_selector.match_expressions:
        yield _EXPRESSIONS


async def _from_cluster(cluster: Cluster, args: argparse.Namespace) -> tuple[GatewayKey, Any]:
    key = GatewayKey(chosen_namespace(args) or "default", args.gateway)
    try:
        return key, (await cluster.get(GATEWAY_CONFIGS, *key)).get("spec") or {}
    except NotFound:
        there = sorted(str(one["metadata"]["name"]) for one in await list_ours(cluster, GATEWAY_CONFIGS, key.namespace))
        raise SpecError(_unknown(key, there, "namespace", "-n NAMESPACE")) from None


def _from_files(args: argparse.Namespace) -> tuple[GatewayKey, Any]:
    """Return the named gateway of the files. Raises SpecError when they hold none or several of that name."""
    reading = read_manifests(args.filename, args.namespace or "default")
    for finding in reading.findings:
        if finding.severity == ERROR:
            say(str(finding), "red")
    gateways = reading.of(meta.GATEWAY_CONFIG)
    found = [one for one in gateways if one.name == args.gateway and args.namespace in (None, one.namespace)]
    if len(found) > 1:
        spaces = ", ".join(one.namespace for one in found)
        raise SpecError(f"GatewayConfig '{args.gateway}' is in several namespaces: {spaces}. Choose one with -n.")
    if not found:
        key = GatewayKey(args.namespace or "default", args.gateway)
        raise SpecError(_unknown(key, sorted({one.name for one in gateways}), "files", "-f FILE"))
    return GatewayKey(found[0].namespace, found[0].name), found[0].spec or {}


def _unknown(key: GatewayKey, there: list[str], place: str, remedy: str) -> str:
    others = f"There: {', '.join(there)}." if there else f"No GatewayConfig is there; look elsewhere with {remedy}."
    where = f"namespace '{key.namespace}'" if place == "namespace" else "the files"
    return f"GatewayConfig '{key.name}' is not in {where}. {others}"


def _page(key: GatewayKey, patch: dict[str, Any], policy: dict[str, Any] | None, container: str) -> str:
    """Return both parts as YAML with what people want to know of each; the whole is valid YAML."""
    page = (
        f"# Patch of the Deployment whose container '{container}' reads gateway {key}:\n"
        f"#   aigateway mount {key.name} -n {key.namespace} --patch >mount.yaml\n"
        f"#   kubectl patch deployment NAME -n {key.namespace} --patch-file mount.yaml\n"
        f"# Never mount single files (subPath): those are never updated.\n"
        f"{as_yaml(patch)}"
    )
    if policy is not None:
        page += (
            "---\n"
            "# Lets only the operator reach the status port; other ports stay as they are.\n"
            f"#   aigateway mount {key.name} -n {key.namespace} --network-policy | kubectl apply -f -\n"
            f"{as_yaml(policy)}"
        )
    return page
