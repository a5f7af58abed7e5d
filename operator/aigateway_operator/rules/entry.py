"""Rules on a *rendered* entry: what was written before is checked once more before it is kept as last good.

An entry read back from a ConfigMap may have been edited by hand, or stem from a time when rules were laxer; what breaks
a rule that guards other people (addresses, secrets, the choice of backend) must not be served on. Called by plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aigateway_config.documents import RESERVED_BACKEND_NAMES
from aigateway_operator.rules.addresses import check_url
from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.openmaps import check_parameters
from aigateway_operator.rules.size import check_size
from aigateway_operator.rules.violation import FieldReason, Violation, at, in_order, shown


def check_entry(model_name: str, entry: Mapping[str, object], context: RuleContext) -> list[Violation]:
    """Check a rendered entry: `current` names a backend, every URL passes the URL policy, parameters pass theirs.

    `entry` is the mapping under `model_name` in a document: `use`, `current`, `base_url`, `proxy_key_ref`, and one
    mapping per backend name. Returns every violation, sorted by path
    (`virtual_models.<model_name>.<backend>.base_url`). Raises nothing. Source: docs/rules.md#r4, #r8 to #r18, #r23.
    """
    path = at("virtual_models", model_name)
    found, go_on = check_size(dict(entry), path)
    return in_order([*found, *_check_parts(entry, path, context)]) if go_on else found


def _check_parts(entry: Mapping[str, object], path: str, context: RuleContext) -> Iterator[Violation]:
    backends = {key: value for key, value in entry.items() if isinstance(value, dict) and key not in RESERVED_BACKEND_NAMES}
    current = entry.get("current")
    if not isinstance(current, str) or current not in backends:
        message = f"names no backend. Backends: {', '.join(shown(name) for name in backends) or 'none'}."
        yield Violation(f"{path}.current", FieldReason.NOT_SUPPORTED, message, "R4")
    base_url = entry.get("base_url")
    if isinstance(base_url, str):
        yield from check_url(base_url, f"{path}.base_url", context)
    for name, backend in backends.items():
        yield from _check_backend(backend, at(path, name), base_url, context)


def _check_backend(backend: dict[str, object], path: str, inherited: object, context: RuleContext) -> Iterator[Violation]:
    url = backend.get("base_url")
    if isinstance(url, str):
        yield from check_url(url, f"{path}.base_url", context)
    elif not isinstance(inherited, str):
        yield Violation(f"{path}.base_url", FieldReason.REQUIRED, "is missing, here and on the model. Set one of them.", "R8")
    yield from check_parameters(backend.get("parameters"), f"{path}.parameters")
