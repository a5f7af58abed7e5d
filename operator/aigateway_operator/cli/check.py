"""`aigateway check FILE…`: all rules on manifests, without a cluster; the same messages as webhook and controller give.

Beyond the rules it plans each gateway of the files, so that a public name given twice or a set too large for its ConfigMap
is found before it is applied. What only the cluster can know (a gateway or Secret that is not among the files) is a note.
With `--against OLD` or `--live` the manifests count as edits of what is stored: keys of the fixed structure must not go,
shards must not change, and what was broken before and is unchanged is a warning, as at admission.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from aigateway_operator.api import meta
from aigateway_operator.api.conditions import ConditionType, Reason, Verdict
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli import flags, stored
from aigateway_operator.cli.annotations import annotation
from aigateway_operator.cli.cluster import chosen_namespace
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.findings import ERROR, NOTE, WARNING, Finding, counted, in_order
from aigateway_operator.cli.gateways import World
from aigateway_operator.cli.manifests import OURS, SECRET, Manifest, Reading, is_within, read_manifests
from aigateway_operator.cli.output import paint, print_data
from aigateway_operator.plan import verdicts
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.rules import Edit, RuleContext, Violation, check_edit, check_gateway_config, check_virtual_model

_PLACES: Final = {
    Reason.GATEWAY_NOT_FOUND: "spec.gatewayRef.name",
    Reason.MODEL_NAME_CONFLICT: "spec.modelName",
    Reason.SECRET_NOT_FOUND: "spec",
    Reason.SECRET_KEY_NOT_FOUND: "spec",
    Reason.SECRET_TYPE_REFUSED: "spec",
    Reason.TOO_LARGE: "spec",
}
"""What a plan finds that no rule on one object can, and where it is pointed at."""
_ELSEWHERE: Final = frozenset({Reason.GATEWAY_NOT_FOUND, Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_NOT_FOUND})
"""May be in the cluster though not among the files."""
GITHUB: Final = "github"
"""Annotations of a pull request: see `annotations`."""
NOTHING: Final[Mapping[stored.ObjectId, Any]] = {}
_COLOURS: Final = {ERROR: "red", WARNING: "yellow", NOTE: "dim"}


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("check", help="check manifests by all rules, without a cluster", description=__doc__)
    flags.add_files(parser)
    flags.add_format(parser, GITHUB)
    flags.add_namespace(parser, "'default', with --live the context's; for objects that name none")
    flags.add_rules(parser)
    stored.add_arguments(parser)
    flags.add_connection(parser)
    parser.add_argument("--strict", action="store_true", help="what is not among the files is an error, not a note")


def run(args: argparse.Namespace) -> int:
    """Check and print every finding; 1 if there is an error."""
    namespace = (chosen_namespace(args) if args.live else args.namespace) or "default"
    reading = read_manifests(args.files, namespace, recursive=args.recursive)
    before = stored.read_stored(args, (*reading.manifests, *reading.damaged), namespace)
    context = RuleContext("", flags.allowed_addresses(args), flags.cluster_domain(args))
    found = check_manifests(reading.manifests, context, strict=args.strict, before=before.specs)
    found += beside_faults(reading.damaged, context, before.specs)
    findings = in_order([*reading.findings, *before.findings, *found])
    errors = sum(finding.severity == ERROR for finding in findings)
    if args.output == GITHUB:
        print("\n".join([*map(annotation, findings), _summary(reading, findings)]))
    elif args.output:
        print_data([finding.as_data() for finding in findings], args.output)
    else:
        print_findings(findings)
        print(_summary(reading, findings))
    return Exit.REFUSED if errors else Exit.FINE


def print_findings(findings: Iterable[Finding]) -> None:
    """Print one line each to stdout."""
    for finding in findings:
        print(paint(str(finding), _COLOURS[finding.severity], sys.stdout))


def check_manifests(
    manifests: Iterable[Manifest], context: RuleContext, *, strict: bool, before: Mapping[stored.ObjectId, Any] = NOTHING
) -> list[Finding]:
    """Return everything wrong with objects of files, each alone and together. `before`: specs that they replace."""
    everything = list(manifests)
    findings: list[Finding] = []
    sound: list[Manifest] = []
    for manifest in everything:
        edit = edit_of(manifest, context, before)
        findings.extend(finding_of(manifest, violation) for violation in edit.violations)
        findings.extend(_tolerated(manifest, violation) for violation in edit.tolerated)
        if not edit.violations and not edit.tolerated:
            sound.append(manifest)
    return [*findings, *_check_together(sound, everything, context, strict)]


def beside_faults(damaged: Iterable[Manifest], context: RuleContext, before: Mapping[stored.ObjectId, Any]) -> list[Finding]:
    """Return what else is wrong with objects that could not be read whole; of what could not be read nothing more is said."""
    return [
        finding_of(manifest, violation)
        for manifest in damaged
        for violation in edit_of(manifest, context, before).violations
        if not is_within(violation.path, manifest.at_fault)
    ]


def edit_of(manifest: Manifest, context: RuleContext, before: Mapping[stored.ObjectId, Any]) -> Edit:
    """Check one object by its rules, as an edit if `before` has the spec that it replaces; Secrets have no rules."""
    if manifest.kind not in OURS:
        return Edit()
    own, key = replace(context, name=manifest.name), stored.identity(manifest)
    if key in before:
        return check_edit(manifest.kind, manifest.spec, before[key], own)
    check = check_gateway_config if manifest.kind == meta.GATEWAY_CONFIG else check_virtual_model
    return Edit(tuple(check(manifest.spec, own)))


def violations_of(manifests: Iterable[Manifest], context: RuleContext) -> list[tuple[Manifest, Finding]]:
    """Return every broken rule with the object that breaks it."""
    return [
        (manifest, finding_of(manifest, violation))
        for manifest in manifests
        for violation in edit_of(manifest, context, NOTHING).violations
    ]


def finding_of(manifest: Manifest, violation: Violation) -> Finding:
    """Return a violation with its place in the file."""
    return manifest.finding(ERROR, violation.path, violation.reason.value, violation.message, violation.rule)


def _tolerated(manifest: Manifest, violation: Violation) -> Finding:
    message = f"{violation.message} (Stored like this already, so the edit is accepted; the controller refuses to render it.)"
    return manifest.finding(WARNING, violation.path, violation.reason.value, message, violation.rule)


def _check_together(sound: list[Manifest], everything: list[Manifest], context: RuleContext, strict: bool) -> Iterator[Finding]:
    """Yield what a plan of each gateway finds.

    A gateway that is missing or broken is stood in for, so that the names of its models are still compared.
    """
    world = World(context)
    by_name = {(manifest.kind, manifest.namespace, manifest.name): manifest for manifest in everything}
    for manifest in sound:
        world.put(manifest)
    absent: set[GatewayKey] = set()
    for key in world.named_gateways():
        if key not in world.gateways:
            if (meta.GATEWAY_CONFIG, *key) not in by_name:
                absent.add(key)
            body = {"metadata": {"name": key.name}, "spec": {}}
            world.put(Manifest("", 0, meta.GATEWAY_CONFIG, key.namespace, key.name, body, lambda _: 0))
    for key, plan in world.plans(world.named_gateways()).items():
        for status in plan.statuses:
            about = by_name.get((status.kind, key.namespace, status.name))
            if about is None:
                continue
            if status.kind == meta.VIRTUAL_MODEL and key in absent:
                yield _from_verdict(about, verdicts.gateway_not_found(*key), strict)
            for verdict in _telling(status):
                yield _from_verdict(about, verdict, strict)


def _telling(status: StatusWrite) -> Iterator[Verdict]:
    for verdict in status.verdicts:
        if verdict.type != ConditionType.READY and verdict.reason in _PLACES:
            yield verdict


def _from_verdict(manifest: Manifest, verdict: Verdict, strict: bool) -> Finding:
    severity = NOTE if verdict.reason in _ELSEWHERE and not strict else ERROR
    path = _PLACES[verdict.reason]
    message = f"{verdict.message} (Looked for in these files only.)" if verdict.reason in _ELSEWHERE else verdict.message
    return manifest.finding(severity, path, verdict.reason.value, message)


def _summary(reading: Reading, findings: list[Finding]) -> str:
    kinds = Counter(manifest.kind for manifest in (*reading.manifests, *reading.damaged))
    looked_at = ", ".join(counted(kinds[kind], kind) for kind in (*OURS, SECRET) if kinds[kind]) or "no object"
    severities = Counter(finding.severity for finding in findings)
    none_broken = "all rules hold" if reading.manifests else "nothing of ours is there"  # green would say more than is known
    said = ", ".join(counted(severities[one], one) for one in (ERROR, WARNING, NOTE) if severities[one]) or none_broken
    return paint(f"{looked_at} checked: {said}.", "red" if severities[ERROR] else "green", sys.stdout)
