"""A cluster to run commands on, with a kubeconfig of its own: the user's is neither read nor changed.

It must not know what the commands are for. Called by `hack.kind.acts` and `hack.kind.__main__`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.kind.commands import ROOT, Command


class CommandError(RuntimeError):
    """A command failed, or one that had to be refused was accepted; the text holds the command and what it said."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`programs` maps kind, helm and kubectl to the files to run; `kubeconfig` is where kind writes, and the others read."""

    programs: Mapping[str, Path]
    kubeconfig: Path

    def run(self, command: Command) -> str:
        """Run a command and return its standard output. CommandError when it fails."""
        done = self._done(command)
        if done.returncode:
            raise CommandError(f"{command}\nended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def run_refused(self, command: Command, because: str) -> str:
        """Run a command that must be refused for a reason that is told; return what it said. CommandError otherwise."""
        done = self._done(command)
        if done.returncode == 0:
            raise CommandError(f"{command}\nwas accepted, and had to be refused")
        if because not in done.stderr:
            raise CommandError(f"{command}\nwas refused without saying {because!r}: {done.stderr.strip()[-2000:]}")
        return done.stderr.strip()

    def start(self, command: Command) -> subprocess.Popen[str]:
        """Start a command that goes on; whoever starts it ends it."""
        return subprocess.Popen(
            self.words(command), cwd=ROOT, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def words(self, command: Command) -> list[str]:
        """The command with the file that is run in place of the program's name."""
        return [str(self.programs.get(command.program, Path(command.program))), *command.arguments]

    def _done(self, command: Command) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                self.words(command), cwd=ROOT, env=self._environment(), input=command.input, capture_output=True,
                text=True, timeout=command.limit_seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{command}\nwas not done after {command.limit_seconds:.0f} s") from error
        except OSError as error:
            raise CommandError(f"{command}\ncould not be started: {error}") from error

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
