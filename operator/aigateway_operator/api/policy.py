"""The fixed structure as ValidatingAdmissionPolicies: unknown and removed keys refused with nothing of ours running.

CEL in a CRD cannot see undeclared keys; in a policy the object is untyped, and every key is there. Optional and off by
default: a policy answers before the webhook does, with one message and no field. Only the first failing validation of a
policy is reported, so each policy has one, whose message joins all violations, in the words of the rules (without "did
you mean", which CEL cannot say). As in the rules, an update answers only for what it changes. Pure: returns plain
mappings. Called by the command line, which prints and writes them.

What these expressions use, Kubernetes 1.32 knows. Fields are reached through `dyn`, or the API server would warn that
the schema does not declare them. Source: docs/measured.md#conditions-of-webhooks-and-policies; docs/rules.md#r1, #r2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from aigateway_operator.api import texts
from aigateway_operator.api.crd import KINDS, Kind
from aigateway_operator.api.declared import fields_of, max_items, model_below
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.fixed import deletion_remedy, may_go
from aigateway_operator.api.gatewayconfig import FIXED_SECTIONS, GatewayConfigSpec
from aigateway_operator.api.meta import GROUP, VERSION

Manifest = dict[str, Any]

REGISTRATION: Final = "admissionregistration.k8s.io/v1"
_SEPARATOR: Final = " | "
_LONGEST: Final = 4800
"""Characters of the joined text; the API server drops a message beyond 5 KiB, and then names nothing at all."""
_LONGEST_KEY: Final = 80
_HOLE: Final = "⟦key⟧"


def admission_policies() -> list[Manifest]:
    """Return one policy for each kind, and the binding that puts it in force everywhere, in the order to apply them."""
    return [manifest for kind in KINDS for manifest in (_policy(kind), _binding(kind))]


def _name(kind: Kind) -> str:
    return f"{kind.plural}.{GROUP}"


def _policy(kind: Kind) -> Manifest:
    places = list(_places(kind.spec))
    variables = [variable for place in places if not place.listed for variable in _held(place)]
    found = [expression for place in places if not place.listed for expression in _problems(place, places, kind)]
    variables.append({"name": "problems", "expression": " + ".join(found)})
    joined = f"variables.problems.join('{_SEPARATOR}')"
    return {
        "apiVersion": REGISTRATION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": _name(kind)},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [GROUP],
                        "apiVersions": [VERSION],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [kind.plural],
                    }
                ]
            },
            # An object that is being deleted takes its last writes (finalizers) as it is.
            "matchConditions": [{"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"}],
            "variables": variables,
            "validations": [
                {
                    "expression": "variables.problems.size() == 0",
                    "message": f"The structure of a {kind.name} is fixed. `aigateway check` names each key added or removed.",
                    "messageExpression": f"{joined}.size() > {_LONGEST} ? {joined}.substring(0, {_LONGEST}) + '…' : {joined}",
                    "reason": "Invalid",
                }
            ],
        },
    }


def _binding(kind: Kind) -> Manifest:
    return {
        "apiVersion": REGISTRATION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": _name(kind)},
        "spec": {"policyName": _name(kind), "validationActions": ["Deny"]},
    }


@dataclass(frozen=True, slots=True)
class _Place:
    """A declared object: its keys below `spec`, its model, and whether it is an item of a list or stands inside one."""

    keys: tuple[str, ...]
    model: type[SpecModel]
    listed: bool

    @property
    def path(self) -> str:
        """How messages name it."""
        return ".".join(("spec", *self.keys))

    def holder(self, old: bool = False) -> str:
        """Return the variable with the object's map: empty where there is none. `old`: of the stored object."""
        return "_".join(("variables.old" if old else "variables.new", *self.keys))


def _places(model: type[SpecModel], above: tuple[str, ...] = ()) -> Iterator[_Place]:
    """Yield every declared object that is not inside a list, and the items of each list; what is above comes first."""
    yield _Place(above, model, listed=False)
    for key in fields_of(model):
        below = model_below(model, key)
        if below is not None and not max_items(model, key):
            yield from _places(below, (*above, key))
        elif below is not None:
            yield _Place((*above, key), below, listed=True)


