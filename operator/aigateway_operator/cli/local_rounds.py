"""One round of `aigateway local`: manifests of a folder → plans → files as pods mount them. The operator's own rules and plan.

Where the operator would act on a cluster this acts on `local.rendered`. Blocks on files, so it is run in a thread. Prints
nothing. Called by `local`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.findings import ERROR, Finding
from aigateway_operator.cli.gateways import World
from aigateway_operator.cli.local_folder import FolderState, ManifestFolder
from aigateway_operator.local.rendered import Rendered
from aigateway_operator.plan.packed import pack
from aigateway_operator.plan.result import Plan
from aigateway_operator.rules import RuleContext

_AGAIN_SECONDS: Final = 1.0
"""Until files that could not be written are tried again."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway after a round. written: whether any file changed. models: those served, by public name. port: of `app`."""

    key: GatewayKey
    folder: str
    written: bool
    revision: int
    credentials_revision: int
    models: tuple[str, ...]
    port: int
    milliseconds: float


@dataclass(slots=True)
class Round:
    """What a round did. held: gateways left alone, since objects of theirs may be in a file that cannot be read."""

    findings: list[Finding]
    kept: tuple[str, ...]
    gateways: list[Gateway] = field(default_factory=list)
    held: list[GatewayKey] = field(default_factory=list)
    removed: list[GatewayKey] = field(default_factory=list)
    wake_after_seconds: float | None = None

    @property
    def refused(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.severity == ERROR for finding in self.findings)


class Rounds:
    """Makes rounds, one at a time."""

    def __init__(self, folder: ManifestFolder, rendered: Rendered, context: RuleContext) -> None:
        self._folder = folder
        self._rendered = rendered
        self._context = context
        self._unreferenced: dict[GatewayKey, Mapping[tuple[str, str], float]] = {}

    def make(self) -> Round:
        """Read, plan and write everything that differs."""
        started = time.perf_counter()
        state = self._folder.read()
        done = Round(list(state.findings), state.kept)
        before = self._rendered.gateways()
        world = self._world(state)
        if not state.complete:
            done.held = [key for key in before if key in world.gateways or not state.manifests]
        plans = world.plans(sorted(world.gateways.keys() - set(done.held)))
        for key, plan in plans.items():
            self._write(key, plan, done, started)
        if state.complete:
            self._remove([key for key in before if key not in world.gateways], done)
        wakes = [plan.wake_after_seconds for plan in plans.values() if plan.wake_after_seconds is not None]
        done.wake_after_seconds = min([*wakes, *([done.wake_after_seconds] if done.wake_after_seconds else [])], default=None)
        return done

    def _world(self, state: FolderState) -> World:
        world = World(self._context, now=time.monotonic(), unreferenced_since=self._unreferenced)
        for manifest in state.manifests:
            world.put(manifest)
        for key, gateway in world.gateways.items():
            world.gateways[key] = replace(gateway, status=pack(orjson.dumps(self._rendered.status(key))))
            world.live.setdefault(key.namespace, []).extend(self._rendered.live(key, gateway.uid))
        return world

    def _write(self, key: GatewayKey, plan: Plan, done: Round, started: float) -> None:
        try:
            swapped = self._rendered.write(key, plan.writes)
        except OSError as error:
            self._fail(done, key, error)
            return
        self._unreferenced[key] = plan.unreferenced_since
        if plan.revision is None or plan.settings is None:
            return
        models = tuple(sorted(served.entry.model_name for served in plan.served.values()))
        folder, took = str(self._rendered.folder(key)), (time.perf_counter() - started) * 1000
        done.gateways.append(
            Gateway(
                key,
                folder,
                bool(swapped),
                plan.revision,
                plan.credentials_revision or 0,
                models,
                port=orjson.loads(plan.settings.sections["app"])["port"],
                milliseconds=round(took, 1),
            )
        )

    def _remove(self, keys: list[GatewayKey], done: Round) -> None:
        for key in keys:
            try:
                self._rendered.remove(key)
            except OSError as error:
                self._fail(done, key, error)
            else:
                done.removed.append(key)

    def _fail(self, done: Round, key: GatewayKey, error: OSError) -> None:
        message = f"cannot be written: {error.strerror}. What was there stays; it is tried again."
        done.findings.append(Finding(ERROR, str(self._rendered.folder(key)), reason="Unwritable", message=message))
        done.wake_after_seconds = _AGAIN_SECONDS
