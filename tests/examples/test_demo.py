"""`make demo`, run as a program: everything it shows is true, it tells when something is not, and it clears up after itself."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.controlplane import NEEDED
from tests.conftest import require_binaries
from tests.eventually import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
DEMO_SECONDS = 150


@pytest.fixture(autouse=True)
def servers() -> None:
    """The demo would fetch missing servers by itself; a test does not."""
    require_binaries(NEEDED)


def command(*arguments: str) -> list[str]:
    """Return the command line of `make demo`."""
    return [sys.executable, "-m", "hack.demo", *arguments]


def environment() -> dict[str, str]:
    """Return what the demo needs of ours, without a terminal's colours."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def assert_gone(operator_pid: int, folder: Path) -> None:
    """Neither the operator's process, nor a server that was started from the demo's folder, nor the folder is left."""
    assert "aigateway_operator" not in _read(Path(f"/proc/{operator_pid}/cmdline"))
    left = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder) in _read(path)]
    assert left == []
    assert not folder.exists()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def find(pattern: str, text: str) -> str:
    """Return the first group of the first match; fail with the whole text when there is none."""
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in:\n{text}"
    return match[1]


def assert_it_ends_at_the_caller(shown: str) -> None:
    """A request by the official client is answered by the other backend after the flip, proved by both pods, with its time."""
    acts = re.split(r"^── (.+?) ─+$", shown, flags=re.MULTILINE)
    text = dict(zip(acts[1::2], acts[2::2], strict=True))
    before = text["A real request, by the official `openai` client"]
    after = text["`current` flipped: callers get the other backend"]
    for number in range(2):
        assert f"front-{number}: “I am gpt-4o-mini.”" in before
        assert re.search(rf"front-{number}: “I am gpt-4o\.”  \[(<?\d+ ms|[\d.]+ s)\]", after), after
    assert "kubectl patch -n ai vmodel assistant" in after
    assert "Propagated=True" in after
    assert int(find(r"(\d+) requests meanwhile, none failed", after)) > 20
    assert re.search(r"front +\d+ +2/2 +Up +True", after), after
    refused = text["A refused edit is felt by no caller"]
    assert "* spec.app.prot: Cannot add new key 'prot'" in refused
    assert "* spec.storage.redis.host: Not an allowed host" in refused
    assert "DatastoresReady=False  Down" in text["A datastore stopped, and back"]


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    """A demo that has its operator running, as a group of its own; killed afterwards if it still runs."""
    process = subprocess.Popen(
        command(),
        cwd=ROOT,
        env=environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_everything_shown_is_true_and_stays_reachable_until_stopped() -> None:
    """Exit code 0 means that each step was true; with --keep its kubeconfig works until the named process is stopped."""
    done = subprocess.run(
        command("--keep"), cwd=ROOT, env=environment(), text=True, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=DEMO_SECONDS, check=False,
    )  # fmt: skip
    kubeconfig = Path(find(r"export KUBECONFIG=(\S+)", done.stdout))
    keeper = int(find(r"\$ kill (\d+)", done.stdout))
    operator_pid = int(find(r"runs as process (\d+)", done.stdout))
    try:
        assert done.returncode == 0, done.stdout
        assert "NOT TRUE" not in done.stdout
        assert_it_ends_at_the_caller(done.stdout)
        kubectl = require_binaries(["kubectl"])["kubectl"]
        listed = subprocess.run(
            [kubectl, f"--kubeconfig={kubeconfig}", "get", "vmodel", "-n", "ai", "-o", "name"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert "virtualmodel.ai-gateway.io/chat" in listed.stdout, listed.stderr
        for key, url in re.findall(r"curl -H '(Authorization: .+?)' (\S+)", done.stdout):
            name, _, value = key.partition(": ")
            with urllib.request.urlopen(urllib.request.Request(url, headers={name: value}), timeout=10) as answer:
                assert [model["id"] for model in json.load(answer)["data"]] == ["assistant"]
    finally:
        os.kill(keeper, signal.SIGTERM)
    eventually(lambda: assert_gone(operator_pid, kubeconfig.parent), within_seconds=20)


def test_an_interrupt_leaves_nothing_behind(demo: subprocess.Popen[str]) -> None:
    """Ctrl-C in the middle of an act ends with 130; no process and no folder is left."""
    assert demo.stdout is not None
    seen = ""
    while "runs as process" not in seen:
        line = demo.stdout.readline()
        assert line, f"the demo ended early:\n{seen}"
        seen += line
    operator_pid = int(find(r"runs as process (\d+)", seen))
    folder = Path(
        find(r"AIGATEWAY_KUBECONFIG=(/[^\0]+)/operator/operator\.kubeconfig", _read(Path(f"/proc/{operator_pid}/environ")))
    )
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 130
    eventually(lambda: assert_gone(operator_pid, folder), within_seconds=10)


def test_what_is_not_true_ends_with_a_failure() -> None:
    """A step whose claim does not hold is marked in the table, the others go on, and the exit code is 1."""
    program = """
import sys
import hack.demo.__main__ as demo
from hack.demo.show import check

def wrong(show):
    with show.step("two is three"):
        check(2 == 3, "two is two")

def right(show):
    with show.step("two is two"):
        check(2 == 2, "two is three")

demo.ACTS = (wrong, right)
sys.exit(demo.main([]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), text=True, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=DEMO_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert re.search(r"✗ +two is three .*NOT TRUE", done.stdout)
    assert re.search(r"✓ +two is two ", done.stdout)
