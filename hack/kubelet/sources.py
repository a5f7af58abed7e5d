"""What a volume of a pod is to hold, worked out from its spec and the ConfigMaps and Secrets there are. Pure.

Understands `configMap`, `secret`, `projected` (of both and `downwardAPI`), `emptyDir` and `persistentVolumeClaim`, with
`items`, modes and `optional` as a kubelet does. Called by `hack.kubelet.volumes`.
Source: kubelet pkg/volume/{configmap,secret,projected}.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from hack.kubelet.writer import File, Payload

JsonObject = Mapping[str, Any]
Key = tuple[str, str]
"""Kind and name: ("ConfigMap", "main-config")."""
Values = Mapping[Key, Mapping[str, bytes]]
"""What each ConfigMap and Secret of the namespace holds; one that is not there has no entry."""

_DEFAULT_MODE = 0o644


class MountError(Exception):
    """A volume cannot be mounted, in a kubelet's words."""


def values_of(kind: str, obj: JsonObject) -> dict[str, bytes]:
    """Return the values of a ConfigMap or Secret as bytes."""
    plain = {} if kind == "Secret" else {key: text.encode() for key, text in (obj.get("data") or {}).items()}
    encoded = obj.get("data") if kind == "Secret" else obj.get("binaryData")
    return plain | {key: base64.b64decode(text) for key, text in (encoded or {}).items()}


def names_in(pod: JsonObject) -> set[Key]:
    """Return the ConfigMaps and Secrets that the volumes of a pod name."""
    return {(kind, name) for volume in pod["spec"].get("volumes") or [] for kind, name, _ in _parts(volume)}


def payload_of(volume: JsonObject, pod: JsonObject, values: Values) -> Payload | None:
    """Return the files of a volume; None for a folder that is the pod's to fill. Raises MountError."""
    if "emptyDir" in volume or "persistentVolumeClaim" in volume:
        return None
    holder = volume.get("projected") or volume.get("configMap") or volume.get("secret")
    if holder is None:
        kinds = ", ".join(sorted(volume.keys() - {"name"}))
        known = "configMap, secret, projected, emptyDir or persistentVolumeClaim"
        raise MountError(f"volume '{volume['name']}': {kinds} is not known here; use {known}")
    mode = holder.get("defaultMode", _DEFAULT_MODE)
    payload: dict[str, File] = {}
    for kind, name, source in _parts(volume):  # of two sources with the same file the later one wins
        payload |= _collect(kind, name, source, values, mode)
    for source in (volume.get("projected") or {}).get("sources") or []:
        payload |= _downward(source, pod, mode)
    return payload


def _parts(volume: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    """Yield kind, name and description of each ConfigMap and Secret of a volume, in order."""
    for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
        if "configMap" in source:
            yield "ConfigMap", source["configMap"]["name"], source["configMap"]
        if "secret" in source:
            description = source["secret"]
            yield "Secret", description.get("secretName") or description["name"], description


def _collect(kind: str, name: str, source: JsonObject, values: Values, mode: int) -> dict[str, File]:
    optional = bool(source.get("optional"))
    found = values.get((kind, name))
    if found is None:
        if optional:
            return {}
        raise MountError(f'{kind.lower()} "{name}" not found')
    if not source.get("items"):
        return {key: File(value, mode) for key, value in found.items()}
    payload = {}
    for item in source["items"]:
        if item["key"] in found:
            payload[item["path"]] = File(found[item["key"]], item.get("mode", mode))
        elif not optional:
            raise MountError(f"references non-existent {kind.lower()} key: {item['key']}")
    return payload


def _downward(source: JsonObject, pod: JsonObject, mode: int) -> dict[str, File]:
    payload = {}
    for item in (source.get("downwardAPI") or {}).get("items") or []:
        text = field_of(pod, item["fieldRef"]["fieldPath"])
        payload[item["path"]] = File(text.encode(), item.get("mode", mode))
    return payload


def field_of(pod: JsonObject, path: str) -> str:
    """Return what a `fieldRef` stands for: `metadata.name`, `metadata.labels['app']`, `status.podIP`, all annotations."""
    section, _, rest = path.partition(".")
    key, bracket, inside = rest.partition("[")
    value = (pod.get(section) or {}).get(key)
    if bracket:
        value = (value or {}).get(inside.strip("]'\""))
    if isinstance(value, dict):
        return "\n".join(f'{name}="{text}"' for name, text in sorted(value.items()))
    return "" if value is None else str(value)
