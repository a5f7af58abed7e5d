"""`aigateway status [GATEWAY]`: gateways, what they serve, and every model that is not Ready with the reason, on one screen.

Reads VirtualModels, GatewayConfigs and generated ConfigMaps; no Secrets. `--watch` redraws until Ctrl-C and outlives a
cluster that is away for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, TextIO

from aigateway_operator.api import meta
from aigateway_operator.cli import flags
from aigateway_operator.cli.cluster import Cluster, chosen_namespace, list_ours, with_cluster
from aigateway_operator.cli.conditions import age, parse_time
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import counted
from aigateway_operator.cli.output import Table, on_terminal, paint, print_data, say
from aigateway_operator.cli.overview import GatewayView, Overview, overview
from aigateway_operator.errors import Unavailable
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, VIRTUAL_MODELS
from aigateway_operator.render.files import LIMIT_BYTES

MAX_MODELS: Final = 50
"""Models listed on the screen for people; programs get all."""
_COLOURS: Final = {"Ready": "green", "Off": "dim", "Pending": "yellow", "Deleting": "yellow"}
_STORE_COLOURS: Final = {"Up": "green", "Unknown": "yellow"}
_CLEAR: Final = "\x1b[H\x1b[J"


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("status", help="show gateways and models on one screen", description=__doc__)
    parser.add_argument(
        "gateway", nargs="?", type=flags.parse_gateway, metavar="GATEWAY", help="one GatewayConfig; default: all"
    )
    parser.add_argument("-w", "--watch", action="store_true", help="redraw until Ctrl-C")
    parser.add_argument(
        "--interval", type=flags.parse_duration, default=2.0, metavar="DURATION", help="between two looks; default: 2s"
    )
    flags.add_cluster(parser)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the screen once, or again and again; 1 if the named gateway does not exist."""
    return with_cluster(args, lambda cluster: _watch(cluster, args) if args.watch else _once(cluster, args))


async def look(cluster: Cluster, namespace: str | None, gateway: str | None) -> Overview:
    """Read the cluster once. Raises ClusterError."""
    gateways, models, config_maps = await asyncio.gather(
        list_ours(cluster, GATEWAY_CONFIGS, namespace),
        list_ours(cluster, VIRTUAL_MODELS, namespace),
        cluster.list_all(CONFIG_MAPS, namespace, label_selector=f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY}"),
    )
    return overview(gateways, models, config_maps[0], gateway)


async def _once(cluster: Cluster, args: argparse.Namespace) -> int:
    seen = await look(cluster, chosen_namespace(args), args.gateway)
    if args.output:
        print_data(seen.as_data(), args.output)
    elif seen.gateways or not args.gateway:
        print("\n".join(screen(seen, datetime.now(UTC), sys.stdout)))
    if args.gateway and not any(view.state != "Missing" for view in seen.gateways):
        say(f"GatewayConfig '{args.gateway}' does not exist here; look elsewhere with -n NAMESPACE or -A", "red")
        return Exit.REFUSED
    return Exit.FINE


async def _watch(cluster: Cluster, args: argparse.Namespace) -> int:
    """Show every look on a terminal, every change elsewhere; as one JSON value a line with -o json."""
    namespace, shown, away = chosen_namespace(args), "", ""
    while True:
        try:
            seen = await look(cluster, namespace, args.gateway)
        except Unavailable as error:
            if away != str(error):  # once each, not at every look
                say(f"The API server does not answer, trying again: {error}", "yellow")
            away = str(error)
        else:
            away = ""
            data = json.dumps(seen.as_data(), ensure_ascii=False)
            if args.output == "json" and data != shown:
                print(data, flush=True)
            elif args.output and data != shown:
                print("---")
                print_data(seen.as_data(), args.output)
            elif not args.output and (on_terminal(sys.stdout) or data != shown):
                print(_CLEAR if on_terminal(sys.stdout) else "", end="")
                print("\n".join(screen(seen, datetime.now(UTC), sys.stdout)), flush=True)
            shown = data
        await asyncio.sleep(max(0.1, args.interval))


