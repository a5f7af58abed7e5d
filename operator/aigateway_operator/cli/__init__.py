"""The command line: `aigateway`, also found by kubectl as `kubectl aigateway`. One module a command.

Chooses the command and turns errors into a sentence and an exit code; what a command does is in its module, which is
imported only when it is asked for, so that `aigateway --help` and `aigateway check` need neither kopf nor a cluster.
Called by the console scripts and `__main__`. A command module has `register(subparsers)` and `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from aigateway_operator import __version__
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import AigatewayError, ClusterError, SettingsError, SpecError

if TYPE_CHECKING:
    from aigateway_operator.cli.cluster import Connect

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "run the operator"),
    "webhook": ("webhook", "serve admission reviews, or print the webhook's configuration"),
    "gateway": ("gateway", "serve callers: the OpenAI-compatible gateway"),
    "local": ("local", "a folder of manifests instead of a cluster: check, render, serve"),
    "crds": ("crds", "write or print the CustomResourceDefinitions"),
    "check": ("check", "check manifests by all rules, without a cluster"),
    "apply": ("apply", "apply models and gateways, waiting until the cluster takes them"),
    "render": ("render", "print what the operator would make of manifests, without a cluster"),
    "import": ("import_config", "turn a plain gateway configuration into manifests and Secrets"),
    "diff": ("diff", "compare what would be rendered now with what is live"),
    "status": ("status", "show gateways and models on one screen"),
    "doctor": ("doctor", "say what is wrong with an installation, and what to do"),
    "wait": ("wait", "wait until a model or gateway is ready"),
    "mount": ("mount", "print volumes, port and NetworkPolicy for the pods of a gateway"),
    "audit": ("audit", "who changed what, when, and what became of it"),
}
"""Command → its module in this package, and what it is for."""

_EXITS: Final = (
    "exit codes: 0 fine; 1 refused, different or not reached; 2 wrong usage, settings or files; 3 the cluster is out of reach; "
    "130 Ctrl-C"
)


def main(argv: Sequence[str] | None = None, *, connect: Connect | None = None) -> int:
    """Run one command and return its exit code, see `Exit`. `argv`: arguments without the program; None: the process's.

    `connect` opens the cluster, for tests; None: the cluster that `--kubeconfig` and `--context` name.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            parser = _parser(arguments)  # imports the command's module, and with it what an extra brings
            args, unknown = parser.parse_known_args(arguments)
            if unknown:
                args.parser.error(_unknown(unknown, args.parser))  # with the usage of the command, not of the program
        except SystemExit as end:  # argparse has printed the help or what is wrong
            return end.code if isinstance(end.code, int) else Exit.USAGE
        args.connect = connect
        code = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has left: nothing to say, and nowhere to say it; Python would try once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.FINE
    except (KeyboardInterrupt, asyncio.CancelledError):
        if sys.stderr.isatty():
            print(file=sys.stderr)  # the shell's next prompt stands on a line of its own, below ^C
        return Exit.INTERRUPTED
    except AigatewayError as error:
        print("\n".join(filter(None, (f"error: {error}", remedy_of(error)))), file=sys.stderr)
        return exit_of(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("aigateway"):
            raise  # a fault of ours
        remedy = "Install it with: pip install 'aigateway[operator]'"
        print(f"error: This command needs the extra 'operator' ({error.name} is not installed). {remedy}", file=sys.stderr)
        return Exit.USAGE
    return int(code)


def exit_of(error: AigatewayError) -> Exit:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, ClusterError):
        return Exit.CLUSTER
    return Exit.USAGE if isinstance(error, SettingsError | SpecError) else Exit.REFUSED


def _unknown(arguments: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Return what is wrong with arguments that a command does not take, and the flag that was meant."""
    first = arguments[0].partition("=")[0]
    closest = get_close_matches(first, parser._option_string_actions, 1) if first.startswith("--") else []  # noqa: SLF001
    meant = f". Did you mean {closest[0]}?" if closest else ""
    return f"unrecognized arguments: {' '.join(arguments)}{meant}"


def _program() -> str:
    """Return how the user called us: kubectl runs `kubectl-aigateway` for `kubectl aigateway`."""
    return "kubectl aigateway" if PurePath(sys.argv[0]).name.startswith("kubectl-") else "aigateway"


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser that knows the asked command in full and the others by name alone."""
    parser = argparse.ArgumentParser(
        prog=_program(), description="Kubernetes operator for LLM gateways, and its tools.", epilog=_EXITS
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    if asked is not None and asked not in COMMANDS:
        closest = get_close_matches(asked, COMMANDS, 1)
        meant = f"Did you mean '{closest[0]}'?" if closest else f"Commands: {', '.join(COMMANDS)}."
        parser.error(f"invalid choice: '{asked}'. {meant}")
    for command, (module_name, text) in COMMANDS.items():
        if command == asked:
            module = import_module(f"aigateway_operator.cli.{module_name}")
            module.register(subparsers)
            chosen = subparsers.choices[command]
            chosen.set_defaults(run=module.run, parser=chosen)
            chosen.epilog = chosen.epilog or _EXITS
        else:
            subparsers.add_parser(command, help=text)
    return parser
