"""Child processes that never outlive their owner: start, watch, pause, kill, and ports for them to listen on.

Every server of `hack/` runs through `ServerProcess`. It must not know what the servers are. Each runs in a process
group of its own, writes into a log file, and is registered with a reaper (`hack/reaper.py`): a tiny process that kills
what is left and removes temporary folders when this process ends, however it ends. `PR_SET_PDEATHSIG` would be shorter,
but it fires when the *thread* that started the child ends, so a server started from a worker thread would die early.
Called by `hack.controlplane`, `hack.stores` and `hack.developer`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LOG_TAIL_LINES = 15
_FALLBACK_FIRST_EPHEMERAL_PORT = 32768
_LOWEST_PORT = 15000


class ServerError(RuntimeError):
    """A server did not start, or died; the text names it and ends with the tail of its log."""


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of 127.0.0.1 on which nothing listens now.

    They lie below the kernel's ephemeral range on purpose: a client that keeps dialling a dead server's ephemeral port
    may be given that very port as its own, connect to itself, and keep the server from coming back. Another process may
    still take one before it is used: callers try again with others when a server says so.
    """
    highest = _first_ephemeral_port() - 1
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_LOWEST_PORT, highest), 400):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ServerError(f"no {count} free ports between {_LOWEST_PORT} and {highest} on 127.0.0.1")


def _first_ephemeral_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = _FALLBACK_FIRST_EPHEMERAL_PORT
    return first if first > _LOWEST_PORT + 2000 else 65535


class _Reaper:
    """The line to the reaper process of this interpreter: what must go when this interpreter goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def tell(self, order: str, subject: object) -> None:
        """Send one order (`+group`, `-group`, `+folder`, `-folder`) about a process group id or a path."""
        with self._lock:
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(f"{order} {subject}\n")
            self._process.stdin.flush()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        atexit.register(self._close, self._process)

    @staticmethod
    def _close(process: subprocess.Popen[str]) -> None:
        """End its input and wait until it has cleared up, so that nothing is left once the interpreter has gone."""
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


REAPER = _Reaper()


class ServerProcess:
    """One server: its command, its log, its life. Not for use from several threads at once."""

    def __init__(self, name: str, log: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """`name` is for messages; `log` is appended to over restarts; `environment` is added to a minimal one."""
        self.name = name
        self.log = log
        self._environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(log.parent), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, also that of its group; None when it does not run."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended by itself; None while it runs, before it was started and after `kill`."""
        return self._process.poll() if self._process is not None else None

    def start(self, command: Sequence[str | Path]) -> None:
        """Start `command`; its readiness is the caller's to wait for. ServerError when it already runs."""
        if self.running:
            raise ServerError(f"{self.name} already runs as process {self.pid}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self._environment, cwd=self.log.parent, start_new_session=True,
            )  # fmt: skip
        REAPER.tell("+group", self._process.pid)

    def wait_ready(self, ready: Callable[[], bool], within_seconds: float) -> float:
        """Poll `ready` until true; returns the seconds it took. ServerError with the log's tail when the server dies
        or is late. `ready` may raise OSError for "not yet".
        """
        started = time.monotonic()
        while (waited := time.monotonic() - started) < within_seconds:
            if not self.running:
                code = self._process.returncode if self._process else None
                raise ServerError(f"{self.name} ended with exit code {code} while starting.\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if ready():
                    return waited
            time.sleep(0.02)
        raise ServerError(f"{self.name} was not ready within {within_seconds:.0f} s.\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of the log, headed by its path."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError as error:
            return f"Its log cannot be read: {error}"
        return f"The end of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group. ServerError when nothing runs."""
        if not self.running or self._process is None:
            raise ServerError(f"{self.name} does not run, so it cannot be sent {number.name}")
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL for the group, and wait until it is gone. Nothing happens when nothing runs; a paused one dies too."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        REAPER.tell("-group", self._process.pid)
        self._process = None

    def terminate(self, within_seconds: float = 5.0) -> None:
        """SIGTERM, then SIGKILL for what is left after `within_seconds`."""
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=within_seconds)
        self.kill()


def listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:`port` within a quarter second."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.25):
            return True
    except OSError:
        return False
