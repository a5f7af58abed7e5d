"""`aigateway import config.yml`: a plain gateway configuration → manifests and Secrets, and a report of what differs.

Converts, checks the result by the rules and leaves out what breaks one; nothing is lost without a line that says so.
The report goes to stderr, manifests to stdout or to a folder, with Secrets apart and readable by their owner alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aigateway_operator.api import meta
from aigateway_operator.api.fields import DNS_LABEL
from aigateway_operator.cli import flags
from aigateway_operator.cli.conversion import CHANGED, REFUSED, RENAMED, Conversion, Made, Remark
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.files import write_private, write_public
from aigateway_operator.cli.findings import counted
from aigateway_operator.cli.output import as_json, as_yaml, on_terminal, say
from aigateway_operator.cli.render import REDACTED
from aigateway_operator.cli.strict_yaml import Document, parse_documents
from aigateway_operator.errors import SettingsError, SpecError
from aigateway_operator.rules import RuleContext, Violation, check_gateway_config, check_virtual_model
from aigateway_operator.rules.violation import at

_OPEN_MAP: Final = re.compile(r"(?P<map>spec\.backends\[(?P<index>[0-9]+)\]\.parameters|spec\.webSearch\.options)[.\[]")
_COLOURS: Final = {CHANGED: "cyan", RENAMED: "cyan", REFUSED: "red"}


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "import", help="turn a plain gateway configuration into manifests and Secrets", description=__doc__
    )
    parser.add_argument("file", metavar="FILE", help="the configuration (YAML or JSON), or - for stdin")
    parser.add_argument("--name", default="main", help="name of the GatewayConfig; default: main")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="namespace to write into the manifests; default: none")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="one file an object; Secrets in DIR/secrets, mode 0600")
    parser.add_argument("--force", action="store_true", help="overwrite files of --output-dir")
    parser.add_argument("--with-secrets", action="store_true", help="show values of Secrets on a terminal too")
    flags.add_format(parser)
    flags.add_rules(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, check, report and write; 1 if something was refused. Raises SpecError for a file that cannot be read."""
    if not re.fullmatch(DNS_LABEL, args.name) or len(args.name) > meta.MAX_GATEWAY_NAME - len("-backends-99"):
        raise SettingsError(f"--name {args.name}: use up to 51 lower-case letters, digits and '-'")
    document = _read(args.file)
    conversion = Conversion(args.name, args.namespace)
    conversion.convert(document.value)
    context = RuleContext("", flags.allowed_addresses(args), flags.cluster_domain(args))
    objects = accepted_objects(conversion, context)
    _report(args.file, document, conversion.remarks)
    _write(args, [*conversion.secrets.manifests(args.namespace), *objects], conversion.remarks)
    say(_summary(objects, conversion))
    return Exit.REFUSED if any(remark.what == REFUSED for remark in conversion.remarks) else Exit.FINE


def _read(file: str) -> Document:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file} is not UTF-8 text; save it as UTF-8") from None
    documents, faults = parse_documents(text, truth_letters=False)
    if faults:
        raise SpecError("\n".join(f"{file}:{fault.line}: {fault.message}" for fault in faults))
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise SpecError(f"{file} holds no single mapping with app, storage, web_search, ai-gateway and log")
    if "kind" in documents[0].value and "apiVersion" in documents[0].value:
        raise SpecError(f"{file} is a Kubernetes manifest already; use `aigateway check {file}`")
    return documents[0]


def accepted_objects(conversion: Conversion, context: RuleContext) -> list[dict[str, Any]]:
    """Return the objects that pass the rules, with a remark for everything left out.

    Secrets that only left-out objects would use stay: their values are nowhere else.
    """
    found = []
    for made in (conversion.gateway, *conversion.models):
        violations = _check(made, context)
        inside = [violation for violation in violations if _OPEN_MAP.match(violation.path)]
        for violation in inside:
            _drop(made, violation)
        left = _check(made, context) if inside else violations
        conversion.remarks.extend(_refusal(made, violation, "was left out") for violation in inside)
        if not left:
            found.append(made.body)
        what = f"{made.body['kind']} '{made.body['metadata']['name']}' was not written"
        conversion.remarks.extend(_refusal(made, violation, what) for violation in left)
    return found


