"""Datastores for tests and the demo: a real Redis, and a MongoDB wire server (FerretDB on SQLite).

Both listen on a free port of 127.0.0.1 and keep data over `kill` and `restart`. FerretDB knows no TTL index and scans
every filtered find, so keep collections small. It must not know what is stored. Called by tests, the demo and
`python -m hack up`.
"""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.process import REAPER, ServerError, ServerProcess, free_ports, listening

_READY_WITHIN_SECONDS = 20


class _Store:
    """What both have in common: a folder, a port, a process. `host` and `port` are where it listens."""

    binary_name: str
    host = "127.0.0.1"

    def __init__(self, directory: Path | None, binary: Path | None) -> None:
        if binary is None:
            from hack.binaries import ensure  # late: those who bring their own need none of it

            binary = ensure([self.binary_name])[self.binary_name]
        self._binary = binary
        self._temporary = directory is None
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix=f"aigateway-{self.binary_name}-"))
            REAPER.tell("+folder", directory)
        self.directory = directory.resolve()
        self._data = self.directory / "data"
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._process = ServerProcess(self.binary_name, self.directory / f"{self.binary_name}.log")
        self.port = free_ports(1)[0]

    @property
    def pid(self) -> int | None:
        """Process id; None when it does not run."""
        return self._process.pid

    def restart(self) -> None:
        """Kill it if it runs, and start it on the same port with the same data; returns when it answers."""
        self._process.kill()
        try:
            self._process.start(self._command())
            self._process.wait_ready(self._ready, _READY_WITHIN_SECONDS)
        except BaseException:
            self._process.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: connections break, the port refuses."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: it accepts connections and answers nothing."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._process.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and remove a temporary folder. May be called again."""
        self._process.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
            REAPER.tell("-folder", self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def begin(self) -> Self:
        """What `start` does: another process may take the port meanwhile, so a second one is tried."""
        try:
            self.restart()
        except ServerError:
            if not listening(self.port):
                self.stop()
                raise
            self.port = free_ports(1)[0]
            self.restart()
        return self

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _ready(self) -> bool:
        return listening(self.port)


class RedisServer(_Store):
    """A Redis. `password` is None when it asks for none. Writes reach the append-only file before they are answered, so
    SIGKILL loses none.
    """

    binary_name = "redis-server"

    def __init__(self, directory: Path | None, password: str | None, binary: Path | None) -> None:
        """Use `start`."""
        super().__init__(directory, binary)
        self.password = password

    @classmethod
    def start(cls, directory: Path | None = None, *, password: str | None = None, binary: Path | None = None) -> Self:
        """Start one and return when it answers. `directory` None is temporary; `binary` None asks `hack.binaries`."""
        return cls(directory, password, binary).begin()

    @property
    def url(self) -> str:
        """`redis://…/0`, with the password if there is one."""
        return f"redis://{f':{self.password}@' if self.password else ''}{self.host}:{self.port}/0"

    def _command(self) -> list[str | Path]:
        config = self.directory / "redis.conf"
        config.touch(mode=0o600)  # the password goes in here: a command line could be read by anyone
        lines = [
            f"bind {self.host}", f"port {self.port}", f'dir "{self._data}"', 'save ""', "appendonly yes", "appendfsync no",
            "databases 16", "daemonize no",
        ]  # fmt: skip
        config.write_text("\n".join([*lines, f'requirepass "{self.password}"'] if self.password else lines) + "\n")
        return [self._binary, config]

    def _ready(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))


class MongoServer(_Store):
    """A MongoDB wire server without authentication; see `hack/servers/mongowire`. Its garbage is collected later than by
    Go's default, and it formats no statements for a log at DEBUG; SQLite's durability is untouched (docs/decisions.md, Logs).
    """

    binary_name = "mongowire"

    @classmethod
    def start(cls, directory: Path | None = None, *, binary: Path | None = None) -> Self:
        """Start one and return when it accepts. `directory` None is temporary; `binary` None asks `hack.binaries`."""
        return cls(directory, binary).begin()

    @property
    def url(self) -> str:
        """`mongodb://…`, for any driver."""
        return f"mongodb://{self.host}:{self.port}/?directConnection=true"

    def _command(self) -> list[str | Path]:
        return [self._binary, "-listen", f"{self.host}:{self.port}", "-dir", self._data]
