"""Warnings: what is legal but rarely meant. Shown by kubectl as `Warning: …` lines; nothing is refused for them.

Pure. Called by `review` for objects that are let in, and for what was stored before, which may have any shape. Each text
begins with its place and is shorter than 120 characters, which is what clients show. Nothing of a value is repeated but names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from aigateway_operator.admission.deletion import YES
from aigateway_operator.api.meta import ALLOW_DELETE_ANNOTATION, GATEWAY_CONFIG, PROTECTED_ANNOTATION, VIRTUAL_MODEL
from aigateway_operator.rules.size import MAX_BYTES, estimate_bytes
from aigateway_operator.rules.violation import shown

WARN_BYTES: Final = MAX_BYTES * 6 // 10
"""Size from which a spec is called large: 60 % of what is allowed, as of a ConfigMap (docs/concepts.md#limits)."""
JsonObject = dict[str, Any]


def advise_metadata(metadata: JsonObject) -> list[str]:
    """Return warnings about our annotations: any value but "true" does nothing, which nobody who writes one expects."""
    annotations = metadata.get("annotations")
    if not annotations:
        return []
    return [
        f'metadata.annotations[{key}]: only "true" has an effect'
        for key in (PROTECTED_ANNOTATION, ALLOW_DELETE_ANNOTATION)
        if key in annotations and annotations[key] != YES
    ]


def advise_spec(kind: str, spec: JsonObject) -> list[str]:
    """Return warnings about a spec of `kind`, any mapping; raises nothing."""
    return list(_SPEAKERS[kind](spec))


def advice_stays(kind: str, spec: JsonObject, old_spec: JsonObject) -> bool:
    """Tell whether `advise_spec` says the same of both, since they differ in nothing that it looks at; cheap."""
    return all(spec.get(name) == old_spec.get(name) for name in _LOOKED_AT[kind])


def advise_size(spec: JsonObject) -> list[str]:
    """Return a warning if a spec comes near the largest allowed size. Walks all of it: ask only where it may be large."""
    size = estimate_bytes(spec)
    return (
        [f"spec: about {size // 1024} KiB of the {MAX_BYTES // 1024} KiB that one object may have"] if size > WARN_BYTES else []
    )


def _virtual_model(spec: JsonObject) -> list[str]:
    texts = ["spec.use: the model is switched off; callers get 404 model_not_found"] if spec.get("use") is False else []
    backends = spec.get("backends")
    for index, backend in enumerate(backends if isinstance(backends, list) else ()):
        if isinstance(backend, dict):
            keyed = backend.get("apiKeySecretRef") is not None
            plain = str(backend.get("baseUrl") or spec.get("baseUrl") or "")[:7].lower() == "http://"
            if keyed == plain:
                texts.append(f"spec.backends[{index}]{_key_on_the_way(backend, keyed=keyed)}")
    return texts


def _key_on_the_way(backend: JsonObject, *, keyed: bool) -> str:
    """Return what to say of a key that travels in the open, or of one that is missing where it would not."""
    if keyed:
        return ": http; its API key and all prompts travel unencrypted"
    return f": no apiKeySecretRef; requests to '{shown(str(backend.get('name')))[:30]}' carry no key"


def _gateway_config(spec: JsonObject) -> Iterator[str]:
    if _at(spec, "delivery").get("podSelector") is None:
        yield "spec.delivery.podSelector: not set; nothing proves that pods run this configuration"
    if _at(spec, "app").get("debug") is True:
        yield "spec.app.debug: verbose logs and error details; not for production"
    if _at(spec, "delivery").get("poke") is False:
        yield "spec.delivery.poke: off; edits reach pods after 30 to 90 seconds"
    redis = _at(_at(spec, "storage"), "redis")
    if _at(spec, "delivery").get("redisNotify") is True and (not redis or redis.get("enabled") is False):
        yield "spec.delivery.redisNotify: no effect without an enabled spec.storage.redis"


def _at(holder: JsonObject, key: str) -> JsonObject:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


_SPEAKERS: Final[dict[str, Callable[[JsonObject], Iterable[str]]]] = {
    VIRTUAL_MODEL: _virtual_model,
    GATEWAY_CONFIG: _gateway_config,
}
_LOOKED_AT: Final = {VIRTUAL_MODEL: ("use", "baseUrl", "backends"), GATEWAY_CONFIG: ("delivery", "app", "storage")}
"""Fields of spec that the speakers read."""