def _check(made: Made, context: RuleContext) -> list[Violation]:
    name = made.body["metadata"]["name"]
    own = RuleContext(name, context.allow_addresses, context.cluster_domain)
    check = check_gateway_config if made.body["kind"] == meta.GATEWAY_CONFIG else check_virtual_model
    return check(made.body["spec"], own)


def _drop(made: Made, violation: Violation) -> None:
    """Remove the key of an open map that holds what a rule refuses."""
    match = _OPEN_MAP.match(violation.path)
    if match is None:
        return
    spec = made.body["spec"]
    owner, key = (
        (spec["webSearch"], "options") if match["index"] is None else (spec["backends"][int(match["index"])], "parameters")
    )
    for name in list(owner.get(key, {})):
        place = at(match["map"], name)
        if violation.path == place or violation.path.startswith((f"{place}.", f"{place}[")):
            del owner[key][name]


def _refusal(made: Made, violation: Violation, what: str) -> Remark:
    return Remark(REFUSED, made.origin(violation.path), f"{what}: {violation}")


def _report(file: str, document: Document, remarks: Sequence[Remark]) -> None:
    for remark in sorted(remarks, key=lambda remark: (document.line_of(remark.path), remark.path)):
        say(f"{file}:{document.line_of(remark.path)}: {remark.what}: {remark.path}: {remark.message}", _COLOURS[remark.what])


def _write(args: argparse.Namespace, objects: Sequence[dict[str, Any]], remarks: Sequence[Remark]) -> None:
    if args.output_dir is not None:
        _write_files(args.output_dir, objects, output=args.output or "yaml", force=args.force)
        return
    if on_terminal(sys.stdout) and not args.with_secrets:
        objects = [_hidden(obj) for obj in objects]
    if args.output == "json":
        report = [{"what": remark.what, "path": remark.path, "message": remark.message} for remark in remarks]
        sys.stdout.write(as_json({"apiVersion": "v1", "kind": "List", "items": list(objects), "report": report}))
    else:
        sys.stdout.write(as_yaml(*objects))


def _hidden(obj: dict[str, Any]) -> dict[str, Any]:
    return obj if obj["kind"] != "Secret" else {**obj, "stringData": dict.fromkeys(obj["stringData"], REDACTED)}


def _write_files(directory: Path, objects: Sequence[dict[str, Any]], *, output: str, force: bool) -> None:
    files = {}
    for obj in objects:
        name = f"{obj['kind'].lower()}-{obj['metadata']['name']}.{output}"
        files[directory / "secrets" / name if obj["kind"] == "Secret" else directory / name] = obj
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise SettingsError(
            f"{counted(len(there), 'file')} would be overwritten, such as {there[0]}; use --force or another folder"
        )
    for path, obj in files.items():
        content = (as_json(obj) if output == "json" else as_yaml(obj)).encode()
        (write_private if obj["kind"] == "Secret" else write_public)(path, content)


def _summary(objects: Sequence[dict[str, Any]], conversion: Conversion) -> str:
    models = sum(obj["kind"] == meta.VIRTUAL_MODEL for obj in objects)
    gateways = len(objects) - models
    secrets = len({ref.secret for ref in conversion.secrets.values})
    counts = [f"{sum(remark.what == what for remark in conversion.remarks)} {what}" for what in (CHANGED, RENAMED, REFUSED)]
    made = [counted(gateways, "GatewayConfig"), counted(models, "VirtualModel"), counted(secrets, "Secret")]
    return f"{', '.join(made)} written; {', '.join(counts)}."
