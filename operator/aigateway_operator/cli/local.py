"""`aigateway local DIR`: a folder of manifests instead of a cluster, checked, planned and rendered as in one.

VirtualModels, GatewayConfigs and Secrets of DIR become the files that pods would mount, below DIR/.aigateway, and follow every
change of DIR. What is broken is named with file and line, and what was valid before stays. With --serve the gateway runs on it.
"""

from __future__ import annotations

# Flags in, rounds, events out; the work is in the modules named `local_*`. Imports neither kopf nor the Kubernetes client.
import argparse
import asyncio
import os
import signal
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from aigateway_operator.cli import flags
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.local_folder import ManifestFolder
from aigateway_operator.cli.local_report import Report
from aigateway_operator.cli.local_rounds import Gateway, Round, Rounds
from aigateway_operator.cli.local_serving import choose, serve_gateway, settings_of
from aigateway_operator.cli.manifests import SUFFIXES
from aigateway_operator.errors import SettingsError
from aigateway_operator.local.rendered import FOLDER, Rendered
from aigateway_operator.local.watch import ManifestWatch
from aigateway_operator.rules import RuleContext

LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""Allowed unless flag or variable name something else: a model server on one's own machine is what this is for."""


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("local", help="a folder of manifests instead of a cluster", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of manifests (YAML or JSON), Secrets among them")
    parser.add_argument("-R", "--recursive", action="store_true", help="also read folders inside it; hidden ones never")
    parser.add_argument("--serve", action="store_true", help="run the gateway on it (needs the extra 'gateway')")
    parser.add_argument("--once", action="store_true", help="render once and end: 1 if anything is wrong")
    parser.add_argument("--gateway", metavar="NAME", help="which one to serve, if there are several: NAME or NAMESPACE/NAME")
    parser.add_argument("--host", help="address to serve at; default: 127.0.0.1, whatever spec.app.host says")
    parser.add_argument("--port", type=int, help="port to serve at, 0 for any free one; default: spec.app.port")
    parser.add_argument("--render-to", type=Path, metavar="FOLDER", help=f"where rendered files go; default: DIR/{FOLDER}")
    parser.add_argument("-o", "--output", choices=("json",), help="print a JSON object a line instead of text for people")
    flags.add_namespace(parser, "'default', for objects that name none")
    flags.add_rules(parser)


def run(args: argparse.Namespace) -> int:
    """Follow the folder until SIGINT or SIGTERM. Raises SettingsError for what cannot be started."""
    if args.once and args.serve:
        raise SettingsError("--once renders and ends, --serve stays. Leave one of them out.")
    if not args.folder.is_dir():
        raise SettingsError(f"{args.folder} is no folder. Name a folder of manifests.")
    return asyncio.run(_Local(args).run())


class _Local:
    """The running command."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._allowed = flags.allowed_addresses(args) or (() if flags.ALLOW_ADDRESSES in os.environ else LOOPBACK)
        context = RuleContext("", self._allowed, flags.cluster_domain(args))
        folder = ManifestFolder(args.folder, args.namespace or "default", context, recursive=args.recursive)
        self._rendered = Rendered(args.render_to or args.folder / FOLDER)
        self._rounds = Rounds(folder, self._rendered, context)
        self._watch = ManifestWatch(args.folder, SUFFIXES, recursive=args.recursive)
        self._report = Report(as_json=args.output == "json")
        self._last = Round([], ())
        self._made = asyncio.Event()
        self._stop = asyncio.Event()
        self._signal: int | None = None
        self._served: Gateway | None = None

    async def run(self) -> Exit:
        """Make a first round, then follow and serve."""
        with self._rendered.held():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)
            self._report.started(str(self._args.folder), self._allowed)
            await self._round()
            if self._args.once:
                return Exit.REFUSED if self._last.refused else Exit.FINE
            await self._until_stopped()
        return Exit.INTERRUPTED if self._signal == signal.SIGINT else Exit.FINE

    def _end(self, number: int) -> None:
        self._signal = self._signal or number
        self._stop.set()

    async def _until_stopped(self) -> None:
        """Follow and serve; what fails ends both."""
        following = asyncio.create_task(self._follow())
        work = [following, asyncio.create_task(self._serve() if self._args.serve else self._stop.wait())]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await self._watch.changed(self._last.wake_after_seconds)
            await self._round()

    async def _round(self) -> None:
        self._watch.note()
        self._last = await asyncio.to_thread(self._rounds.make)
        self._report.round(self._last)
        self._check_port()
        self._made.set()

    def _check_port(self) -> None:
        """Say when the gateway that is served is to listen on another port: a socket that is open stays where it is."""
        served = self._served
        now = next((one for one in self._last.gateways if served is not None and one.key == served.key), None)
        if served is not None and now is not None and now.port != served.port and self._args.port is None:
            self._report.restart_required(now.key, f"app.port ({served.port} → {now.port})")
            self._served = now

    async def _serve(self) -> None:
        """Serve as soon as there is something to serve."""
        wanted = self._args.gateway
        told = False
        while (key := choose([gateway.key for gateway in self._last.gateways] + self._last.held, wanted)) is None:
            if not told:
                self._report.waiting(wanted or "gateway")
                told = True
            self._made.clear()
            stopped = asyncio.create_task(self._stop.wait())
            made = asyncio.create_task(self._made.wait())
            await asyncio.wait((stopped, made), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            made.cancel()
            if self._stop.is_set():
                return
        chosen = key
        self._served = next((one for one in self._last.gateways if one.key == key), None)
        settings = settings_of(self._rendered.folder(key), self._args.host, self._args.port, self._allowed)
        await serve_gateway(settings, lambda url: self._report.serving(chosen, url), self._stop)
