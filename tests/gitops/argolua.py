"""Argo CD's Lua for tests: runs the customizations of config/argocd as Argo CD would, in its interpreter and restrictions.

A thin client of the program in hack/servers/argolua. Objects go in and come out as plain dicts. What Argo CD does after an
action, mending empty objects and patching by JSON merge patch, is here too. Source: Argo CD's util/lua/lua.go and
server/application/application.go. Called by tests of this folder only.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
CUSTOMIZATIONS = ROOT / "config" / "argocd" / "resource_customizations" / "ai-gateway.io"
STATES = ("Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown")
Manifest = dict[str, Any]


class LuaError(RuntimeError):
    """The script raised; the text is what Argo CD's users see."""


class ArgoLua:
    """One interpreter process; every call gets a state of its own."""

    def __init__(self, binary: Path) -> None:
        """Start it."""
        self._process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate(timeout=10)

    def run(self, script: str, obj: Manifest, parameters: Mapping[str, str] | None = None) -> Any:
        """Run a script on an object and return what it returns. LuaError when it raises or returns no table."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"script": script, "object": obj, "parameters": dict(parameters or {})}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise LuaError(answer["error"].strip())
        return answer["result"]

    def health(self, obj: Manifest) -> Manifest:
        """Return `{status, message}`; asserts that it is one that Argo CD knows."""
        said = dict(self.run(_script(obj["kind"], "health.lua"), obj))
        assert said["status"] in STATES, said
        return said

    def actions(self, obj: Manifest) -> dict[str, Manifest]:
        """Return what can be done to an object, by name."""
        return dict(self.run(_script(obj["kind"], "actions/discovery.lua"), obj))

    def act(self, obj: Manifest, action: str, parameters: Mapping[str, str] | None = None) -> Manifest:
        """Return the object as an action would leave it."""
        result = self.run(_script(obj["kind"], f"actions/{action}/action.lua"), obj, parameters)
        cleaned: Manifest = _cleaned(result, obj)
        return cleaned


def _script(kind: str, name: str) -> str:
    return (CUSTOMIZATIONS / kind / name).read_text()


def _cleaned(new: Any, old: Any) -> Any:
    """Mend what Lua cannot tell apart: an empty object comes back as an empty list."""
    if isinstance(old, dict):
        if new == []:
            return {}
        if isinstance(new, dict):
            return {key: _cleaned(value, old.get(key)) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list):
        return [_cleaned(value, old[index] if index < len(old) else None) for index, value in enumerate(new)]
    return new


def merge_patch(old: Any, new: Any) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) from one object to another."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if inner := merge_patch(old[key], value):
                patch[key] = inner
        elif value != old[key]:
            patch[key] = value
    return patch