def screen(seen: Overview, now: datetime, stream: TextIO) -> Iterator[str]:
    """Yield the lines for people."""
    width = shutil.get_terminal_size().columns if on_terminal(stream) else None
    if not seen.gateways:
        yield "No GatewayConfig here. Look elsewhere with -n NAMESPACE or -A."
        return
    yield from _gateways(seen).lines(stream, width)
    for view in seen.gateways:
        if view.state in ("NotReady", "Missing"):
            yield f"{view.namespace}/{view.name}: {paint(f'{view.reason}: {view.message}', 'red', stream)}"
    for table in (_pods(seen), _datastores(seen, now), _documents(seen)):
        if table.rows:
            yield ""
            yield from table.lines(stream, width)
    yield ""
    yield from _models(seen, stream, width)
    if seen.changes:
        yield ""
        yield paint("LAST CHANGES", "bold", stream)
        for change in seen.changes:
            ago = age(parse_time(change.since), now)
            who = f"{change.kind} {change.namespace}/{change.name}"
            yield f"{ago:>5} ago   {who}: {change.condition}={change.status} {change.reason}"


def _gateways(seen: Overview) -> Table:
    table = Table(("NAMESPACE", "GATEWAY", "STATE", "REVISION", "CREDENTIALS", "MODELS", "PODS", "DATASTORES"))
    for view in seen.gateways:
        state = (view.state, _COLOURS.get(view.state, "red"))
        revisions = (_or_dash(view.revision), _or_dash(view.credentials_revision))
        table.add(view.namespace, view.name, state, *revisions, _counts(view), view.pods or "-", _stores(view))
    return table


def _counts(view: GatewayView) -> str:
    names = (("ready", "ready"), ("off", "off"), ("notReady", "not ready"))
    return ", ".join(f"{view.models[key]} {text}" for key, text in names if view.models.get(key)) or "none"


def _stores(view: GatewayView) -> str:
    return ", ".join(f"{name} {state}" for name, state in (view.datastores or {}).items()) or "-"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _pods(seen: Overview) -> Table:
    """Return pods by what they run, of every gateway that asks them."""
    table = Table(("NAMESPACE", "GATEWAY", "PODS", "REVISION", "UPDATED", "BEHIND", "UNKNOWN", "TOOK", "WHICH"))
    for view in seen.gateways:
        pods = view.rollout
        if pods is not None:
            took = "-" if pods.last_duration_milliseconds is None else f"{pods.last_duration_milliseconds} ms"
            which = ", ".join(pods.stragglers) or "-"
            which += f"; restart for {', '.join(pods.restart_required)}" if pods.restart_required else ""
            bad = "yellow" if pods.behind or pods.unknown else ""
            numbers = (str(pods.updated), (str(pods.behind), bad), (str(pods.unknown), bad))
            table.add(view.namespace, view.name, pods.reason, _or_dash(pods.revision), *numbers, took, which)
    return table


def _datastores(seen: Overview, now: datetime) -> Table:
    """Return every enabled store with since when it is what it is, and why."""
    table = Table(("NAMESPACE", "GATEWAY", "DATASTORE", "STATE", "SINCE", "REASON", "MESSAGE"))
    for view in seen.gateways:
        for store in view.stores:
            state = (store.state, _STORE_COLOURS.get(store.state, "red"))
            since = age(parse_time(store.since), now)
            message = "" if store.state == "Up" else store.message
            table.add(view.namespace, view.name, store.name, state, since, store.reason or "-", message)
    return table


def _documents(seen: Overview) -> Table:
    table = Table(("NAMESPACE", "DOCUMENT", "REVISION", "SIZE", "OF LIMIT"))
    for view in seen.gateways:
        for document in view.documents:
            size, share = f"{document.bytes / 1024:.1f} KiB", f"{100 * document.bytes / LIMIT_BYTES:.0f} %"
            name = f"{document.config_map}/{document.file}"
            table.add(view.namespace, name, _or_dash(document.revision), size, share)
    return table


def _models(seen: Overview, stream: TextIO, width: int | None) -> Iterator[str]:
    wrong = [model for model in seen.models if model.state not in ("Ready", "Off")]
    if not wrong:
        yield paint(f"All of {counted(len(seen.models), 'model')} served as they stand.", "green", stream)
        return
    table = Table(("NAMESPACE", "MODEL", "GATEWAY", "STATE", "REASON", "MESSAGE"))
    for model in wrong[:MAX_MODELS]:
        state = (model.state, _COLOURS.get(model.state, "red"))
        table.add(model.namespace, model.name, model.gateway or "-", state, model.reason, model.message)
    yield from table.lines(stream, width)
    if len(wrong) > MAX_MODELS:
        yield f"… and {len(wrong) - MAX_MODELS} more; all of them with -o json."
