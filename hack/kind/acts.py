"""What the demo on kind shows, step by step; each checks what it shows, and a step that fails ends the demo.

Called by `hack.kind.__main__` with a cluster on which the images are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from hack.demo.screen import Screen
from hack.kind import commands
from hack.kind.calls import Caller
from hack.kind.cluster import Cluster, CommandError
from hack.kind.commands import Command

RELOAD_SECONDS: Final = 10
"""Longest time until an edit is served: docs/performance.md#goals has about a second, a busy laptop is given ten."""


class Show:
    """Runs steps on a cluster, shows their commands, and keeps how long each took."""

    def __init__(self, cluster: Cluster, screen: Screen, tag: str) -> None:
        """`tag` is that of the images on the nodes."""
        self.cluster = cluster
        self.screen = screen
        self.tag = tag
        self.rows: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Head a step and time it."""
        self.screen.title(title)
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self.rows.append((title, seconds))
        self.screen.say(f"Done in {seconds:.1f} s.")

    def run(self, command: Command) -> str:
        """Show a command, run it, show what it said."""
        self.screen.command(str(command))
        said = self.cluster.run(command)
        self.screen.output(said.splitlines()[-12:])
        return said


def install(show: Show) -> None:
    """The operator, from the chart."""
    with show.step("Install the operator"):
        show.run(commands.install_operator(show.tag))
        show.run(commands.test_operator())


def quick_start(show: Show) -> None:
    """A gateway, its model, and a first call."""
    with show.step("Quick start: a gateway with one model"):
        show.run(commands.apply_namespace())
        for command in commands.apply_upstream(show.tag):
            show.run(command)
        show.run(commands.wait_upstream())
        show.run(commands.install_gateway(show.tag))
        show.run(commands.wait_for(f"vmodel/{commands.MODEL}", "Ready"))
        show.run(commands.wait_for(f"gwc/{commands.GATEWAY}", "Propagated"))
        show.run(commands.show_gateway())
        with Caller(show.cluster) as caller:
            caller.ask_until("I am small-model.", within_seconds=30)
            show.screen.say("A caller asked for `chat` and was answered: I am small-model.")


def hot_reload(show: Show) -> None:
    """An edit reaches running pods, and none of them restarts."""
    with show.step("Hot reload: switch the live backend"), Caller(show.cluster) as caller:
        before = show.run(commands.list_pods())
        caller.ask_until("I am small-model.", within_seconds=RELOAD_SECONDS)
        show.run(commands.switch_to("big"))
        seconds = caller.ask_until("I am big-model.", within_seconds=RELOAD_SECONDS)
        show.run(commands.wait_for(f"gwc/{commands.GATEWAY}", "Propagated"))
        after = show.run(commands.list_pods())
        if not before.strip() or before != after:
            raise CommandError(f"pods or restarts have changed:\n{before}\n{after}")
        show.screen.say(
            f"Served by the other backend {seconds:.2f} s after the edit; same pods, no restart, all have proved it."
        )


def refused_edit(show: Show) -> None:
    """Bad edits are refused with the reason, and what is served stays."""
    with show.step("Refused edits"), Caller(show.cluster) as caller:
        for command, because in commands.refused_edits():
            show.screen.command(str(command))
            show.screen.quote(show.cluster.run_refused(command, because))
        caller.ask_until("I am big-model.", within_seconds=RELOAD_SECONDS)


def upgrade(show: Show) -> None:
    """The operator is upgraded while callers call; afterwards edits arrive as before."""
    with show.step("Upgrade while callers call"), Caller(show.cluster) as caller:
        calls, failed = _calling(caller, lambda: show.run(commands.install_operator(show.tag, upgrade=True)))
        if failed or not calls:
            raise CommandError(f"of {calls} calls {len(failed)} failed, the first: {failed[:1]}")
        show.screen.say(f"{calls} calls were made meanwhile; none failed.")
        show.run(commands.switch_to("small"))
        caller.ask_until("I am small-model.", within_seconds=RELOAD_SECONDS)


def uninstall(show: Show) -> None:
    """The operator goes; resources, documents and the gateway stay, and callers are served."""
    with show.step("Uninstall: the operator goes, what is served stays"):
        with Caller(show.cluster) as caller:
            show.run(commands.uninstall("aigateway", commands.SYSTEM))
            show.run(commands.list_left())
            caller.ask_until("I am small-model.", within_seconds=RELOAD_SECONDS)
        show.run(commands.wait_gone())
        if left := show.run(commands.list_system()).strip():
            raise CommandError(f"the uninstall left {left}")
        show.run(commands.uninstall("gateway", commands.NAMESPACE))
        show.run(commands.list_left())


ACTS: Final[tuple[Callable[[Show], None], ...]] = (install, quick_start, hot_reload, refused_edit, upgrade, uninstall)
"""In order; each stands on those before it."""


def _calling(caller: Caller, work: Callable[[], object]) -> tuple[int, list[str]]:
    """Call ten times a second while `work` goes on; how many calls were made, and what the failed ones said."""
    done = threading.Event()
    calls, failed = 0, list[str]()

    def call() -> None:
        nonlocal calls
        while not done.is_set():
            calls += 1
            try:
                caller.ask()
            except CommandError as error:
                failed.append(str(error))
            done.wait(0.1)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join(timeout=30)
    return calls, failed
