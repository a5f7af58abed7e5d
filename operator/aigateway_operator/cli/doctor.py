"""`aigateway doctor`: one table of what is fine, doubtful and wrong with an installation, each with the remedy. Writes nothing.

Looks at settings, disk, API server, kinds, rights, leader, webhook, and every gateway with its stores and pods. Where the API
server cannot be reached, that is one row, and the rest is left out. Rights are those of whoever asks, or of the ServiceAccount
that `--account` names.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final, cast

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli import flags
from aigateway_operator.cli.checkup import Check, State, as_data, count, doubt, table, wrong
from aigateway_operator.cli.cluster import chosen_namespace, connect
from aigateway_operator.cli.doctor_cluster import Patient, check_api, check_kinds, check_leader, check_rights
from aigateway_operator.cli.doctor_gateways import check_gateway, check_missing, check_pods
from aigateway_operator.cli.doctor_host import check_disk, read_settings
from aigateway_operator.cli.doctor_webhook import check_webhook
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.mount import OPERATOR_NAMESPACE, parse_delivery
from aigateway_operator.cli.output import print_data
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import AigatewayError, ClusterError, Forbidden, NotFound, SpecError
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, PODS, VIRTUAL_MODELS, JsonObject
from aigateway_operator.rollout.selector import label_selector
from aigateway_operator.settings import Settings

_DEFAULT_HOME: Final = Settings.model_fields["lease_namespace"].default


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("doctor", help="say what is wrong with an installation, and what to do", description=__doc__)
    parser.add_argument(
        "--operator-namespace",
        metavar="NAME",
        help=f"where the operator runs; default: $AIGATEWAY_LEASE_NAMESPACE or {OPERATOR_NAMESPACE}",
    )
    parser.add_argument("--account", type=_account, metavar="NAMESPACE/NAME", help="check the rights of this ServiceAccount")
    flags.add_cluster(parser)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 if anything is wrong."""
    checks = asyncio.run(_examine(args))
    if args.output:
        print_data(as_data(checks), args.output)
    else:
        print("\n".join(table(checks, sys.stdout)))
    return Exit.REFUSED if count(checks, State.WRONG) else Exit.FINE


def _account(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAMESPACE/NAME")
    return namespace, name


async def _examine(args: argparse.Namespace) -> list[Check]:
    settings, checks = read_settings()
    checks.extend(check_disk(settings))
    try:
        async with (args.connect or connect)(args) as cluster:
            async for check in _cluster(cast("Patient", cluster), args, settings):
                checks.append(check)  # one by one: what was found before an error stays
    except AigatewayError as error:
        remedy = remedy_of(error) or "Name the cluster with --kubeconfig and --context."
        checks.append(wrong("api", "access", str(error), remedy))
    return checks


async def _cluster(cluster: Patient, args: argparse.Namespace, settings: Settings) -> AsyncIterator[Check]:
    """Yield all rows on the cluster. Raises ClusterError where it cannot be reached."""
    yield await check_api(cluster)
    async for check in check_kinds(cluster):
        yield check
    home = args.operator_namespace or (
        OPERATOR_NAMESPACE if settings.lease_namespace == _DEFAULT_HOME else settings.lease_namespace
    )
    for check in await check_rights(cluster, settings.namespaces, home, _named(settings), args.account):
        yield check
    if settings.leader_election:
        yield await check_leader(cluster, home, settings.lease_name, datetime.now(UTC))
    namespace = chosen_namespace(args)
    gateways, refused = await _list(cluster, namespace)
    if settings.webhook_certificates != "off":
        place = (settings.webhook_secret_namespace or home, settings.webhook_secret_name)
        secret = place if settings.webhook_certificates == "self" else None
        where = namespace or (gateways[0]["metadata"]["namespace"] if gateways else "default")
        async for check in check_webhook(cluster, settings.webhook_configuration, secret, where):
            yield check
    if refused is not None:
        yield doubt("gateways", "GatewayConfig", f"cannot be looked at: {refused}", remedy_of(refused))
        return  # which gateways models lack cannot be told either
    if not gateways:
        yield doubt("gateways", "GatewayConfig", "there is none here", "Look elsewhere with -n NAMESPACE or -A.")
    async for check in _gateways(cluster, namespace, gateways):
        yield check


def _named(settings: Settings) -> dict[str, str]:
    """Return what rights are about by setting or kind; "" where the settings need no such right."""
    kind, _, name = settings.owner.partition("/")
    keeps = settings.webhook_certificates == "self"
    return {
        "webhook_configuration": settings.webhook_configuration if keeps else "",
        "lease_name": settings.lease_name if settings.leader_election else "",
        "namespace_selector": settings.namespace_selector,
        kind: name,
    }


async def _list(cluster: Patient, namespace: str | None) -> tuple[list[JsonObject], Forbidden | None]:
    """Return all GatewayConfigs, and why they may not be seen; none where the kind is not installed, which another row says."""
    try:
        return (await cluster.list_all(GATEWAY_CONFIGS, namespace))[0], None
    except NotFound:
        return [], None
    except Forbidden as error:
        return [], error


async def _gateways(cluster: Patient, namespace: str | None, gateways: list[JsonObject]) -> AsyncIterator[Check]:
    models: dict[GatewayKey, list[JsonObject]] = {}
    try:
        for model in (await cluster.list_all(VIRTUAL_MODELS, namespace))[0]:
            reference = (model.get("spec") or {}).get("gatewayRef") or {}
            models.setdefault(GatewayKey(model["metadata"]["namespace"], str(reference.get("name"))), []).append(model)
    except NotFound:
        models = {}
    for gateway in gateways:
        key = GatewayKey(gateway["metadata"]["namespace"], gateway["metadata"]["name"])
        for check in check_gateway(gateway, models.pop(key, [])):
            yield check
        async for check in _pods(cluster, key, gateway):
            yield check
    for key, orphans in sorted(models.items()):
        yield check_missing(key, orphans)


async def _pods(cluster: Patient, key: GatewayKey, gateway: JsonObject) -> AsyncIterator[Check]:
    try:
        delivery = parse_delivery(key, gateway.get("spec") or {})
        pods = None
        if delivery.pod_selector is not None:
            pods, _ = await cluster.list_all(PODS, key.namespace, label_selector=label_selector(delivery.pod_selector))
    except SpecError as error:
        yield wrong(str(key), "delivery", str(error), "Correct spec.delivery.")
    except ClusterError as error:
        yield doubt(str(key), "pods", f"cannot be looked at: {error}", remedy_of(error))
    else:
        for check in check_pods(gateway, delivery, pods):
            yield check
