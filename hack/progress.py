"""Tells a person what is being done, why, how long that usually takes, and that it still goes on.

On a terminal one line ticks with the elapsed time; elsewhere (a CI log) a plain line comes every half minute. It writes
to standard error, so that standard output stays for results. Called by `hack.binaries` and what it uses.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_PLAIN_EVERY_SECONDS = 30.0
_TICK_SECONDS = 1.0


class Step:
    """One thing being done. `note` may be called from any thread, as often as there is news."""

    def __init__(self, title: str) -> None:
        """`title` names the thing and what is done with it."""
        self.title = title
        self.started = time.monotonic()
        self.noted = ""

    def note(self, text: str) -> None:
        """Say how far it is, as in "412 packages compiled"."""
        self.noted = text

    def __str__(self) -> str:
        detail = f", {self.noted}" if self.noted else ""
        return f"{self.title}: {duration(time.monotonic() - self.started)}{detail}"


class Progress:
    """All steps that go on at once, and the thread that keeps telling of them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream` None is standard error."""
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._active: list[Step] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def say(self, text: str) -> None:
        """One line that stays."""
        with self._lock:
            self._clear()
            self._stream.write(f"{text}\n")
            self._stream.flush()

    @contextmanager
    def step(self, title: str, usually: str = "") -> Iterator[Step]:
        """Announce a step, keep telling while it goes on, and say how it ended and after how long.

        `usually` is how long it takes as a rule, in words. An exception passes through, after "failed".
        """
        step = Step(title)
        self.say(f"  {title}{f' (usually {usually})' if usually else ''} …")
        with self._lock:
            self._active.append(step)
            if len(self._active) == 1:
                self._wake = threading.Event()
                threading.Thread(target=self._tell, args=(self._wake,), daemon=True).start()
        ended = "failed"
        try:
            yield step
            ended = "done"
        finally:
            with self._lock:
                self._active.remove(step)
                if not self._active:
                    self._wake.set()
            self.say(f"  {title}: {ended} after {duration(time.monotonic() - step.started)}")

    def _tell(self, ended: threading.Event) -> None:
        while not ended.wait(_TICK_SECONDS if self._terminal else _PLAIN_EVERY_SECONDS):
            with self._lock:
                texts = [f"  … {step}" for step in self._active]
                if self._terminal:
                    self._clear()
                    width = shutil.get_terminal_size().columns - 1
                    self._stream.write("; ".join(texts)[:width])
                else:
                    self._stream.writelines(f"{text}\n" for text in texts)
                self._stream.flush()

    def _clear(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[K")


def duration(seconds: float) -> str:
    """Seconds in words: "8 s", "3 min 05 s"."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
