"""A reader who follows a page: the environment of a shell, what the page begins with, and its blocks run in order.

Each block runs in a shell of its own, in the root of the clone. Called by the tests of this folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hack.controlplane import ControlPlane
from tests.conftest import require_binaries
from tests.docs.pages import ANYTHING, ROOT, Block, blocks, given, missing_lines
from tests.eventually import eventually

EXAMPLE_NAMESPACE = "ai"
BLOCK_SECONDS = 90
PROGRAMS = {"aigateway": "-m aigateway_operator", "kubectl-aigateway": "-m aigateway_operator", "python": ""}
"""Commands of this clone that a reader has on the path, and what Python is told to run."""


def environment_of(plane: ControlPlane, home: Path) -> dict[str, str]:
    """Return what a reader has: kubectl, helm and aigateway on the path, the cluster as administrator."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(plane.binaries["kubectl"])
    (programs / "helm").symlink_to(require_binaries(["helm"])["helm"])
    for name, module in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("COV")},
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "KUBECONFIG": str(plane.kubeconfig),
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
        "LANG": "C.UTF-8",
    }


def follow(page: Path, plane: ControlPlane, environment: dict[str, str]) -> None:
    """Run every block of a page that is to be run, and compare what it prints with what the page says it does."""
    _begin(plane, given(page))
    for block in blocks(page, "bash"):
        if block.not_run_because is None:
            output = _run(block, environment)
            missing = missing_lines(block.expected, output)
            assert missing == [], f"{block} did not print these lines, but:\n{output}"


def remove_namespace(plane: ControlPlane) -> None:
    """Delete the examples' namespace and wait until it is gone."""
    plane.request("DELETE", f"/api/v1/namespaces/{EXAMPLE_NAMESPACE}")

    def is_gone() -> None:
        assert plane.request("GET", f"/api/v1/namespaces/{EXAMPLE_NAMESPACE}").status == 404

    eventually(is_gone, within_seconds=60)


def _begin(plane: ControlPlane, example: Path | None) -> None:
    """Leave what a page begins with: the example applied and Ready in its namespace, no namespace at all, or anything.

    Between two pages that are given an example the namespace stays and is emptied, since deleting one takes seconds.
    """
    if example == ANYTHING:
        return
    if example is None:
        remove_namespace(plane)
        return
    if plane.request("GET", f"/api/v1/namespaces/{EXAMPLE_NAMESPACE}").status == 200:
        kinds = "virtualmodels,gatewayconfigs,secrets,configmaps,deployments,networkpolicies"
        plane.kubectl("delete", kinds, "--all", "-n", EXAMPLE_NAMESPACE, check=True)
    plane.kubectl("apply", "-f", example, check=True)
    wait = ("wait", "--for=condition=Ready", "gwc,vmodel", "--all", "-n", EXAMPLE_NAMESPACE, "--timeout=30s")
    plane.kubectl(*wait, check=True)


def _run(block: Block, environment: dict[str, str]) -> str:
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
