"""`aigateway diff [FILE…]`: what the operator would render now, or after applying the files, against what is live.

Reads the cluster, plans as the operator does, and compares documents line by line (one model a line). Values of Secrets are
never shown: a key is added, removed or changed. Writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from aigateway_operator.api import meta
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli import flags
from aigateway_operator.cli.check import edit_of, finding_of, print_findings
from aigateway_operator.cli.cluster import Cluster, chosen_namespace, list_ours, with_cluster
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import ERROR, Finding, in_order
from aigateway_operator.cli.gateways import World
from aigateway_operator.cli.manifests import SECRET, Reading, read_manifests
from aigateway_operator.cli.output import paint, print_data, say
from aigateway_operator.cli.render import findings_of_plans, is_manifest
from aigateway_operator.errors import Forbidden, NotFound
from aigateway_operator.kube.resources import CONFIG_MAPS, GATEWAY_CONFIGS, SECRETS, VIRTUAL_MODELS, JsonObject
from aigateway_operator.plan.readback import values_of
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.reconcile.store import parse_stored
from aigateway_operator.rules import RuleContext

OWNED: Final = f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY}"
PARALLEL_READS: Final = 8
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One file of one generated object. `lines` are those of a unified diff; for a Secret one line without the value."""

    kind: str
    namespace: str
    name: str
    file: str
    change: str
    lines: tuple[str, ...]


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("diff", help="compare what would be rendered now with what is live", description=__doc__)
    flags.add_files(parser, required=False)
    flags.add_cluster(parser)
    flags.add_format(parser)
    flags.add_rules(parser)
    parser.epilog = (
        "exit codes: 0 the same; 1 different; 2 files that would be refused; 3 the cluster is out of reach; 130 Ctrl-C"
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print; 0 the same, 1 different, 2 if the files break rules."""
    namespace = chosen_namespace(args)
    reading = read_manifests(args.files, namespace or "default", recursive=args.recursive)
    world = World(RuleContext("", flags.allowed_addresses(args), flags.cluster_domain(args)))
    errors = with_cluster(args, lambda cluster: _gather(world, cluster, namespace, reading, with_files=bool(args.files)))
    if errors:
        print_findings(in_order(errors))
        return Exit.USAGE
    _note_nothing(args, world, reading, namespace)
    plans = world.plans(sorted(world.gateways))
    findings_of_plans(plans)
    differences = [difference for key, plan in plans.items() for difference in differences_of(world, key, plan)]
    if args.output:
        print_data([_as_data(difference) for difference in differences], args.output)
    else:
        _print(differences)
    return Exit.REFUSED if differences else Exit.FINE


def _note_nothing(args: argparse.Namespace, world: World, reading: Reading, namespace: str | None) -> None:
    """Say that there was nothing to compare: a mistyped namespace or file must not look like a rollout that is done."""
    if args.files and not reading.manifests:
        say("note: there is no VirtualModel, GatewayConfig or Secret in the files.", "yellow")
    elif not world.gateways:
        where = "in the cluster" if namespace is None else f"in namespace '{namespace}'"
        where = "in the namespaces of the files" if args.files else where
        say(f"note: there is no GatewayConfig {where}. Look elsewhere with -n NAMESPACE or -A.", "yellow")


async def _gather(
    world: World, cluster: Cluster, namespace: str | None, reading: Reading, *, with_files: bool
) -> list[Finding]:
    """Read everything that plans need into `world`; return what would be refused of the files. Raises ClusterError."""
    namespaces = sorted({manifest.namespace for manifest in reading.manifests}) if with_files else [namespace]
    for one in namespaces:
        await _load(world, cluster, one)
    errors = _overlay(world, reading)
    if not errors:
        await _load_secrets(world, cluster, namespaces)
        await _load_foreign(world, cluster)
    return errors


async def _load_foreign(world: World, cluster: Cluster) -> None:
    """Read what has a name that the operator would take, but not its label: it is never touched."""
    for key, plan in world.plans(sorted(world.gateways)).items():
        for write in plan.writes:
            resource = CONFIG_MAPS if write.kind == CONFIG_MAPS.kind else SECRETS
            if write.live is None and (resource == CONFIG_MAPS or world.secrets_known):
                with suppress(NotFound, Forbidden):
                    _keep_live(world, await cluster.get(resource, key.namespace, write.name), write.kind)


async def _load(world: World, cluster: Cluster, namespace: str | None) -> None:
    for obj in await list_ours(cluster, GATEWAY_CONFIGS, namespace):
        stored = parse_stored(obj)
        world.gateways[GatewayKey(stored.namespace, stored.name)] = stored
    for obj in await list_ours(cluster, VIRTUAL_MODELS, namespace):
        stored = parse_stored(obj)
        world.models[stored.namespace, stored.name] = stored
    for obj in (await cluster.list_all(CONFIG_MAPS, namespace, label_selector=OWNED))[0]:
        _keep_live(world, obj, CONFIG_MAPS.kind)


async def _load_secrets(world: World, cluster: Cluster, namespaces: Sequence[str | None]) -> None:
    """Read our own credentials Secrets, and those that something references, by name: a namespace may hold megabytes more."""
    limit = asyncio.Semaphore(PARALLEL_READS)

    async def read(namespace: str, name: str) -> None:
        async with limit:
            with suppress(NotFound):
                obj = await cluster.get(SECRETS, namespace, name)
                world.secrets[namespace, name] = {**obj, "kind": SECRET}

    try:
        for namespace in namespaces:
            for obj in (await cluster.list_all(SECRETS, namespace, label_selector=OWNED))[0]:
                _keep_live(world, obj, SECRET)
        async with asyncio.TaskGroup() as group:
            for key in sorted(world.references() - world.secrets.keys()):
                group.create_task(read(*key))
    except* Forbidden:
        world.secrets_known = False
        say("note: Secrets may not be read with these credentials; credentials are not compared.", "yellow")


def _keep_live(world: World, obj: JsonObject, kind: str) -> None:
    # Items of a List carry no kind of their own.
    world.live.setdefault(obj["metadata"]["namespace"], []).append({**obj, "kind": kind})


def _overlay(world: World, reading: Reading) -> list[Finding]:
    """Put the files over the cluster's objects, as an apply would; return what would be refused instead."""
    errors = [finding for finding in reading.findings if finding.severity == ERROR]
    before = {(meta.GATEWAY_CONFIG, *key): stored.parse_spec() for key, stored in world.gateways.items()}
    before |= {(meta.VIRTUAL_MODEL, *key): stored.parse_spec() for key, stored in world.models.items()}
    for manifest in reading.manifests:
        refused = edit_of(manifest, world.context, before).violations
        errors.extend(finding_of(manifest, violation) for violation in refused)
        if not refused:
            world.put(manifest)
    return errors


def differences_of(world: World, key: GatewayKey, plan: Plan) -> Iterator[Difference]:
    """Yield every file that the plan's writes would change, in the order of writing; manifests only where nothing else does."""
    live = world.live_objects(key)
    for write in plan.writes:
        if write.kind == SECRET and not world.secrets_known:
            continue
        before = values_of(live.get((write.kind, write.name), {}))
        compare = _compare_secret if write.kind == SECRET else _compare_documents
        yield from compare(write, key, before)


def _compare_secret(write: Write, key: GatewayKey, before: Mapping[str, bytes]) -> Iterator[Difference]:
    found = False
    for file in sorted({*before, *write.values} - write.keep):
        change = _change(before.get(file), write.values.get(file))
        if change and not is_manifest(file):
            found = True
            yield Difference(SECRET, key.namespace, write.name, file, change, (f"{_sign(change)}{file}: <{change}>",))
    if not found:
        yield Difference(SECRET, key.namespace, write.name, "", "changed", ("~labels, owner or manifest",))


def _compare_documents(write: Write, key: GatewayKey, before: Mapping[str, bytes]) -> Iterator[Difference]:
    names = sorted({*before, *write.values}, key=lambda name: (name.endswith(".manifest.json"), name))
    changed = [name for name in names if before.get(name) != write.values.get(name)]
    documents = [name for name in changed if not name.endswith(".manifest.json")] or changed
    for name in documents:
        lines = difflib.unified_diff(
            before.get(name, b"").decode(errors="replace").splitlines(),
            write.values.get(name, b"").decode(errors="replace").splitlines(),
            f"live/{key.namespace}/{write.name}/{name}",
            f"rendered/{key.namespace}/{write.name}/{name}",
            n=0,
            lineterm="",
        )
        change = _change(before.get(name), write.values.get(name))
        yield Difference(write.kind, key.namespace, write.name, name, change, tuple(lines))
    if not changed:
        yield Difference(write.kind, key.namespace, write.name, "", "changed", ("~labels or owner",))


def _change(before: bytes | None, after: bytes | None) -> str:
    """Return added, removed, changed, or "" for no difference. Digests are compared, so that no value reaches a trace."""
    if before is None or after is None:
        return "" if before is after else "added" if before is None else "removed"
    return "" if sha256(before).digest() == sha256(after).digest() else "changed"


def _sign(change: str) -> str:
    return {"added": "+", "removed": "-"}.get(change, "~")


def _print(differences: list[Difference]) -> None:
    for difference in differences:
        if difference.kind == SECRET or not difference.file:
            print(paint(f"{difference.kind} {difference.namespace}/{difference.name}", "bold", sys.stdout))
        for line in difference.lines:
            print(paint(line, _COLOURS.get(line[:1], ""), sys.stdout))
    if not differences:
        say("Nothing differs.", "green")


def _as_data(difference: Difference) -> dict[str, Any]:
    return {
        "kind": difference.kind,
        "namespace": difference.namespace,
        "name": difference.name,
        "file": difference.file,
        "change": difference.change,
        "lines": list(difference.lines),
    }
