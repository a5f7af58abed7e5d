"""A container of a pod as a program of this machine: its command, its environment, the folders behind its mounts. Pure.

Understands `env` (value, fieldRef, secretKeyRef, configMapKeyRef), `envFrom`, `$(NAME)` in values and arguments, and mount
paths, which are replaced by the folders that stand for them. Called by `hack.node.pod`.
Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from hack.kubelet.sources import field_of

JsonObject = Mapping[str, Any]
Values = Mapping[tuple[str, str], Mapping[str, bytes]]
"""What ConfigMaps and Secrets hold, by kind and name; one that is not there has no entry."""

ENTRY_POINT: Final = "aigateway"
"""Entry point of both images, and the only program that can be run here."""
HOSTS: Final = (
    "AIGATEWAY_HEALTH_HOST",
    "AIGATEWAY_WEBHOOK_HOST",
    "AIGATEWAY_STATUS_HOST",
    "AIGATEWAY_GATEWAY_HOST",
    "AIGATEWAY_GATEWAY_STATUS_HOST",
    "AIGATEWAY_GATEWAY_METRICS_HOST",
)
"""Where a program listens: its pod's address, since all pods share one machine. In a pod it is 0.0.0.0."""
FOLDERS: Final = {
    "AIGATEWAY_WEBHOOK_CERT_DIR": "/etc/aigateway/webhook",
    "AIGATEWAY_CONFIG_DIR": "/etc/aigateway/config",
    "AIGATEWAY_CREDENTIALS_DIR": "/etc/aigateway/credentials",
    "TMPDIR": "/tmp",  # noqa: S108 - the path in a container, where an emptyDir is mounted
}
"""Folders a program looks for by default, and the variable that names another: paths of a container are not on this machine."""
_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class CannotStart(Exception):
    """A container cannot be started; `reason` is a kubelet's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be started. The environment may hold secrets."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def __repr__(self) -> str:
        return f"Program({' '.join(self.command)!r}, {len(self.environment)} variables)"


def program_of(container: JsonObject, pod: JsonObject, values: Values, folders: Path) -> Program:
    """Return what stands for a container. `pod` has its address in status; `folders` holds one folder a volume.

    Raises CannotStart for a program that is not `aigateway` and for a ConfigMap, Secret or key that is missing.
    """
    mounts = mounts_of(container, folders)
    environment = _environment(container, pod, values)
    environment |= {name: moved(text, mounts) for name, text in environment.items()}
    for name, path in FOLDERS.items():
        if path in mounts:
            environment.setdefault(name, str(mounts[path]))
    environment |= dict.fromkeys(HOSTS, str(pod["status"]["podIP"]))
    return Program(command_of(container, environment, mounts), environment)


def command_of(container: JsonObject, environment: Mapping[str, str], mounts: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the command of a container, or of a hook that has only `command`. Raises CannotStart."""
    entry = list(container.get("command") or [ENTRY_POINT])
    if PurePosixPath(entry[0]).name != ENTRY_POINT:
        raise CannotStart("CannotRun", f"'{entry[0]}' cannot be run by the stand-in node: it runs '{ENTRY_POINT}' only")
    words = [*entry[1:], *(container.get("args") or [])]
    return (sys.executable, "-m", "aigateway_operator", *(moved(expanded(word, environment), mounts) for word in words))


def mounts_of(container: JsonObject, folders: Path) -> dict[str, Path]:
    """Return mount path → the folder (or file, with subPath) that stands for it."""
    return {
        mount["mountPath"].rstrip("/"): folders / mount["name"] / mount.get("subPath", "")
        for mount in container.get("volumeMounts") or []
    }


def moved(text: str, mounts: Mapping[str, Path]) -> str:
    """Return a path below a mount as the path on this machine; every other text as it is."""
    head, equals, tail = text.rpartition("=")  # --config=/etc/x
    for path in sorted(mounts, key=len, reverse=True):
        if tail == path or tail.startswith(f"{path}/"):
            return f"{head}{equals}{mounts[path]}{tail[len(path) :]}"
    return text


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by that variable; unknown names stay as they are, `$$` is one dollar sign."""

    def replacement(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def _environment(container: JsonObject, pod: JsonObject, values: Values) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if key in source:
                held = _held(kind, source[key], values) or {}
                found |= {f"{source.get('prefix', '')}{name}": text.decode() for name, text in held.items()}
    for entry in container.get("env") or []:
        text = entry.get("value", "") if "valueFrom" not in entry else _value_from(entry["valueFrom"], container, pod, values)
        if text is not None:
            found[entry["name"]] = expanded(text, found)
    return found


def _value_from(source: JsonObject, container: JsonObject, pod: JsonObject, values: Values) -> str | None:
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        section, _, name = source["resourceFieldRef"]["resource"].partition(".")
        return str(((container.get("resources") or {}).get(section) or {}).get(name, ""))
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if key in source:
            held = _held(kind, source[key], values)
            if held is not None and source[key]["key"] in held:
                return held[source[key]["key"]].decode()
            if source[key].get("optional"):
                return None
            raise CannotStart(
                "CreateContainerConfigError", f"couldn't find key {source[key]['key']} in {kind} {source[key]['name']}"
            )
    raise CannotStart("CreateContainerConfigError", f"valueFrom with {', '.join(source)} is not known here")


def _held(kind: str, reference: JsonObject, values: Values) -> Mapping[str, bytes] | None:
    held = values.get((kind, reference["name"]))
    if held is None and not reference.get("optional"):
        raise CannotStart("CreateContainerConfigError", f'{kind.lower()} "{reference["name"]}" not found')
    return held


def has_token(pod: JsonObject) -> bool:
    """Tell whether a pod is given a token of its ServiceAccount."""
    return any("serviceAccountToken" in source for source in _projected(pod))


def needed(pod: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what the environments of a pod's containers are taken from."""
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for entry in [*(container.get("envFrom") or []), *(one.get("valueFrom") or {} for one in container.get("env") or [])]:
            for key, kind in (
                ("configMapRef", "ConfigMap"),
                ("configMapKeyRef", "ConfigMap"),
                ("secretRef", "Secret"),
                ("secretKeyRef", "Secret"),
            ):
                if key in entry:
                    yield kind, entry[key]["name"]


def _projected(pod: JsonObject) -> Iterator[JsonObject]:
    for volume in pod["spec"].get("volumes") or []:
        yield from (volume.get("projected") or {}).get("sources") or []
