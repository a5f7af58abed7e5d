"""`aigateway wait vmodel/chat gwc/main`: waits until each is ready (or programmed, accepted, propagated), and says why not.

Compares generations as well as conditions, so that an old answer is never taken for a new one; `kubectl wait` does not.
A name that does not exist yet is waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aigateway_operator.api.conditions import ConditionType, Reason
from aigateway_operator.cli import flags
from aigateway_operator.cli.cluster import Cluster, chosen_namespace, with_cluster
from aigateway_operator.cli.conditions import condition_of, status_of, whole
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.output import on_terminal, paint, print_data, say
from aigateway_operator.errors import ClusterError, Forbidden, NotFound, Rejected, SettingsError, Unavailable
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, JsonObject, Resource

SHORTEST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0
_KINDS: Final[dict[str, Resource]] = {
    **dict.fromkeys(("vmodel", "vmodels", "virtualmodel", "virtualmodels"), VIRTUAL_MODELS),
    **dict.fromkeys(("gwc", "gatewayconfig", "gatewayconfigs"), GATEWAY_CONFIGS),
}
_GOALS: Final = {
    "ready": ConditionType.READY,
    "accepted": ConditionType.ACCEPTED,
    "programmed": ConditionType.PROGRAMMED,
    "propagated": ConditionType.PROPAGATED,
}
_CANNOT_KNOW: Final = frozenset({Reason.NOT_ASKED, Reason.NO_SELECTOR})


@dataclass(frozen=True, slots=True)
class Target:
    """One object to wait for."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a target showed. `hopeless`: waiting longer cannot help. `revision`: None where none is rendered."""

    reached: bool
    reason: str
    message: str
    generation: int | None = None
    revision: int | None = None
    hopeless: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def register(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("wait", help="wait until a model or gateway is ready", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="KIND/NAME", help="vmodel/NAME or gwc/NAME")
    parser.add_argument("--for", dest="goal", choices=tuple(_GOALS), default="ready", help="default: ready")
    parser.add_argument(
        "--timeout", type=flags.parse_duration, default=60.0, metavar="DURATION", help="60s, 2m; 0: look once; default: 60s"
    )
    flags.add_cluster(parser, all_namespaces=False)
    flags.add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Wait for all targets; 0 if all were reached, 1 if one was not, 3 if the cluster stayed out of reach."""
    namespace = chosen_namespace(args) or "default"
    targets = [parse_target(text, namespace) for text in args.targets]

    async def work(cluster: Cluster) -> list[Look]:
        return await asyncio.gather(*(_Wait(cluster, target, args).until() for target in targets))

    looks = with_cluster(args, work)
    if args.output:
        print_data([_as_data(target, look) for target, look in zip(targets, looks, strict=True)], args.output)
    return Exit.FINE if all(look.reached for look in looks) else Exit.REFUSED


def parse_target(text: str, namespace: str) -> Target:
    """Parse `vmodel/chat`. Raises SettingsError naming the kinds."""
    kind, slash, name = text.partition("/")
    resource = _KINDS.get(kind.lower().partition(".")[0])
    if resource is None or not slash or not name or "/" in name:
        raise SettingsError(f"'{text}' names nothing to wait for; write vmodel/NAME or gwc/NAME")
    if not flags.is_name(name):
        raise SettingsError(f"'{name}' is no name of a {resource.kind}: lower-case letters, digits, '-' and '.'")
    return Target(resource, namespace, name)


def judge(obj: Mapping[str, Any], gateway: Mapping[str, Any] | None, goal: str) -> Look:
    """Say whether an object has reached `goal`. `gateway`: the GatewayConfig of a VirtualModel, None where it is not there.

    Propagated is known of gateways alone: a model has propagated when its gateway proved a revision at or above the model's.
    """
    generation, revision = whole(obj["metadata"].get("generation")), whole(status_of(obj).get("revision"))
    if "deletionTimestamp" in obj["metadata"]:
        return Look(False, "Deleting", "The object is being deleted.", generation, revision, hopeless=True)
    condition = condition_of(obj, _GOALS[goal])
    if goal == "propagated" and obj.get("kind") == VIRTUAL_MODELS.kind:
        programmed = condition_of(obj, ConditionType.PROGRAMMED)
        if not programmed.true or gateway is None:
            return Look(False, programmed.reason, programmed.message, generation, revision)
        condition = condition_of(gateway, ConditionType.PROPAGATED)
        proved = whole((status_of(gateway).get("rollout") or {}).get("revision"))
        if condition.true and (proved is None or revision is None or proved < revision):
            message = f"The gateway has proved revision {proved}, not {revision}."
            return Look(False, Reason.PROGRESSING, message, generation, revision)
    if not condition.current:
        return Look(False, Reason.PENDING, "This generation has not been looked at by the operator yet.", generation, revision)
    hopeless = goal == "propagated" and condition.reason in _CANNOT_KNOW
    return Look(condition.true, condition.reason, condition.message, generation, revision, hopeless)


class _Wait:
    """Waits for one target."""

    def __init__(self, cluster: Cluster, target: Target, args: argparse.Namespace) -> None:
        self._cluster = cluster
        self._target = target
        self._goal: str = args.goal
        self._timeout_seconds: float = args.timeout
        self._quiet: bool = args.output is not None
        self._said = ""

    async def until(self) -> Look:
        """Look again and again until the goal is reached, out of reach, or the time is over. Raises ClusterError."""
        started = time.monotonic()
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            look, error = await self._look()
            left = self._timeout_seconds - (time.monotonic() - started)
            if look.reached or look.hopeless or left <= 0:
                self._end(look, time.monotonic() - started)
                if error is not None:
                    raise error
                return look
            self._progress(look)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    async def _look(self) -> tuple[Look, ClusterError | None]:
        target = self._target
        try:
            obj = {**await self._cluster.get(target.resource, target.namespace, target.name), "kind": target.resource.kind}
            gateway = await self._gateway(obj) if self._goal == "propagated" else None
        except NotFound:
            return Look(False, "NotFound", f"does not exist in namespace '{target.namespace}'."), None
        except (Forbidden, Rejected) as error:
            raise error from None
        except Unavailable as error:
            return Look(False, "Unavailable", "The API server does not answer."), error  # what it said is told at the end
        return judge(obj, gateway, self._goal), None

    async def _gateway(self, obj: JsonObject) -> JsonObject | None:
        spec = obj.get("spec")
        ref = spec.get("gatewayRef") if isinstance(spec, dict) else None
        if obj["kind"] != VIRTUAL_MODELS.kind or not isinstance(ref, dict):
            return None
        try:
            return await self._cluster.get(GATEWAY_CONFIGS, self._target.namespace, str(ref.get("name")))
        except NotFound:
            return None

    def _progress(self, look: Look) -> None:
        """Say what is waited for, once each time it changes; on a terminal in one line that is redrawn."""
        text = f"waiting for {self._target}: {look}"
        if text == self._said or self._quiet:
            return
        self._said = text
        if on_terminal(sys.stderr):
            print(f"\r\x1b[K{text[:160]}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def _end(self, look: Look, seconds: float) -> None:
        if self._said and on_terminal(sys.stderr):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if self._quiet:
            return
        if look.reached:
            revision = f", revision {look.revision}" if look.revision is not None else ""
            text = f"{self._target} is {self._goal} (generation {look.generation}{revision}) after {seconds:.1f} s"
            print(paint(text, "green", sys.stdout), flush=True)
        elif look.hopeless:
            say(f"{self._target} cannot be waited for to be {self._goal}: {look}", "red")
        else:
            say(f"{self._target} is not {self._goal} after {seconds:.1f} s: {look}", "red")


def _as_data(target: Target, look: Look) -> dict[str, Any]:
    return {
        "kind": target.resource.kind,
        "namespace": target.namespace,
        "name": target.name,
        "reached": look.reached,
        "reason": look.reason,
        "message": look.message,
        "generation": look.generation,
        "revision": look.revision,
    }
