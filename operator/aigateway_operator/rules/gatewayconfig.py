"""All rules of a GatewayConfig. Structure first, then what no schema can say; every violation in one answer.

Pure. Called by admission, plan (the webhook may have been down) and the command line. Rules look at the raw mapping and
tolerate any shape: a place whose structure is wrong is reported once, by `structure`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aigateway_operator.api.gatewayconfig import MAX_SINKS, GatewayConfigSpec
from aigateway_operator.api.meta import MAX_GATEWAY_NAME
from aigateway_operator.api.texts import (
    gateway_name_too_long,
    missing_required,
    path_leaves_folder,
    shards_changed,
    sink_named_twice,
)
from aigateway_operator.rules.addresses import check_host, check_listen_host, check_url
from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.openmaps import check_open_map
from aigateway_operator.rules.references import check_secret_ref
from aigateway_operator.rules.removal import check_removal
from aigateway_operator.rules.selector import check_pod_selector
from aigateway_operator.rules.size import check_size
from aigateway_operator.rules.structure import check_structure
from aigateway_operator.rules.text import text_fault
from aigateway_operator.rules.violation import FieldReason, Violation, in_order, shown

STORES: Final = ("mongodb", "redis", "qdrant")
_STREAMS: Final = ("system", "operation")
_SEPARATOR: Final = re.compile(r"[/\\]")


def check_gateway_config(spec: object, context: RuleContext, *, old_spec: object = None) -> list[Violation]:
    """Check `spec` of a GatewayConfig, any JSON value, by all rules.

    `old_spec` is the stored spec on an update: keys of fixed sections must not vanish and shards must not change; None
    if this is no update. Returns every violation, sorted by path; [] if the gateway may be served. Raises nothing; the
    time is bounded. Source: docs/rules.md.
    """
    found, go_on = check_size(spec, "spec")
    if not go_on:
        return found
    found.extend(_check_name(context.name))
    given: object = {} if spec is None else spec
    if not isinstance(given, dict):
        found.append(Violation("spec", FieldReason.TYPE_INVALID, "must be a mapping (key: value).", "R5"))
        return in_order(found)
    found.extend(_check_fields(given, context, old_spec if isinstance(old_spec, dict) else {}))
    return in_order(found) if found else found


def _check_fields(spec: dict[str, object], context: RuleContext, old: dict[str, object]) -> Iterator[Violation]:
    misfits = check_structure(GatewayConfigSpec, spec)
    removed = check_removal(old, spec)
    gone = {violation.path for violation in removed}
    # A required key that was there before is named once, as deleted.
    missing = [field for field in misfits.missing if f"spec.{field}" not in gone]
    yield from misfits.violations
    yield from removed
    if missing:
        message = missing_required("Gateway config", shown(context.name), missing)
        yield Violation("spec", FieldReason.REQUIRED, message, "R3")
    wrong = misfits.paths
    yield from (violation for violation in _check_meaning(spec, context, old) if violation.path not in wrong)


def _check_meaning(spec: dict[str, object], context: RuleContext, old: dict[str, object]) -> Iterator[Violation]:
    yield from _check_app(_section(spec, "app"), context)
    storage = _section(spec, "storage")
    for name in STORES:
        yield from _check_store(_section(storage, name), f"spec.storage.{name}", context)
    yield from _check_web_search(_section(spec, "webSearch"), context)
    log = _section(spec, "log")
    for name in _STREAMS:
        stream_storage = _section(_section(log, name), "storage")
        yield from _check_log_path(stream_storage.get("path"), f"spec.log.{name}.storage.path")
        yield from _check_sinks(stream_storage.get("sinks"), f"spec.log.{name}.storage.sinks")
    delivery = _section(spec, "delivery")
    yield from check_pod_selector(delivery.get("podSelector"), "spec.delivery.podSelector")
    if old:
        yield from _check_shards(_section(old, "delivery").get("shards"), delivery.get("shards"))


def _section(holder: dict[str, object], key: str) -> dict[str, object]:
    """Return the mapping at `key`; an empty one if there is none (what is there instead is named by `structure`)."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _check_name(name: str) -> Iterator[Violation]:
    """Reject a name that does not fit into a label. Source: Kubernetes "Labels and Selectors"; docs/rules.md#r21."""
    if len(name) > MAX_GATEWAY_NAME:
        message = gateway_name_too_long(MAX_GATEWAY_NAME)
        yield Violation("metadata.name", FieldReason.TOO_LONG, message, "R21")


def _check_app(app: dict[str, object], context: RuleContext) -> Iterator[Violation]:
    host = app.get("host")
    if isinstance(host, str):
        yield from check_listen_host(host, "spec.app.host", context)


def _check_store(store: dict[str, object], path: str, context: RuleContext) -> Iterator[Violation]:
    host, username = store.get("host"), store.get("username")
    if isinstance(host, str):
        yield from check_host(host, f"{path}.host", context)
    fault = text_fault(username) if isinstance(username, str) else None
    if fault is not None:
        yield Violation(f"{path}.username", FieldReason.INVALID, fault, "R18")
    for key in ("passwordSecretRef", "apiKeySecretRef"):
        yield from check_secret_ref(store.get(key), f"{path}.{key}")
    yield from check_secret_ref(_section(store, "tls").get("caSecretRef"), f"{path}.tls.caSecretRef")


def _check_web_search(web_search: dict[str, object], context: RuleContext) -> Iterator[Violation]:
    url = web_search.get("baseUrl")
    if isinstance(url, str):
        yield from check_url(url, "spec.webSearch.baseUrl", context)
    yield from check_secret_ref(web_search.get("apiKeySecretRef"), "spec.webSearch.apiKeySecretRef")
    yield from check_open_map(web_search.get("options"), "spec.webSearch.options")


def _check_log_path(value: object, path: str) -> Iterator[Violation]:
    """Reject a path that leaves the log folder; a leading '/' is refused by the pattern. Source: docs/rules.md#r20."""
    if isinstance(value, str) and ".." in _SEPARATOR.split(value):
        yield Violation(path, FieldReason.INVALID, path_leaves_folder(), "R20")


def _check_sinks(sinks: object, path: str) -> Iterator[Violation]:
    """Reject a sink that is named twice: each record would be asked for twice. Source: docs/rules.md#r26."""
    if not isinstance(sinks, list) or len(sinks) > MAX_SINKS:  # a longer list is left to `structure`
        return
    names = [item for item in sinks if isinstance(item, str)]
    if len(set(names)) < len(names):
        yield Violation(path, FieldReason.DUPLICATE, sink_named_twice(), "R26")


def _check_shards(before: object, now: object) -> Iterator[Violation]:
    """Reject a change of shards: pods would see models twice or not at all meanwhile. docs/rules.md#r22."""
    was, becomes = (1 if value is None else value for value in (before, now))
    if was != becomes:
        yield Violation("spec.delivery.shards", FieldReason.FORBIDDEN, shards_changed(), "R22")
