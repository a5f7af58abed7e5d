"""`python -m hack up` and its kin, as a developer runs them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.binaries import ALL
from hack.controlplane import NEEDED
from tests.conftest import require_binaries

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).resolve().parents[2]
Hack = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where it all lies, instead of the work tree's `.dev`."""
    return tmp_path / "dev"


@pytest.fixture
def hack(folder: Path) -> Iterator[Hack]:
    """Run `python -m hack …`; whatever it left up is taken down."""
    require_binaries([*NEEDED, "redis-server", "mongowire"])
    environment = {**os.environ, "AIGATEWAY_DEV_FOLDER": str(folder)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "hack", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
            timeout=90, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    yield run
    run("down")


def processes_in(folder: Path) -> list[str]:
    """Command lines of all processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_up_env_status_and_down_work_as_said_and_leave_nothing(hack: Hack, folder: Path) -> None:
    """One story: up within 15 seconds, up again says so, the printed lines reach it, down removes everything."""
    assert hack("status").returncode == 1
    started = time.monotonic()
    up = hack("up")
    assert up.returncode == 0, up.stderr
    assert time.monotonic() - started < (15 if not os.environ.get("CI") else 40)

    assert "Already up" in hack("up").stdout
    assert "DEAD" not in hack("status").stdout
    kubectl = require_binaries(["kubectl"])["kubectl"]
    reached = subprocess.run(
        ["/bin/sh", "-c", f'eval "$1"; exec "{kubectl}" get namespaces', "sh", hack("env").stdout],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert "kube-system" in reached.stdout, reached.stderr
    found = subprocess.run(
        ["/bin/sh", "-c", 'eval "$1"; command -v kubectl', "sh", hack("env").stdout],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert found.stdout.strip() == str(kubectl), "the shell would take another kubectl, or none"
    assert "Ready to accept connections" in hack("logs", "redis-server").stdout

    down = hack("down")
    assert down.stdout == "Down. Nothing is left.\n"
    assert processes_in(folder) == []
    assert not folder.exists()
    assert hack("down").stdout == "Nothing is up.\n"


def test_down_keeps_logs_when_asked_and_a_dead_server_is_shown(hack: Hack, folder: Path) -> None:
    """`--keep-logs` keeps logs and nothing else."""
    hack("up", "--keep-logs")
    line = next(line for line in hack("status").stdout.splitlines() if "etcd" in line)
    os.kill(int(line.split()[-1]), signal.SIGKILL)
    assert "etcd                     DEAD" in hack("status").stdout

    assert "Logs are kept in" in hack("down").stdout

    assert processes_in(folder) == []
    assert [path.name for path in folder.iterdir()] == ["logs"]
    assert (folder / "logs" / "kube-apiserver.log").stat().st_size > 1000


def test_a_folder_that_holds_other_things_is_left_alone(hack: Hack, folder: Path) -> None:
    """A mistyped folder loses nothing."""
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    for command in ("up", "down"):
        refused = hack(command)
        assert refused.returncode == 1
        assert "holds other things" in refused.stderr
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_every_binary_that_is_needed_can_be_named() -> None:
    """What `binaries` fetches covers what the control plane and the stores ask for."""
    assert set(ALL) >= {*NEEDED, "redis-server", "mongowire", "helm"}
