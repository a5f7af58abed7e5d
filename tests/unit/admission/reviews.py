"""AdmissionReviews as the API server sends them, with overrides. Not a test module."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from aigateway_operator.admission.request import parse_review
from aigateway_operator.admission.review import Policy, review
from aigateway_operator.admission.verdict import Verdict

PLURALS = {"VirtualModel": "virtualmodels", "GatewayConfig": "gatewayconfigs"}
Manifest = dict[str, Any]


def make_review(operation: str, new: Manifest | None, old: Manifest | None = None, **request: Any) -> Manifest:
    """Return the review of an operation on `new` (None on DELETE) and `old`; keywords replace keys of the request."""
    obj = new or old or {}
    kind = obj["kind"]
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "ai-gateway.io", "version": "v1alpha1", "kind": kind},
            "resource": {"group": "ai-gateway.io", "version": "v1alpha1", "resource": PLURALS[kind]},
            "requestKind": {"group": "ai-gateway.io", "version": "v1alpha1", "kind": kind},
            "requestResource": {"group": "ai-gateway.io", "version": "v1alpha1", "resource": PLURALS[kind]},
            "name": obj["metadata"].get("name", ""),
            "namespace": obj["metadata"].get("namespace", "ai"),
            "operation": operation,
            "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
            "object": copy.deepcopy(new),
            "oldObject": copy.deepcopy(old),
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **request,
        },
    }


def judge(operation: str, new: Manifest | None, old: Manifest | None = None, **request: Any) -> Verdict:
    """Return the verdict on such a review, through its bytes."""
    return review(parse_review(orjson.dumps(make_review(operation, new, old, **request))), Policy())


def fields(verdict: Verdict) -> list[str]:
    """Return the places of a refusal; [] if it is none."""
    return [] if verdict.status is None else [cause["field"] for cause in verdict.status["details"]["causes"]]


def with_metadata(manifest: Manifest, **metadata: Any) -> Manifest:
    """Return the manifest with further metadata."""
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}