def _held(place: _Place) -> Iterator[Manifest]:
    """Yield the variables that hold a place's map, new and stored."""
    if not place.keys:
        yield {"name": "new", "expression": "has(object.spec) ? dyn(object.spec) : dyn({})"}
        old = "oldObject != null && has(oldObject.spec) ? dyn(oldObject.spec) : dyn({})"
        yield {"name": "old", "expression": old}
        return
    above = _Place(place.keys[:-1], place.model, listed=False)
    for old_too in (False, True):
        name = place.holder(old_too).removeprefix("variables.")
        yield {"name": name, "expression": _inside(above.holder(old_too), place.keys[-1])}


def _inside(holder: str, key: str) -> str:
    return f"'{key}' in {holder} ? dyn({holder}.{key}) : dyn({{}})"


def _problems(place: _Place, places: list[_Place], kind: Kind) -> Iterator[str]:
    """Yield expressions, each a list of texts: unknown keys here and in the lists right here, then removed keys."""
    path = f"'{place.path}'"
    yield _unknown_keys(place.model, path, place.holder(), f"[{place.holder(old=True)}]")
    for listed in places:
        if listed.listed and listed.keys[:-1] == place.keys:
            yield _unknown_in_items(place, listed)
    if kind.spec is GatewayConfigSpec:
        yield from _removed_keys(place)


def _unknown_keys(model: type[SpecModel], path: str, holder: str, stored: str) -> str:
    """Return a list of texts for the keys of `holder` that `model` does not declare, unless one of `stored` has the same.

    `path` and `stored` are expressions: the place as text, and a list of maps.
    """
    allowed = list(fields_of(model))
    before, after = texts.cannot_add_key("⟦path⟧", _HOLE, allowed, guess=False).split(_HOLE)
    middle, after = after.split("⟦path⟧")
    listed = "[" + ", ".join(_text(key) for key in allowed) + "]"
    short = f"(k.size() > {_LONGEST_KEY} ? k.substring(0, {_LONGEST_KEY}) + '…' : k).replace('\\n', ' ')"
    text = f"{path} + '.' + {short} + {_text(': ' + before)} + {short} + {_text(middle)} + {path} + {_text(after)}"
    kept = f"{stored}.exists(o, k in o && o[k] == {holder}[k])"
    return f"{holder}.map(k, string(k)).filter(k, !(k in {listed}) && !{kept}).map(k, {text})"


def _unknown_in_items(place: _Place, listed: _Place) -> str:
    """Return a list with a text for each item of a list that has unknown keys, in it or in the objects below it."""
    key = listed.keys[-1]
    items, stored = (
        f"('{key}' in {holder} ? dyn({holder}.{key}) : dyn([]))" for holder in (place.holder(), place.holder(True))
    )
    indexes = ", ".join(str(index) for index in range(max_items(place.model, key)))
    item, path = f"{items}[i]", f"'{listed.path}[' + string(i) + ']'"
    found = [_unknown_keys(listed.model, path, item, stored)]
    for inner in fields_of(listed.model):
        below = model_below(listed.model, inner)
        if below is not None:
            holder = f"({_inside(item, inner)})"
            had = f"{stored}.filter(s, '{inner}' in s).map(s, dyn(s.{inner}))"
            found.append(_unknown_keys(below, f"{path} + '.{inner}'", holder, had))
    texts_of_item = " + ".join(found)
    return f"[{indexes}].filter(i, i < {items}.size()).map(i, ({texts_of_item}).join('{_SEPARATOR}')).filter(t, t != '')"


def _removed_keys(place: _Place) -> Iterator[str]:
    """Yield an expression with the text for each key of a fixed section that vanished while what holds it stayed."""
    fixed = FIXED_SECTIONS if not place.keys else fields_of(place.model)
    if (place.keys and place.keys[0] not in FIXED_SECTIONS) or any(map(may_go, place.keys)):
        return
    for key in fixed:
        if not may_go(key):
            message = texts.cannot_delete_key(place.path, key, deletion_remedy(place.model, key))
            text = _text(f"{place.path}.{key}: {message}")
            new, old = place.holder(), place.holder(old=True)
            stays = f" && {_present(place)}" if place.keys else ""
            yield f"('{key}' in {old} && !('{key}' in {new}){stays} ? [{text}] : [])"


def _present(place: _Place) -> str:
    above = _Place(place.keys[:-1], place.model, listed=False)
    return f"'{place.keys[-1]}' in {above.holder()}"


def _text(text: str) -> str:
    """Return a text as CEL writes it."""
    return json.dumps(text, ensure_ascii=False)
