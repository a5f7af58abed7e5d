"""The operator's rights as the chart renders them, for running it without the chart: `hack/manifests/operator.yaml`.

The chart is the one source; the committed file is what `python -m hack rights` writes, and a test compares both. So the demo,
the quick start and the tests run the operator under the rights that an installation has. Called by `hack.__main__` and tests.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hack.process import ServerError
from hack.tools import KUBERNETES

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "aigateway"
MANIFESTS: Final = ROOT / "hack" / "manifests" / "operator.yaml"
NAMESPACE: Final = "aigateway-system"
RELEASE: Final = "aigateway"
TEMPLATES: Final = ("serviceaccounts", "clusterroles", "clusterrolebindings", "roles", "rolebindings")

_HEAD: Final = """\
# Namespace, ServiceAccounts and rights of the operator, for running it without the chart: the demo and tests do.
# Made from charts/aigateway by `python -m hack rights`: change the chart, not this file.
# Apply with: kubectl apply -f hack/manifests/operator.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: aigateway-system
"""
_OF_HELM: Final = re.compile(
    r"^ +(app\.kubernetes\.io/(managed-by|version)|helm\.sh/chart): .*\n|^# Source: .*\n", re.MULTILINE
)


def rendered(helm: Path, *arguments: str) -> str:
    """Return ServiceAccounts, roles and bindings as the chart renders them; `arguments` are helm's. ServerError if not."""
    shown = [part for name in TEMPLATES for part in ("--show-only", f"templates/{name}.yaml")]
    command: Sequence[str | Path] = [
        helm, "template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, *shown, *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ServerError(f"the chart's rights cannot be rendered: {done.stderr.strip()}")
    return done.stdout


def manifests(helm: Path) -> str:
    """Return the whole file: without what is Helm's, since no release owns these objects."""
    return _HEAD + _OF_HELM.sub("", rendered(helm))


def write(helm: Path) -> bool:
    """Bring the committed file up to date; returns whether it was not."""
    text = manifests(helm)
    differs = MANIFESTS.read_text() != text
    if differs:
        MANIFESTS.write_text(text)
    return differs
