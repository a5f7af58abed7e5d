"""Every command on a page is run as it stands, against a real API server with the operator, and prints what the page says.

A page is one story: its blocks run in order, each in a shell of its own in the root of the clone.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.controlplane import ControlPlane
from hack.operatorprocess import OperatorProcess
from tests.docs.pages import PAGES, ROOT, Block, blocks, missing_lines
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

EXAMPLE_NAMESPACE = "ai"
BLOCK_SECONDS = 60
WITH_COMMANDS = [page for page in PAGES if any(block.not_run_because is None for block in blocks(page, "bash"))]


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount, for the namespace of the examples."""
    with OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": EXAMPLE_NAMESPACE}) as started:
        yield started


@pytest.fixture
def shell(plane: ControlPlane, operator: OperatorProcess, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment a reader would have: kubectl and aigateway on the path, the cluster as administrator.

    The examples' namespace does not exist before, and is gone afterwards.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(plane.binaries["kubectl"])
    (programs / "aigateway").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aigateway_operator "$@"\n')
    (programs / "aigateway").chmod(0o755)
    yield {
        **{name: value for name, value in os.environ.items() if name.startswith("COV")},
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(plane.kubeconfig),
        "PYTHONPATH": str(ROOT / "operator"),
        "LANG": "C.UTF-8",
    }
    plane.request("DELETE", f"/api/v1/namespaces/{EXAMPLE_NAMESPACE}")

    def is_gone() -> None:
        assert plane.request("GET", f"/api/v1/namespaces/{EXAMPLE_NAMESPACE}").status == 404

    eventually(is_gone, within_seconds=60)


def run(block: Block, environment: dict[str, str]) -> str:
    """Run one block; return what it said, on both streams. A failing command fails the test with the block's place."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{block.text}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_print_what_it_says(page: Path, shell: dict[str, str]) -> None:
    """A reader who types every command in order sees what the page shows."""
    for block in blocks(page, "bash"):
        if block.not_run_because is None:
            output = run(block, shell)
            missing = missing_lines(block.expected, output)
            assert missing == [], f"{block} did not print these lines, but:\n{output}"


def test_quick_start_and_example_have_commands() -> None:
    """The pages that are meant to be followed are among those that are run."""
    names = {str(page.relative_to(ROOT)) for page in WITH_COMMANDS}
    assert {"docs/quickstart.md", "examples/01-quickstart/README.md"} <= names
