"""`python -m hack.kind`: make a cluster of kind, show the chart and both images at work on it, take it away.

Exit code 0 only if everything shown was true; 1 with what is missing and what to use instead. Called by `make demo-kind`
and the workflow e2e.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hack.binaries import MissingBinaries, ensure
from hack.demo.screen import Screen
from hack.gobuild import BuildError
from hack.image.build import add_arguments as add_image_arguments
from hack.image.build import image
from hack.image.engine import EngineError, why_unfit
from hack.image.steps import TARGETS
from hack.kind import commands
from hack.kind.acts import ACTS, Show
from hack.kind.binary import get_kind
from hack.kind.cluster import Cluster, CommandError
from hack.progress import Progress

NAME: Final = "aigateway-demo"
INSTEAD: Final = "Instead: `make demo` shows the same on a real API server, and needs no container engine."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0: all was true, 1: something was not, or is missing, 130: interrupted."""
    given = parse(arguments)
    os.chdir(commands.ROOT)  # commands name files as a user in the clone would
    try:
        return _on_given(given) if given.kubeconfig else _on_kind(given)
    except KeyboardInterrupt:
        print(f"\nInterrupted. `kind delete cluster --name={given.name}` takes away what may be left.", file=sys.stderr)
        return 130
    except (MissingBinaries, BuildError, EngineError, CommandError) as error:
        print(f"\nThe demo could not go on: {error}\n{INSTEAD}", file=sys.stderr)
        return 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m hack.kind", description="The chart and both images on a cluster of kind.")
    newest = list(commands.NODE_IMAGES)[-1]
    parser.add_argument("--kubernetes", default=newest, choices=list(commands.NODE_IMAGES), help="default: %(default)s")
    parser.add_argument("--node-image", default="", help="any other image of a kind node")
    parser.add_argument("--name", default=NAME, help="name of the cluster (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--tag", default="demo", help="tag of the images (default: %(default)s)")
    parser.add_argument("--base", default="", help="base image of ours, as for `python -m hack image`")
    parser.add_argument("--images", choices=["build", "there"], default="build", help="there: they are built already")
    parser.add_argument(
        "--kubeconfig", type=Path, default=None, help="use this cluster, whose nodes have the images, and make none"
    )
    return parser.parse_args(arguments)


def _on_kind(given: argparse.Namespace) -> int:
    screen = Screen()
    if reason := why_unfit("docker"):
        raise EngineError(f"kind needs Docker, and docker is not usable here: {reason}.")
    progress = Progress()
    programs = {"kind": get_kind(progress), **ensure(["helm", "kubectl"], progress=progress)}
    started = time.monotonic()
    screen.title("Images and cluster")
    if given.images == "build" and (code := _build(given)):
        return code
    with tempfile.TemporaryDirectory(prefix="aigateway-kind-") as folder:
        cluster = Cluster(programs, Path(folder) / "kubeconfig")
        show = Show(cluster, screen, given.tag)
        try:
            with show.step("Cluster"):
                node = given.node_image or commands.NODE_IMAGES[given.kubernetes]
                show.run(commands.create_cluster(given.name, node))
                show.run(commands.load_images(given.name, given.tag))
            _act(show, started)
        finally:
            if given.keep:
                screen.say(
                    f"The cluster stays: kind export kubeconfig --name={given.name}; kind delete cluster --name={given.name}"
                )
            else:
                cluster.run(commands.delete_cluster(given.name))
    return 0


def _on_given(given: argparse.Namespace) -> int:
    programs = ensure(["helm", "kubectl"], progress=Progress())
    _act(Show(Cluster(programs, given.kubeconfig), Screen(), given.tag), time.monotonic())
    return 0


def _build(given: argparse.Namespace) -> int:
    parser = argparse.ArgumentParser()
    add_image_arguments(parser)
    base = [f"--base={given.base}"] if given.base else []
    return image(parser.parse_args([*TARGETS, "--engine=docker", f"--tag={given.tag}", *base]))


def _act(show: Show, started: float) -> None:
    for act in ACTS:
        act(show)
    show.screen.title("All of it was true")
    for title, seconds in show.rows:
        show.screen.say(f"{seconds:7.1f} s  {title}")
    show.screen.say(f"{time.monotonic() - started:7.1f} s  together")


if __name__ == "__main__":
    sys.exit(main())
