"""`aigateway render FILE…`: what the operator would make of manifests, without a cluster, by the same plan and render.

Prints ConfigMaps and Secrets as manifests, or writes files as pods would see them. Without owner references, since there is
no cluster to name an owner in; uids are made up from names. Values of Secrets are hidden unless written on request.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aigateway_operator.api import meta
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli import flags
from aigateway_operator.cli.check import violations_of
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.files import write_private, write_public
from aigateway_operator.cli.findings import ERROR, NOTE, Finding, counted
from aigateway_operator.cli.gateways import World
from aigateway_operator.cli.manifests import read_manifests
from aigateway_operator.cli.output import as_json, as_yaml, say
from aigateway_operator.errors import SettingsError
from aigateway_operator.plan.result import Plan, Write
from aigateway_operator.rules import RuleContext

REDACTED: Final = "<redacted>"
FORMATS: Final = ("json", "yaml")


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "render", help="print what the operator would make of manifests, without a cluster", description=__doc__
    )
    flags.add_files(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="json|yaml|DIR",
        default="yaml",
        help="manifests as json or yaml (default), or a folder: files as pods see them, DIR/<namespace>/<gateway>/config/…",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="as -o DIR, for a folder named json or yaml")
    parser.add_argument(
        "--with-secrets", action="store_true", help="with a folder: also write credentials/, readable by you alone"
    )
    flags.add_namespace(parser, "'default', for objects that name none")
    flags.add_rules(parser)


def run(args: argparse.Namespace) -> int:
    """Render; 1 if an object breaks a rule or a file cannot be read (the others are rendered all the same)."""
    directory = args.output_dir or (Path(args.output) if args.output not in FORMATS else None)
    if args.with_secrets and directory is None:
        raise SettingsError("--with-secrets needs a folder: values of Secrets are never printed. Add -o DIR.")
    reading = read_manifests(args.files, args.namespace or "default", recursive=args.recursive)
    context = RuleContext("", flags.allowed_addresses(args), flags.cluster_domain(args))
    violations = violations_of(reading.manifests, context)
    broken = {id(manifest) for manifest, _ in violations}
    world = World(context)
    for manifest in reading.manifests:
        if id(manifest) not in broken:
            world.put(manifest)
    findings = [*reading.findings, *(finding for _, finding in violations), *_lonely(world)]
    for finding in findings:
        say(str(finding), "red" if finding.severity == ERROR else "dim")
    plans = world.plans(sorted(world.gateways))
    if directory is not None:
        _write_files(directory, plans, with_secrets=args.with_secrets)
    else:
        _print_manifests(args.output, plans)
    errors = [*findings_of_plans(plans), *(finding for finding in findings if finding.severity == ERROR)]
    return Exit.REFUSED if errors else Exit.FINE


def findings_of_plans(plans: Mapping[GatewayKey, Plan]) -> list[str]:
    """Say of every object that is not served as it stands why, and return those sentences."""
    found = []
    for key, plan in plans.items():
        for status in plan.statuses:
            ready = next(verdict for verdict in status.verdicts if verdict.type == "Ready")
            if ready.status != "True":
                text = f"{status.kind}/{status.name} in {key.namespace}: {ready.reason}: {ready.message}"
                say(text, "yellow")
                if not ready.reason.startswith("Secret"):
                    found.append(text)
    return found


def _lonely(world: World) -> Iterable[Finding]:
    for key in world.named_gateways():
        if key not in world.gateways:
            models = sum((stored.namespace, stored.gateway) == key for stored in world.models.values())
            message = f"is not among the files (or is broken); {counted(models, 'model')} that name it are not rendered."
            yield Finding(NOTE, str(key), kind=meta.GATEWAY_CONFIG, name=key.name, message=message)


def generated_object(write: Write, key: GatewayKey) -> dict[str, Any]:
    """Return a write as a manifest; values of a Secret hidden, but for its own manifest, which holds names only."""
    metadata = {
        "name": write.name,
        "namespace": key.namespace,
        "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.GATEWAY_LABEL: key.name},
    }
    obj: dict[str, Any] = {"apiVersion": "v1", "kind": write.kind, "metadata": metadata}
    if write.kind == "Secret":
        shown = {name: value.decode() if is_manifest(name) else REDACTED for name, value in sorted(write.values.items())}
        return {**obj, "type": "Opaque", "stringData": shown}
    return {**obj, "data": {name: value.decode() for name, value in sorted(write.values.items())}}


def is_manifest(file: str) -> bool:
    """Tell whether a file of a credentials Secret is its manifest, and so holds no secret."""
    return file.startswith("_manifest") and file.endswith(".json")


def _print_manifests(output: str, plans: Mapping[GatewayKey, Plan]) -> None:
    objects = [generated_object(write, key) for key, plan in plans.items() for write in plan.writes]
    if output == "json":
        sys.stdout.write(as_json({"apiVersion": "v1", "kind": "List", "items": objects}))
    elif objects:
        sys.stdout.write(as_yaml(*objects))


def _write_files(directory: Path, plans: Mapping[GatewayKey, Plan], *, with_secrets: bool) -> None:
    written = 0
    for key, plan in plans.items():
        for write in plan.writes:
            secret = write.kind == "Secret"
            if secret and not with_secrets:
                continue
            folder = directory / key.namespace / key.name / ("credentials" if secret else "config")
            for name, value in write.values.items():
                (write_private if secret else write_public)(folder / name, value)
                written += 1
    say(f"{counted(written, 'file')} written below {directory}.")
    if not with_secrets and any(write.kind == "Secret" for plan in plans.values() for write in plan.writes):
        say("Credentials were left out; add --with-secrets to write them.", "dim")
