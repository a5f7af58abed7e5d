"""Fixed structure over time: in the sections that pods read, a key that the stored object sets must not vanish.

Pods have been told of it, and a reader cannot tell "gone" from "never asked for". Users name, secret references and TLS
may come and go. Called by the rules of GatewayConfig on updates only; what the new spec adds is the business of
`structure`.

Source: docs/concepts.md#two-resources; docs/rules.md#r2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aigateway_operator.api.declared import fields_of, model_below
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.fixed import deletion_remedy, may_go
from aigateway_operator.api.gatewayconfig import FIXED_SECTIONS, GatewayConfigSpec
from aigateway_operator.api.texts import cannot_delete_key
from aigateway_operator.rules.violation import FieldReason, Violation, at


def check_removal(old: Mapping[str, object], new: Mapping[str, object]) -> list[Violation]:
    """Refuse each key of a fixed section that `old` (the stored spec) sets and `new` does not.

    Returns one violation per vanished key, at its place; nothing inside a vanished section is named again.
    """
    return [found for key in FIXED_SECTIONS for found in _check_key(GatewayConfigSpec, key, old, new, "spec")]


def _check_key(
    model: type[SpecModel], key: str, old: Mapping[str, object], new: Mapping[str, object], path: str
) -> Iterator[Violation]:
    before, now = old.get(key), new.get(key)
    below = model_below(model, key)
    if before is None or may_go(key):
        return
    if now is None:
        message = cannot_delete_key(path, key, deletion_remedy(model, key))
        yield Violation(at(path, key), FieldReason.FORBIDDEN, message, "R2")
    elif below is not None and isinstance(before, dict) and isinstance(now, dict):
        for inner in fields_of(below):
            yield from _check_key(below, inner, before, now, at(path, key))
