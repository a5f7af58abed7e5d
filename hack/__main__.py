"""The command line of `hack/`: `python -m hack binaries | rights | image | up | down | status | env | logs`.

Only parses arguments and prints. What it starts lives in `hack.developer`. Called by people and the Makefile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from hack import developer, rights
from hack.binaries import ALL, MissingBinaries, ensure, locate
from hack.image.build import add_arguments as add_image_arguments
from hack.image.build import image
from hack.process import ServerError
from hack.progress import Progress, duration
from hack.tools import ToolError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed (the reason on standard error), 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m hack",
        description="Real servers for tests, the demo and developers: binaries and a local control plane.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    binaries = command("binaries", _binaries, "get all real binaries: find, download or build them")
    binaries.add_argument("names", nargs="*", metavar="NAME", help=f"only these; there are {', '.join(ALL)}")
    binaries.add_argument("--check", action="store_true", help="only look; fail when one is missing")
    up = command(
        "up",
        lambda given: developer.up(keep_logs=given.keep_logs),
        "start a control plane, Redis and MongoDB in the background",
    )
    up.add_argument("--keep-logs", action="store_true", help="`down` leaves the logs in .dev/logs")
    command("down", lambda _: developer.down(), "stop them; nothing is left behind")
    command("status", lambda _: developer.status(), "say what runs; exit code 1 when nothing does")
    command("env", lambda _: developer.env(), 'print export lines, for `eval "$(python -m hack env)"`')
    logs = command("logs", lambda given: developer.logs(given.name), "print the servers' logs")
    logs.add_argument("name", nargs="?", help="only this one, as kube-apiserver")
    serve = command(
        "serve", lambda given: developer.serve(keep_logs=given.keep_logs), "what `up` starts: runs in the foreground"
    )
    serve.add_argument("--keep-logs", action="store_true")
    command("rights", _rights, "bring hack/manifests/operator.yaml up to date with the chart")
    add_image_arguments(command("image", image, "build both container images and check what is inside"))
    given = parser.parse_args(arguments)
    try:
        code: int = given.run(given)
    except (MissingBinaries, ServerError, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; call it again to go on.", file=sys.stderr)
        return 130
    return code


def _rights(_: argparse.Namespace) -> int:
    changed = rights.write(ensure(["helm"])["helm"])
    print(f"{rights.MANIFESTS.relative_to(rights.ROOT)}: {'written' if changed else 'up to date'}")
    return 0


def _binaries(given: argparse.Namespace) -> int:
    started = time.monotonic()
    names = given.names or ALL
    paths = locate(names) if given.check else ensure(names, progress=Progress())
    for name, path in paths.items():
        print(f"{name:<24} {path}")
    print(f"All there after {duration(time.monotonic() - started)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
