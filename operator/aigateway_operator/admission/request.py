"""Bytes of an AdmissionReview → a request that is known to be well formed. Everything else is an error, never a guess.

Pure. Anyone in the cluster may post to the webhook, so a body is hostile until shown otherwise: no shape, kind or version
that is not exactly ours gets further than this module. Called by `server` (through `review`).

Source: Kubernetes "Dynamic Admission Control" (request and response), admission.k8s.io/v1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import orjson

from aigateway_operator.api.meta import (
    API_VERSION,
    GATEWAY_CONFIG,
    GATEWAY_CONFIGS,
    GROUP,
    VERSION,
    VIRTUAL_MODEL,
    VIRTUAL_MODELS,
)
from aigateway_operator.errors import AigatewayError

PATH: Final = "/validate"
"""Where reviews are posted; no other path is ever answered with a verdict."""
REVIEW_VERSION: Final = "admission.k8s.io/v1"
REVIEW_KIND: Final = "AdmissionReview"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"
RESOURCES: Final = {VIRTUAL_MODEL: VIRTUAL_MODELS, GATEWAY_CONFIG: GATEWAY_CONFIGS}
"""Kinds that are reviewed, and their resources."""
_NAMED: Final = {
    kind: ({"group": GROUP, "version": VERSION, "kind": kind}, {"group": GROUP, "version": VERSION, "resource": plural})
    for kind, plural in RESOURCES.items()
}
"""What a request says of itself, by kind."""
_MAX_UID: Final = 253
JsonObject = dict[str, Any]


class MalformedReview(AigatewayError):
    """The body is no review of ours. `uid` is the request's, None where not even that can be told."""

    def __init__(self, message: str, uid: str | None = None) -> None:
        super().__init__(message)
        self.uid = uid


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """What the API server asks. Objects are as it sent them; {} where the operation has none."""

    uid: str
    kind: str
    operation: str
    namespace: str
    name: str
    username: str
    new: JsonObject
    """The object as it would be stored; {} on DELETE."""
    old: JsonObject
    """The object as it is stored; {} on CREATE."""
    size_bytes: int
    """Length of the whole review: no part of it is larger."""
    groups: tuple[str, ...] = ()
    """Groups of the user."""
    dry_run: bool = False
    """Nothing will be stored, whatever is answered."""


def parse_review(body: bytes) -> ReviewRequest:
    """Return the request of an AdmissionReview. Raises MalformedReview and nothing else, for any bytes."""
    try:
        return _request_of(_decode(body), len(body))
    except RecursionError:
        raise MalformedReview("the body is nested too deeply") from None


def _decode(body: bytes) -> object:
    """Decode JSON that names no key of an object twice: of two values another reader may see the other one.

    What the API server sends is compact and in the order that orjson writes again, so equal bytes prove it at once; only
    other bodies (`<` escaped by Go, floats) are read a second time, slowly.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedReview(f"the body is not JSON: {error.msg}") from None
    try:
        same = orjson.dumps(document) == body.strip()
    except orjson.JSONEncodeError:  # nested more than 254 deep: legal JSON that orjson reads but does not write
        same = False
    if not same:
        try:
            json.loads(body, object_pairs_hook=_refuse_duplicates)
        except ValueError as error:
            raise MalformedReview(f"the body is not JSON: {error}") from None
    return document


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise MalformedReview("the body names a key of an object twice")


def _request_of(document: object, size_bytes: int) -> ReviewRequest:
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (REVIEW_VERSION, REVIEW_KIND):
        raise MalformedReview(f"the body is no {REVIEW_KIND} of {REVIEW_VERSION}")
    request = document.get("request")
    if not isinstance(request, dict):
        raise MalformedReview("the review has no request")
    uid = request.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= _MAX_UID:
        raise MalformedReview("the request has no uid")
    try:
        return _checked(request, uid, size_bytes)
    except _Wrong as wrong:
        raise MalformedReview(str(wrong), uid) from None


class _Wrong(Exception):
    """A part of a request that has a uid is not as it must be."""


def _checked(request: JsonObject, uid: str, size_bytes: int) -> ReviewRequest:
    kind = _kind(request)
    operation = request.get("operation")
    if operation not in (CREATE, UPDATE, DELETE):
        raise _Wrong("only CREATE, UPDATE and DELETE are reviewed here. Correct the rules of the webhook configuration.")
    user = request.get("userInfo")
    if not isinstance(user, dict) or not user.get("username"):
        raise _Wrong("the request does not say who asks (userInfo.username)")
    new = _object(request, "object", kind, wanted=operation != DELETE)
    old = _object(request, "oldObject", kind, wanted=operation != CREATE)
    metadata = (new or old)["metadata"]
    return ReviewRequest(
        uid=uid,
        kind=kind,
        operation=operation,
        namespace=_text(request, "namespace"),
        # On CREATE by generateName `request.name` is empty; on a deletion of a collection too.
        name=_text(metadata, "name") or _text(request, "name") or _text(metadata, "generateName"),
        username=_text(user, "username"),
        new=new,
        old=old,
        size_bytes=size_bytes,
        groups=_groups(user),
        dry_run=request.get("dryRun") is True,
    )


def _groups(user: JsonObject) -> tuple[str, ...]:
    groups = user.get("groups")
    return tuple([group for group in groups if isinstance(group, str)]) if isinstance(groups, list) else ()


def _kind(request: JsonObject) -> str:
    """Return the kind, if kind and resource are one of ours, in our version, and no subresource is meant."""
    kind = request.get("kind")
    name = kind.get("kind") if isinstance(kind, dict) else None
    named = _NAMED.get(name) if isinstance(name, str) else None
    if named is None or (kind, request.get("resource")) != named or request.get("subResource"):
        kinds = " and ".join(RESOURCES)
        raise _Wrong(f"only {kinds} of {API_VERSION} are reviewed here. Correct the rules of the webhook configuration.")
    return str(name)


def _object(request: JsonObject, key: str, kind: str, *, wanted: bool) -> JsonObject:
    found = request.get(key)
    if not wanted:
        if found is not None:
            raise _Wrong(f"request.{key} does not belong to this operation")
        return {}
    if not isinstance(found, dict):
        raise _Wrong(f"request.{key} is not an object")
    if found.get("kind") != kind or found.get("apiVersion") != API_VERSION:
        raise _Wrong(f"request.{key} is not of the kind that the request names")
    metadata = found.get("metadata")
    if not isinstance(metadata, dict):
        raise _Wrong(f"request.{key} has no metadata")
    annotations = metadata.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        raise _Wrong(f"request.{key}.metadata.annotations is not a mapping")
    return found


def _text(holder: JsonObject, key: str) -> str:
    value = holder.get(key, "")
    if not isinstance(value, str):
        raise _Wrong(f"{key} is not a text")
    return value
