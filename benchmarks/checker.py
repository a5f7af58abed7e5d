"""Decides whether a run counts: the documents are complete and right to the byte, and every status says what is true.

Independent of the operator: it reads the API server as an administrator and compares with `tests/reference_renderer.py`, which
shares no code with it. The same for every subject, peers too. Called after each run, outside of what is timed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hack.controlplane import ControlPlane
from tests.reference_renderer import reference_config_maps

NAMED: Final = 3
"""How many faults of one sort are named."""
TIMEOUT_SECONDS: Final = 60
Manifest = Mapping[str, Any]


class NotCounted(RuntimeError):
    """A run that does not count; the text says why."""


def verify(plane: ControlPlane, namespace: str) -> int:
    """Return how many bytes all documents of a namespace have. NotCounted names what is wrong."""
    group = f"/apis/ai-gateway.io/v1alpha1/namespaces/{namespace}"
    gateways = _items(plane, f"{group}/gatewayconfigs")
    models = _items(plane, f"{group}/virtualmodels")
    maps = {
        one["metadata"]["name"]: one.get("data") or {} for one in _items(plane, f"/api/v1/namespaces/{namespace}/configmaps")
    }
    faults, total = [*_untrue(gateways), *_untrue(models)], 0
    for gateway in gateways:
        own = [model for model in models if model["spec"]["gatewayRef"]["name"] == gateway["metadata"]["name"]]
        expected = reference_config_maps(gateway, own, revision=_revisions(gateway, maps))
        faults += _differences(expected, maps)
        total += sum(len(text) for data in expected.values() for text in data.values())
    if faults:
        raise NotCounted(f"{len(faults)} faults, such as: " + "; ".join(faults[:NAMED]))
    return total


def _items(plane: ControlPlane, path: str) -> list[dict[str, Any]]:
    answer = plane.request("GET", path, timeout_seconds=TIMEOUT_SECONDS)
    if answer.status != 200:
        raise NotCounted(f"GET {path}: {answer.status}")
    return list(answer.body["items"])


def _untrue(objects: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the objects whose status is not Ready for the generation that they have."""
    for one in objects:
        found = {condition["type"]: condition for condition in (one.get("status") or {}).get("conditions") or []}
        ready = found.get("Ready", {})
        if ready.get("status") != "True" or ready.get("observedGeneration") != one["metadata"]["generation"]:
            yield f"{one.get('kind', 'object')} {one['metadata']['name']} is not Ready: {ready}"


def _revisions(gateway: Manifest, maps: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Return what each document says of its own revision: only that number is taken from what is checked."""
    prefix, found = f"{gateway['metadata']['name']}-", {}
    for name, data in maps.items():
        for file, text in data.items() if name.startswith(prefix) else ():
            if file.endswith(".manifest.json"):
                found[file.replace(".manifest.json", ".yml")] = int(json.loads(text)["revision"])
    shards = int(gateway["spec"].get("delivery", {}).get("shards", 1))
    files = ["config.yml", *(f"models-{number:02d}.yml" for number in range(shards) if shards > 1)]
    return {file: found.get(file, 0) for file in files}


def _differences(expected: Mapping[str, Mapping[str, str]], maps: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name, data in expected.items():
        for file, text in data.items():
            said = maps.get(name, {}).get(file)
            if said is None:
                yield f"ConfigMap {name} has no {file}"
            elif file.endswith(".json") and json.loads(said) == json.loads(text):
                continue
            elif said != text:
                yield f"{file} of ConfigMap {name} differs from the reference: {len(said)} bytes, not {len(text)}"
