"""All rules of a VirtualModel. Structure first, then what no schema can say; every violation in one answer.

Pure. Called by admission, plan (the webhook may have been down) and the command line. Rules look at the raw mapping and
tolerate any shape: a place whose structure is wrong is reported once, by `structure`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from aigateway_config.documents import RESERVED_BACKEND_NAMES
from aigateway_operator.api.texts import current_names_no_backend, missing_required, no_base_url, reserved_backend_name
from aigateway_operator.api.virtualmodel import VirtualModelSpec
from aigateway_operator.rules.addresses import check_url
from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.openmaps import check_parameters
from aigateway_operator.rules.references import check_secret_ref
from aigateway_operator.rules.size import check_size
from aigateway_operator.rules.structure import check_structure
from aigateway_operator.rules.text import text_fault
from aigateway_operator.rules.violation import FieldReason, Violation, in_order, shown

_Backends = list[tuple[int, dict[str, object]]]
_LISTED: Final = 32


def check_virtual_model(spec: object, context: RuleContext) -> list[Violation]:
    """Check `spec` of a VirtualModel, any JSON value, by all rules.

    Returns every violation, sorted by path; [] if the model may be served. Raises nothing; the time is bounded.
    Source: docs/rules.md.
    """
    found, go_on = check_size(spec, "spec")
    if not go_on:
        return found
    given: object = {} if spec is None else spec
    if not isinstance(given, dict):
        return [Violation("spec", FieldReason.TYPE_INVALID, "must be a mapping (key: value).", "R5")]
    misfits = check_structure(VirtualModelSpec, given)
    found.extend(misfits.violations)
    if misfits.missing:
        message = missing_required("Virtual model", shown(context.name), misfits.missing)
        found.append(Violation("spec", FieldReason.REQUIRED, message, "R3"))
    wrong = misfits.paths
    found.extend(violation for violation in _check_meaning(given, context) if violation.path not in wrong)
    return in_order(found) if found else found


def effective_model_name(spec: object, name: str) -> str:
    """Return the public name that `spec` asks for: `modelName`, or `name` (metadata.name) if it names none as text."""
    asked = spec.get("modelName") if isinstance(spec, dict) else None
    return asked if isinstance(asked, str) and asked else name


def _check_meaning(spec: dict[str, object], context: RuleContext) -> Iterator[Violation]:
    items = spec.get("backends")
    backends = [(index, item) for index, item in enumerate(items) if isinstance(item, dict)] if isinstance(items, list) else []
    yield from _check_url_field(spec, "spec", context)
    yield from check_secret_ref(spec.get("proxyKeySecretRef"), "spec.proxyKeySecretRef")
    yield from _check_current(spec.get("current"), backends)
    yield from _check_names(backends)
    yield from _check_url_somewhere(spec, backends, context)
    for index, backend in backends:
        path = f"spec.backends[{index}]"
        yield from _check_url_field(backend, path, context)
        yield from check_secret_ref(backend.get("apiKeySecretRef"), f"{path}.apiKeySecretRef")
        yield from _check_upstream_model(backend.get("model"), f"{path}.model")
        yield from check_parameters(backend.get("parameters"), f"{path}.parameters")


def _check_url_field(holder: dict[str, object], path: str, context: RuleContext) -> list[Violation]:
    url = holder.get("baseUrl")
    return check_url(url, f"{path}.baseUrl", context) if isinstance(url, str) else []


def _check_current(current: object, backends: _Backends) -> Iterator[Violation]:
    """Reject a `current` that names none of `backends`. Source: docs/rules.md#r4."""
    names = [name for _, backend in backends if isinstance(name := backend.get("name"), str)]
    if isinstance(current, str) and names and current not in names:
        known = ", ".join(shown(name) for name in names[:_LISTED])
        message = current_names_no_backend(shown(current), known)
        yield Violation("spec.current", FieldReason.NOT_SUPPORTED, message, "R4")


def _check_names(backends: _Backends) -> Iterator[Violation]:
    """Reject backend names that occur twice or are keys of the rendered entry. Source: docs/rules.md#r6, #r7."""
    names = Counter(name for _, backend in backends if isinstance(name := backend.get("name"), str))
    seen: set[str] = set()
    for index, backend in backends:
        name = backend.get("name")
        if not isinstance(name, str):
            continue
        path = f"spec.backends[{index}].name"
        if names[name] > 1 and name in seen:
            message = f"'{shown(name)}' names another backend already. Give each backend a name of its own."
            yield Violation(path, FieldReason.DUPLICATE, message, "R6")
        if name in RESERVED_BACKEND_NAMES:
            yield Violation(path, FieldReason.FORBIDDEN, reserved_backend_name(name), "R7")
        seen.add(name)


def _check_url_somewhere(spec: dict[str, object], backends: _Backends, context: RuleContext) -> Iterator[Violation]:
    """Require `baseUrl` here or on every backend. Source: docs/rules.md#r8."""
    without = [f"backends[{index}]" for index, backend in backends if backend.get("baseUrl") is None]
    if spec.get("baseUrl") is None and without:
        message = no_base_url(shown(context.name), ", ".join(without[:_LISTED]))
        yield Violation("spec.baseUrl", FieldReason.REQUIRED, message, "R8")


def _check_upstream_model(model: object, path: str) -> Iterator[Violation]:
    fault = text_fault(model) if isinstance(model, str) else None
    if fault is not None:
        yield Violation(path, FieldReason.INVALID, fault, "R18")
