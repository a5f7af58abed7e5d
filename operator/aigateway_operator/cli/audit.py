"""`aigateway audit [KIND/NAME]`: who changed what, when, and what became of it: admission, storage, rendering, pods.

Reads the records that webhook and controller keep in MongoDB, or their log files where MongoDB is away or none is named.
The settings are the operator's own, so that in one of its pods `aigateway audit` needs no flag. Writes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from aigateway_operator.api.meta import GATEWAY_CONFIG, VIRTUAL_MODEL
from aigateway_operator.cli import flags
from aigateway_operator.cli.audit_sources import MAX_RECORDS, Record, read_files, read_mongodb
from aigateway_operator.cli.audit_trail import Wanted, lines, timeline
from aigateway_operator.cli.cluster import chosen_namespace
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.output import paint, print_data, say
from aigateway_operator.errors import SettingsError, Unavailable

_KINDS: Final = {
    **dict.fromkeys(("virtualmodel", "virtualmodels", "vmodel", "vmodels"), VIRTUAL_MODEL),
    **dict.fromkeys(("gatewayconfig", "gatewayconfigs", "gwc"), GATEWAY_CONFIG),
}
_URI: Final = "AIGATEWAY_LOG_MONGODB_URI"
_AWAY: Final = "Name another with --mongodb-uri-file, or read a process's log files with --log-dir."


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("audit", help="who changed what, when, and what became of it", description=__doc__)
    parser.add_argument("object", nargs="?", type=_object, metavar="KIND/NAME", help="vmodel/NAME or gwc/NAME; default: all")
    parser.add_argument(
        "--since", type=flags.parse_duration, default=86_400.0, metavar="TIME", help="how far back, as 30m or 2h; default: 24h"
    )
    parser.add_argument("--user", metavar="NAME", help="only edits of this user")
    parser.add_argument("--trace", metavar="ID", help="only the edit with this trace id, wherever it is")
    parser.add_argument(
        "--mongodb-uri-file", type=Path, metavar="FILE", help=f"file with the MongoDB URI; default: ${_URI}_FILE, ${_URI}"
    )
    parser.add_argument("--database", metavar="NAME", help="default: $AIGATEWAY_LOG_MONGODB_DATABASE or ai_gateway")
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="log files, read where MongoDB is away; default: $AIGATEWAY_LOG_DIR"
    )
    flags.add_cluster(parser)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the timeline; 3 if MongoDB is away and no files are named. Raises SettingsError."""
    now = datetime.now(UTC)
    try:
        records = _records(args, now - timedelta(seconds=args.since))
    except Unavailable as error:
        say(f"error: {error}\n{_AWAY}")
        return Exit.CLUSTER
    kind, name = args.object or (None, None)
    everywhere = args.trace is not None
    wanted = Wanted(None if everywhere else chosen_namespace(args), kind, name, args.user, args.trace)
    entries = timeline(records, wanted)
    if len(records) == MAX_RECORDS:
        say(f"Only the newest {MAX_RECORDS} records were read: ask for a shorter --since to see what is older.", "yellow")
    if args.output:
        print_data([entry.as_json() for entry in entries], args.output)
        return Exit.FINE
    for text, colour in lines(entries):
        print(paint(text, colour, sys.stdout))
    if not entries:
        say("Nothing in that time. Look further back with --since, or elsewhere with -n or -A.")
    return Exit.FINE


def _records(args: argparse.Namespace, since: datetime) -> list[Record]:
    uri: str | None = _uri(args)
    folder: Path | None = args.log_dir or _path("AIGATEWAY_LOG_DIR")
    if uri is not None:
        database = args.database or os.environ.get("AIGATEWAY_LOG_MONGODB_DATABASE") or "ai_gateway"
        try:
            return read_mongodb(uri, database, since)
        except Unavailable as error:
            if folder is None:
                raise
            say(f"{error}. Reading the files of {folder} instead: they hold what this process wrote.", "yellow")
    if folder is None:
        raise SettingsError(
            "It is not known where records are kept. Set --mongodb-uri-file or --log-dir (in the operator's pods the "
            "environment says it: kubectl exec -n aigateway-system deploy/aigateway-operator -- aigateway audit)."
        )
    return read_files(folder, since)


def _uri(args: argparse.Namespace) -> str | None:
    path = args.mongodb_uri_file or _path(f"{_URI}_FILE")
    if path is None:
        return os.environ.get(_URI) or None
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise SettingsError(f"The MongoDB URI's file {path} cannot be read: {error.strerror}") from None


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _object(text: str) -> tuple[str, str]:
    """Parse `vmodel/NAME`, or what `kubectl get -o name` prints; argparse turns the error into a usage message."""
    kind, _, name = text.partition("/")
    found = _KINDS.get(kind.lower().partition(".")[0])
    if found is None or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is neither vmodel/NAME nor gwc/NAME")
    return found, name
