"""The chart rendered by real Helm, without a server: `render(values)` gives objects, `refusal(values)` Helm's words.

Called by the tests of this folder that need no cluster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.conftest import require_binaries

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "aigateway"
PRESETS: Final = ("minimal", "ha", "full")
KUBE_VERSION: Final = "1.36.0"
"""What charts are rendered for; a Helm built from modules takes itself for one of Kubernetes 1.20."""
NAMESPACE: Final = "aigateway-system"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML has it: ten times as fast on CRDs."""
Values = Mapping[str, Any]
Object = dict[str, Any]


@cache
def _helm() -> str:
    return str(require_binaries(["helm"])["helm"])


def helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm; `values` are handed over as a file is."""
    given = ("-f", "-") if values is not None else ()
    text = json.dumps(values) if values is not None else None
    command = [_helm(), *arguments, *given]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def preset(name: str) -> Path:
    """Return the file of a preset."""
    return CHART / f"values-{name}.yaml"


def template(values: Values | None = None, *more: str, release: str = "aigateway", chart: Path = CHART) -> str:
    """Return what Helm renders; fails the test with Helm's words."""
    done = helm("template", release, str(chart), "-n", NAMESPACE, "--kube-version", KUBE_VERSION, *more, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(values: Values | None = None, *more: str, release: str = "aigateway") -> list[Object]:
    """Return the objects that Helm renders, tests included."""
    return [one for one in yaml.load_all(template(values, *more, release=release), Loader=_LOADER) if one]


def refusal(values: Values) -> str:
    """Return why Helm refuses these values; fails the test if it does not."""
    done = helm("template", "aigateway", str(CHART), "-n", NAMESPACE, "--kube-version", KUBE_VERSION, values=values)
    assert done.returncode != 0, "Helm takes these values"
    return done.stderr


def one(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of that kind and name."""
    (found,) = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield (kind/name, pod template) of everything that runs."""
    for obj in objects:
        where = f"{obj['kind']}/{obj['metadata']['name']}"
        if obj["kind"] == "Pod":
            yield where, obj
        elif obj["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield where, obj["spec"]["template"]


def at(dotted: str, value: Any) -> Object:
    """Return values in which only `dotted` is set."""
    for step in reversed(dotted.split(".")):
        value = {step: value}
    return dict(value)


def merged(*layers: Values) -> Object:
    """Return layers of values, later ones over earlier ones, as Helm merges them."""
    result: Object = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result
