"""One review: a well-formed request → a verdict. The rules decide; this module knows what they are asked of.

Pure: no I/O, no clock, no state between reviews, so that dry runs need no special care and replicas need not agree. Must not
know HTTP. Called by `server`, and by tests that need no server.

Source: docs/admission.md#what-is-let-through; docs/rules.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import orjson

from aigateway_operator.admission.advice import WARN_BYTES, advice_stays, advise_metadata, advise_size, advise_spec
from aigateway_operator.admission.deletion import check_deletion
from aigateway_operator.admission.request import CREATE, DELETE, MalformedReview, ReviewRequest
from aigateway_operator.admission.verdict import Verdict, allow, refuse_deletion, refuse_edit
from aigateway_operator.api.meta import GATEWAY_CONFIG
from aigateway_operator.rules import RuleContext, Violation, check_edit, check_gateway_config, check_virtual_model


@dataclass(frozen=True, slots=True)
class Policy:
    """What an administrator may set about the rules. Defaults are the strict ones."""

    allow_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks allowed although the address rules refuse them (`AIGATEWAY_ALLOW_ADDRESSES`)."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster."""


def review(request: ReviewRequest, policy: Policy) -> Verdict:
    """Decide about one request. Raises MalformedReview if the object is nested too deeply to be judged, nothing else."""
    try:
        if request.operation == DELETE:
            violations = check_deletion(request)
            return refuse_deletion(request, violations) if violations else allow()
        context = RuleContext(request.name, policy.allow_addresses, policy.cluster_domain)
        return _create(request, context) if request.operation == CREATE else _update(request, context)
    except RecursionError:
        raise MalformedReview("the object is nested too deeply", request.uid) from None


def _create(request: ReviewRequest, context: RuleContext) -> Verdict:
    spec = request.new.get("spec")
    check = check_gateway_config if request.kind == GATEWAY_CONFIG else check_virtual_model
    warnings = advise_metadata(request.new["metadata"])
    violations = check(spec, context)
    if violations:
        return refuse_edit(request, violations, warnings)
    return allow([*warnings, *_advice(request, spec)])


def _update(request: ReviewRequest, context: RuleContext) -> Verdict:
    """Judge what the edit changes; finalizers of an object that is going are not our business. Advice is not repeated."""
    if request.old["metadata"].get("deletionTimestamp"):
        return allow()
    warnings = advise_metadata(request.new["metadata"])
    if warnings:
        said = advise_metadata(request.old["metadata"])
        warnings = [text for text in warnings if text not in said]
    spec, old_spec = request.new.get("spec"), request.old.get("spec")
    if _equal(spec, old_spec):
        return allow(warnings)
    edit = check_edit(request.kind, spec, old_spec, context)
    warnings += [_tolerated(violation) for violation in edit.tolerated]
    if edit.violations:
        return refuse_edit(request, edit.violations, warnings)
    if not advice_stays(request.kind, _mapping(spec), _mapping(old_spec)) or request.size_bytes > WARN_BYTES:
        said = _advice(request, old_spec)
        warnings += [text for text in _advice(request, spec) if text not in said]
    return allow(warnings)


def _advice(request: ReviewRequest, spec: object) -> list[str]:
    mapping = _mapping(spec)
    advice = advise_spec(request.kind, mapping)
    return [*advice, *advise_size(mapping)] if request.size_bytes > WARN_BYTES else advice


def _mapping(spec: object) -> dict[str, Any]:
    return spec if isinstance(spec, dict) else {}


def _equal(spec: object, old_spec: object) -> bool:
    """Tell whether two specs are the same JSON. Python alone takes 1, 1.0 and true for equal."""
    if spec != old_spec:
        return False
    try:
        return orjson.dumps(spec, option=orjson.OPT_SORT_KEYS) == orjson.dumps(old_spec, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested too deeply to be written: let the rules say so
        return False


def _tolerated(violation: Violation) -> str:
    return f"stored before, still wrong: {violation}"
