"""`doctor` on one gateway and its pods: what status says, whether the selector selects, what pods mount. Pure.

Pods are judged by what they declare: a volume that leaves out a shard, or a file that is mounted by `subPath`, looks healthy
from outside and never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aigateway_operator.api.conditions import ConditionType, Reason
from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.checkup import Check, doubt, fine, wrong
from aigateway_operator.cli.conditions import condition_of, state_of, status_of
from aigateway_operator.cli.findings import counted
from aigateway_operator.kube.resources import JsonObject
from aigateway_operator.plan.names import config_map_name, credentials_name

_NAMED: Final = 3
_BEHIND: Final = (Reason.STRAGGLERS, Reason.UNREACHABLE)


def check_gateway(gateway: JsonObject, models: Sequence[JsonObject]) -> Iterator[Check]:
    """Yield rows on what the operator says of a gateway, its stores and its models."""
    area, state, ready = _area(gateway), state_of(gateway), condition_of(gateway, ConditionType.READY)
    if state == "Ready":
        yield fine(area, "Ready", ready.message)
    elif state == "NotReady":
        yield wrong(area, "Ready", f"{ready.reason}: {ready.message}", "Correct what the message names.")
    elif state == "Pending":
        yield wrong(area, "Ready", "the operator has not looked at this generation", "See that it runs and leads, and its log.")
    bad = [model["metadata"]["name"] for model in models if state_of(model) == "NotReady"]
    if bad:
        yield doubt(area, "models", f"{counted(len(bad), 'model')} not Ready: {_some(bad)}", "aigateway status says why.")
    for store in status_of(gateway).get("datastores") or []:
        yield _store(area, store)
    propagated = condition_of(gateway, ConditionType.PROPAGATED)
    if propagated.reason in _BEHIND:
        yield wrong(area, "Propagated", f"{propagated.reason}: {propagated.message}", "See docs/runbooks.md#pods-behind.")


def check_missing(gateway: GatewayKey, models: Sequence[JsonObject]) -> Check:
    """Return the row on a gateway that models name and that is not there."""
    names = [model["metadata"]["name"] for model in models]
    text = f"does not exist; named by {counted(len(names), 'model')}: {_some(names)}"
    return wrong(str(gateway), "GatewayConfig", text, "Create it, or correct spec.gatewayRef.name.")


def _store(area: str, store: Mapping[str, Any]) -> Check:
    name, state = str(store.get("name")), store.get("state")
    since = f" since {store['since']}" if store.get("since") else ""
    message = str(store.get("message") or "")
    if state == "Up":
        return fine(area, name, f"Up{since}")
    if state == "Unknown":
        return doubt(area, name, f"Unknown: {message}")
    remedy = "The message says what to correct; docs/health.md lists all reasons."
    return wrong(area, name, f"{state}{since}, {store.get('reason')}: {message}", remedy)


def check_pods(gateway: JsonObject, delivery: Delivery, pods: Sequence[JsonObject] | None) -> Iterator[Check]:
    """Yield rows on the pods a gateway selects. `pods`: None without a selector."""
    area, name = _area(gateway), gateway["metadata"]["name"]
    if pods is None:
        text = "spec.delivery.podSelector is not set: nobody proves what pods run, nor wakes them"
        yield doubt(area, "podSelector", text, "Set it to labels of the gateway's pods.")
        return
    if not pods:
        start = f"Start them (aigateway mount {name} -n {gateway['metadata']['namespace']} prints what they need)"
        yield wrong(area, "podSelector", "selects no pod", f"{start}, or correct spec.delivery.podSelector or their labels.")
        return
    faults: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        for fault in _faults(name, delivery.shards, pod.get("spec") or {}):
            faults.setdefault(fault, []).append(pod["metadata"]["name"])
    patch = f"aigateway mount {name} -n {gateway['metadata']['namespace']} --patch"
    for (subject, text), named in faults.items():
        whose = f"{counted(len(named), 'pod')} ({_some(named)}): {text}"
        if subject == "volumes":
            yield doubt(area, subject, whose, f"Fine only if they read over the API; else: {patch}")
        else:
            yield wrong(area, subject, whose, f"{patch} prints what pods need.")
    if not faults:
        yield fine(area, "pods", f"{counted(len(pods), 'pod')} selected, which mount everything")


def _faults(gateway: str, shards: int, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (subject, what is wrong) of one pod."""
    if spec.get("hostNetwork"):
        yield "hostNetwork", "uses the host's network, so it is never asked what it runs"
    parts: list[int | None] = [None, *(range(shards) if shards > 1 else ())]
    config, keys = ({name(gateway, part) for part in parts} for name in (config_map_name, credentials_name))
    mounted: dict[str, set[str]] = {}
    for volume in spec.get("volumes") or []:
        mounted[volume["name"]] = set(_sources(volume))
    ours = {f"configMap/{one}" for one in config} | {f"secret/{one}" for one in keys}
    there = set().union(*mounted.values()) & ours
    if not there:
        yield "volumes", "mounts none of the gateway's documents"
        return
    missing = sorted(ours - there)
    if missing:
        yield "missing volumes", f"mounts no {_some(missing)}: what is in there never arrives"
    holding = {volume for volume, sources in mounted.items() if sources & ours}
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for mount in container.get("volumeMounts") or []:
            if mount.get("name") in holding and (mount.get("subPath") or mount.get("subPathExpr")):
                path = mount.get("mountPath")
                yield "subPath", f"container {container.get('name')} mounts {path} by subPath, which is never updated"


def _sources(volume: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ConfigMaps and Secrets of a volume; one of which only some files are taken is none."""
    parts = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    for part in parts:
        for kind in ("configMap", "secret"):
            source = part.get(kind)
            if isinstance(source, dict) and not source.get("items"):
                yield f"{kind}/{source.get('name') or source.get('secretName')}"


def _area(gateway: JsonObject) -> str:
    return f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
