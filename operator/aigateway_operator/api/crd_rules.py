"""The rules that the API server itself enforces, as CEL in the CRDs, in the words that webhook and command line use.

They hold while nothing of ours runs. Generated from the models as far as they follow from them: required fields, and in
GatewayConfig's fixed sections that no key is removed. Unknown keys cannot be said in CEL (undeclared keys are invisible
to it, silently); they are the webhook's and the controller's. Pure; called by `crd`.

Rules that name the object or speak of `spec` as a whole stand at the root, where `metadata.name` is visible. A root rule
also runs on every write of status, so it may ask only for what this version always asked for: one that made stored
objects invalid would keep the operator from writing their status. A later, stricter rule belongs further down, where the
API server tolerates unchanged values.

Source: docs/rules.md; docs/measured.md#cel-in-a-crd; Kubernetes "Validation ratcheting".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aigateway_config.documents import RESERVED_BACKEND_NAMES
from aigateway_operator.api import texts
from aigateway_operator.api.cel import OLD, Keys, NamedList, Rule, has_path, hole, joined_where, named_lists, required_fields
from aigateway_operator.api.declared import fields_of, model_below
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.fixed import deletion_remedy, may_go
from aigateway_operator.api.gatewayconfig import FIXED_SECTIONS, Delivery, GatewayConfigSpec
from aigateway_operator.api.meta import MAX_GATEWAY_NAME
from aigateway_operator.api.virtualmodel import MAX_BACKENDS, VirtualModelSpec

RuleSet = dict[str, list[dict[str, Any]]]
"""`x-kubernetes-validations` by place: '' is the root of the object, `spec.backends[]` an item of a list."""

_LEAVES_FOLDER: Final = r"(^|[/\\])[.][.]([/\\]|$)"


def virtual_model_rules() -> RuleSet:
    """Return all rules of a VirtualModel."""
    return _schemas(
        {
            "": [_required(VirtualModelSpec, "Virtual model"), _base_url()],
            "spec": [_current()],
            "spec.backends[]": [_reserved_names()],
        }
    )


def gateway_config_rules() -> RuleSet:
    """Return all rules of a GatewayConfig."""
    rules = {"": [_name_length(), _required(GatewayConfigSpec, "Gateway config"), _shards(), *_kept_sections()]}
    for section in FIXED_SECTIONS:
        rules |= dict(_kept_keys(section))
    for stream in ("system", "operation"):
        rules[f"spec.log.{stream}.storage.path"] = [_log_path()]
        rules[f"spec.log.{stream}.storage.sinks"] = [_sinks()]
    rules["spec.delivery.podSelector"] = [_selector()]
    rules["spec.delivery.podSelector.matchExpressions[]"] = _expression()
    return _schemas(rules)


def _schemas(rules: dict[str, list[Rule]]) -> RuleSet:
    return {place: [rule.schema() for rule in listed] for place, listed in rules.items() if listed}


def fields_required_by_rule(model: type[SpecModel]) -> frozenset[str]:
    """Return the paths (`spec.use`, `spec.backends[].model`) that the schema leaves to `_required`, whose text is ours."""
    plain = {".".join(("spec", *keys)) for keys in required_fields(model)}
    listed = {f"{'.'.join(('spec', *found.keys))}[].{key}" for found in named_lists(model) for key in found.required}
    return frozenset(plain | listed)


def _required(model: type[SpecModel], kind: str) -> Rule:
    plain, lists = list(required_fields(model)), list(named_lists(model))
    conditions = [_given(keys, excused=_is_kept(keys)) for keys in plain]
    conditions += [_all_items_have(found, key) for found in lists for key in found.required]
    terms = [(f"!{_given(keys)}", f"'{'.'.join(keys)}'") for keys in plain]
    terms += [term for found in lists for term in _lacking_items(found)]
    text = texts.missing_required(kind, hole("self.metadata.name"), [hole(joined_where(terms))])
    return Rule(" && ".join(conditions), text, ".spec", "FieldValueRequired", optional_old_self=any(map(_is_kept, plain)))


def _given(keys: Keys, *, excused: bool = False) -> str:
    """Return whether a required field is there, or what would hold it is not.

    `excused`: it is also fine if what holds it was there before, since a rule on removal then speaks alone. Not for texts:
    a messageExpression sees no `oldSelf` when an object is created, and the static text would be shown.
    """
    if len(keys) == 1:
        return f"({has_path('self', 'spec', *keys)})"
    holder = has_path("self", "spec", *keys[:-1])
    excuse = f" || oldSelf.hasValue() && {has_path(OLD, 'spec', *keys[:-1])}" if excused else ""
    return f"(!({holder}) || has({'.'.join(('self', 'spec', *keys))}){excuse})"


def _all_items_have(found: NamedList, key: str) -> str:
    items = ".".join(("self", "spec", *found.keys))
    return f"(!({has_path('self', 'spec', *found.keys)}) || {items}.all(item, has(item.{key})))"


def _lacking_items(found: NamedList) -> Iterator[tuple[str, str]]:
    """Yield (condition, name in quotes) for every required field of every possible item."""
    items, there = ".".join(("self", "spec", *found.keys)), has_path("self", "spec", *found.keys)
    for index in range(found.max_items):
        for key in found.required:
            name = f"'{'.'.join(found.keys)}[{index}].{key}'"
            yield f"{there} && size({items}) > {index} && !has({items}[{index}].{key})", name


def _is_kept(keys: Keys) -> bool:
    """Tell whether a transition rule refuses the removal of a field; it then speaks alone."""
    return keys[0] in FIXED_SECTIONS and not any(map(may_go, keys))


def _base_url() -> Rule:
    spec = "self.spec"
    there = has_path("self", "spec", "backends")
    without = joined_where(
        (f"size({spec}.backends) > {index} && !has({spec}.backends[{index}].baseUrl)", f"'backends[{index}]'")
        for index in range(MAX_BACKENDS)
    )
    rule = f"!({there}) || has({spec}.baseUrl) || {spec}.backends.all(b, has(b.baseUrl))"
    text = texts.no_base_url(hole("self.metadata.name"), hole(without))
    return Rule(rule, text, ".spec.baseUrl", "FieldValueRequired")


def _current() -> Rule:
    known = joined_where((f"size(self.backends) > {index}", f"self.backends[{index}].name") for index in range(MAX_BACKENDS))
    # Without any, which `minItems` refuses, there is no list of backends to name.
    exists = "size(self.backends) == 0 || self.backends.exists(b, b.name == self.current)"
    rule = f"!has(self.current) || !has(self.backends) || {exists}"
    return Rule(rule, texts.current_names_no_backend(hole("self.current"), hole(known)), ".current")


def _reserved_names() -> Rule:
    names = ", ".join(f"'{name}'" for name in sorted(RESERVED_BACKEND_NAMES))
    text = texts.reserved_backend_name(hole("self.name"))
    return Rule(f"!(self.name in [{names}])", text, ".name", "FieldValueForbidden")


def _name_length() -> Rule:
    rule = f"size(self.metadata.name) <= {MAX_GATEWAY_NAME}"
    return Rule(rule, texts.gateway_name_too_long(MAX_GATEWAY_NAME), ".metadata.name")


def _shards() -> Rule:
    def value(start: str) -> str:
        default = Delivery.model_fields["shards"].default
        return f"({has_path(start, 'spec', 'delivery', 'shards')} ? {start}.spec.delivery.shards : {default})"

    rule = f"{value('self')} == {value('oldSelf')}"
    return Rule(rule, texts.shards_changed(), ".spec.delivery.shards", "FieldValueForbidden")


def _kept_sections() -> Iterator[Rule]:
    """Yield a rule for each fixed section, at the root: one on `spec` would not run when all of `spec` is removed."""
    for section in FIXED_SECTIONS:
        rule = f"!({has_path('oldSelf', 'spec', section)}) || ({has_path('self', 'spec', section)})"
        text = texts.cannot_delete_key("spec", section, deletion_remedy(GatewayConfigSpec, section))
        yield Rule(rule, text, f".spec.{section}", "FieldValueForbidden")


def _kept_keys(section: str) -> Iterator[tuple[str, list[Rule]]]:
    model = model_below(GatewayConfigSpec, section)
    if model is not None:
        yield from _kept_below(model, f"spec.{section}")


def _kept_below(model: type[SpecModel], path: str) -> Iterator[tuple[str, list[Rule]]]:
    """Yield (path, rules) for `model` and every object in it. Each rule stands on the parent of the key it keeps."""
    kept = [key for key in fields_of(model) if not may_go(key)]
    yield path, [_kept_key(model, path, key) for key in kept]
    for key in kept:
        below = model_below(model, key)
        if below is not None:
            yield from _kept_below(below, f"{path}.{key}")


def _kept_key(model: type[SpecModel], path: str, key: str) -> Rule:
    text = texts.cannot_delete_key(path, key, deletion_remedy(model, key))
    return Rule(f"!{has_path('oldSelf', key)} || {has_path('self', key)}", text, f".{key}", "FieldValueForbidden")


def _log_path() -> Rule:
    return Rule(f"!self.matches(r'{_LEAVES_FOLDER}')", texts.path_leaves_folder())


def _sinks() -> Rule:
    # Not as FieldValueDuplicate: of that reason the API server shows the value and drops the text.
    return Rule("self.all(one, self.exists_one(other, one == other))", texts.sink_named_twice())


def _selector() -> Rule:
    some = " || ".join(f"(has(self.{key}) && size(self.{key}) > 0)" for key in ("matchLabels", "matchExpressions"))
    return Rule(some, texts.empty_selector(), reason="FieldValueRequired")


def _expression() -> list[Rule]:
    some = "has(self.values) && size(self.values) > 0"
    operator = hole("self.operator")

    def unless(operators: str, condition: str) -> str:
        return f"!has(self.operator) || !(self.operator in {operators}) || {condition}"

    needs, takes_none = texts.selector_needs_values(operator), texts.selector_takes_no_values(operator)
    return [
        Rule(unless("['In', 'NotIn']", f"({some})"), needs, ".values", "FieldValueRequired"),
        Rule(unless("['Exists', 'DoesNotExist']", f"!({some})"), takes_none, ".values", "FieldValueForbidden"),
    ]
