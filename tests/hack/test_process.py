"""Child processes, ports and the waiting of tests."""

import asyncio
import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hack.process import ServerError, ServerProcess, free_ports
from hack.progress import Progress, duration
from tests.eventually import eventually, eventually_async


def test_ports_are_free_different_and_below_those_of_clients() -> None:
    """A client that dials a dead server must not be given the server's port as its own."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in ports:
        assert port < first_of_clients
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_killing_a_server_kills_its_children(tmp_path: Path) -> None:
    """The whole group goes."""
    server = ServerProcess("family", tmp_path / "log")
    server.start(["/bin/sh", "-c", "sleep 600 & echo $!; wait"])
    child = int(eventually(lambda: _first_line(tmp_path / "log"), within_seconds=20))
    server.kill()

    def gone() -> None:
        stat = Path(f"/proc/{child}/stat")
        assert not stat.exists() or " Z " in stat.read_text()

    eventually(gone, within_seconds=20)


def _first_line(path: Path) -> str:
    lines = path.read_text().splitlines()
    assert lines, "nothing written yet"
    return lines[0]


def test_a_server_that_is_late_is_reported_with_its_log(tmp_path: Path) -> None:
    """And one that runs cannot be started again."""
    server = ServerProcess("snail", tmp_path / "log")
    server.start(["/bin/sh", "-c", "echo thinking; exec sleep 600"])
    try:
        eventually(lambda: _first_line(tmp_path / "log"), within_seconds=20)
        with pytest.raises(ServerError, match=f"already runs as process {server.pid}"):
            server.start(["/bin/true"])
        with pytest.raises(ServerError, match=r"(?s)snail was not ready within 0 s.*thinking"):
            server.wait_ready(lambda: False, 0.1)
    finally:
        server.terminate()
    assert not server.running


@pytest.mark.parametrize("ending", ["pass", "import os; os.kill(os.getpid(), 9)", "import os; os._exit(3)", "raise OSError"])
def test_servers_and_folders_go_with_the_process_that_made_them(ending: str, tmp_path: Path) -> None:
    """However it ends."""
    folder = tmp_path / "folder"
    folder.mkdir()
    program = (
        "from pathlib import Path; from hack.process import *;"
        f"REAPER.tell('+folder', {str(folder)!r});"
        f"s = ServerProcess('s', Path({str(tmp_path / 'log')!r})); s.start(['/bin/sleep', '600']); print(s.pid, flush=True)"
        f"\n{ending}"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False, timeout=30)
    pid = int(done.stdout)

    def cleared() -> None:
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or " Z " in stat.read_text()
        assert not folder.exists()

    eventually(cleared, within_seconds=20)


def test_a_server_started_from_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    """Fixtures may be made in worker threads (that is why PR_SET_PDEATHSIG is not used)."""

    async def start() -> ServerProcess:
        server = ServerProcess("s", tmp_path / "log")
        await asyncio.to_thread(server.start, ["/bin/sleep", "600"])
        return server

    server = asyncio.run(start())
    try:
        time.sleep(0.1)  # nothing to wait for: the fault would be a death after the thread's end
        assert server.running
    finally:
        server.kill()


def test_progress_off_a_terminal_is_plain_lines_with_times() -> None:
    """A CI log has no cursor: no control characters, one line for the start, one for the end."""
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("helm 3: building", "1 minute"):
        pass
    with pytest.raises(ValueError, match="x"), progress.step("etcd: building"):
        raise ValueError("x")
    assert stream.getvalue().splitlines() == [
        "  helm 3: building (usually 1 minute) …",
        "  helm 3: building: done after 0 s",
        "  etcd: building …",
        "  etcd: building: failed after 0 s",
    ]
    assert duration(185.4) == "3 min 05 s"


def test_eventually_returns_what_the_check_returns_once_it_holds() -> None:
    """After as many tries as it takes."""
    tries: list[int] = []

    def check() -> str:
        tries.append(1)
        assert len(tries) == 3
        return "there"

    assert eventually(check, within_seconds=5, every_seconds=0.001) == "there"


def test_eventually_fails_with_the_last_state_seen() -> None:
    """The last assertion, and how long it was tried; never the first."""
    states = iter(range(1000))

    def check() -> None:
        raise AssertionError(f"state {next(states)}")

    with pytest.raises(AssertionError) as caught:
        eventually(check, within_seconds=0.5, every_seconds=0.01)
    last = next(states) - 1
    assert str(caught.value) == f"state {last}"
    assert last > 1
    assert caught.value.__notes__ == [
        f"still so after 0.5 s and {last + 1} tries; the above is the last state seen",
    ]


def test_eventually_lets_other_errors_through_at_once() -> None:
    """A check that is broken is no reason to wait."""
    tries: list[int] = []

    def check() -> None:
        tries.append(1)
        raise KeyError("broken")

    with pytest.raises(KeyError):
        eventually(check, within_seconds=5)
    assert len(tries) == 1


async def test_eventually_async_waits_and_does_not_hang_with_its_check() -> None:
    """A check that never answers is itself the failure."""
    tries: list[int] = []

    async def check() -> int:
        tries.append(1)
        assert len(tries) == 2
        return 7

    async def hang() -> None:
        await asyncio.sleep(600)

    assert await eventually_async(check, within_seconds=5, every_seconds=0.001) == 7
    with pytest.raises(AssertionError, match=r"the check itself hung for 0\.05 s"):
        await eventually_async(hang, within_seconds=0.05)
