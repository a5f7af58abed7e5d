"""Ratchet: an edit answers for what it changes. What the stored object already broke does not stand in its way.

A rule that became stricter must not lock owners out of objects that were accepted before: somebody has to be able to
label them, switch them off or mend them bit by bit. Such violations become warnings; the controller goes on refusing to
render the object. Called by admission on UPDATE and by the command line for `check --against` and `--live`. Pure.

Source: docs/admission.md#what-is-let-through; Kubernetes "Validation ratcheting" (KEP-4008), which goes by equal values too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aigateway_operator.api.meta import GATEWAY_CONFIG
from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.gatewayconfig import check_gateway_config
from aigateway_operator.rules.violation import FieldReason, Violation
from aigateway_operator.rules.virtualmodel import check_virtual_model

_STEP: Final = re.compile(r"\.?(?P<key>[A-Za-z0-9_-]+)|\[(?P<index>[0-9]+)\]")
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Edit:
    """What the rules say of an update: `violations` refuse it, `tolerated` were there before and become warnings."""

    violations: tuple[Violation, ...] = ()
    tolerated: tuple[Violation, ...] = ()


def check_edit(kind: str, spec: object, old_spec: object, context: RuleContext) -> Edit:
    """Check the update of an object of `kind` from `old_spec`, the stored spec, to `spec`; both any JSON value.

    Rules on edits (removed keys, shards) are among them. An equal spec refuses nothing. Raises nothing.
    """
    if kind == GATEWAY_CONFIG:
        violations = check_gateway_config(spec, context, old_spec=old_spec)
        stored = check_gateway_config(old_spec, context) if violations else []
    else:
        violations = check_virtual_model(spec, context)
        stored = check_virtual_model(old_spec, context) if violations else []
    new, tolerated = split_stored(violations, stored, spec, old_spec)
    return Edit(tuple(new), tuple(tolerated))


def split_stored(
    violations: Sequence[Violation], stored: Sequence[Violation], spec: object, old_spec: object
) -> tuple[list[Violation], list[Violation]]:
    """Split `violations` of `spec` into new ones and those that `old_spec`, with the violations `stored`, had already.

    The same rule, place and text alone are not enough: texts show no values, so one forbidden address could be swapped
    for another. The value at that place must be the same too. Both lists keep the order.
    """
    had = frozenset(stored)
    new: list[Violation] = []
    tolerated: list[Violation] = []
    for violation in violations:
        same = violation in had and (_speaks_of_whole(violation) or _unchanged(violation.path, spec, old_spec))
        (tolerated if same else new).append(violation)
    return new, tolerated


def _speaks_of_whole(violation: Violation) -> bool:
    """Tell whether the text says all there is: of what is missing, of `spec` as a whole, of a name that cannot change."""
    return violation.reason == FieldReason.REQUIRED or not violation.path.startswith(("spec.", "spec["))


def _unchanged(path: str, spec: object, old_spec: object) -> bool:
    """Tell whether `path` leads to equal values. Where a step is no plain key (it may be shortened), what holds it counts."""
    now, before = spec, old_spec
    place = path.removeprefix("spec")
    while match := _STEP.match(place):
        step: str | int = match["key"] if match["index"] is None else int(match["index"])
        now_inside, before_inside = _inside(now, step), _inside(before, step)
        if now_inside is _ABSENT or before_inside is _ABSENT:
            break
        now, before, place = now_inside, before_inside, place[match.end() :]
    return now == before


def _inside(holder: object, step: str | int) -> object:
    if isinstance(holder, dict):
        return holder.get(step, _ABSENT)
    if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
        return holder[step]
    return _ABSENT
