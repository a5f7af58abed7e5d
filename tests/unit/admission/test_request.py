"""Bodies: what is a review of ours, and what is not. Anyone may post here, so everything else is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.admission.request import MalformedReview, parse_review
from tests.builders import make_gateway_config, make_virtual_model
from tests.unit.admission.reviews import make_review, with_metadata

UID = make_review("CREATE", make_virtual_model())["request"]["uid"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def test_well_formed_review_is_read() -> None:
    """Who asks what of which object."""
    new, old = make_gateway_config(app={"port": 1}), make_gateway_config()
    request = parse_review(orjson.dumps(make_review("UPDATE", new, old)))
    assert (request.uid, request.kind, request.operation, request.username) == (UID, "GatewayConfig", "UPDATE", "jane")
    assert (request.namespace, request.name, request.new, request.old) == ("ai", "main", new, old)


def test_name_comes_from_the_object_then_the_request_then_the_prefix() -> None:
    """A generated name is in the object only; a deletion of a collection names nothing in the request."""
    manifest = make_virtual_model()
    named = make_review("DELETE", None, manifest, name="")
    assert parse_review(orjson.dumps(named)).name == "chat"
    nameless = with_metadata(manifest, generateName="chat-")
    del nameless["metadata"]["name"]
    assert parse_review(orjson.dumps(make_review("CREATE", nameless, name=""))).name == "chat-"
    assert parse_review(orjson.dumps(make_review("CREATE", nameless, name="given"))).name == "given"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"hello",
        b"{",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"a"}}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":[]}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":""}}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}',
        b'{"apiVersion":["admission.k8s.io/v1"],"kind":{},"request":{"uid":"a"}}',
    ],
)
def test_what_is_no_review_has_no_uid_and_no_verdict(body: bytes) -> None:
    """The text names the fault and repeats nothing of the body."""
    with pytest.raises(MalformedReview) as caught:
        parse_review(body)
    assert caught.value.uid is None


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        holder = document["request"]
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_set("operation", to="CONNECT"), "only CREATE, UPDATE and DELETE"),
        (_set("operation", to="create"), "only CREATE, UPDATE and DELETE"),
        (_set("operation", to=None), "only CREATE, UPDATE and DELETE"),
        (_set("operation", to=["CREATE"]), "only CREATE, UPDATE and DELETE"),
        (_set("kind", "kind", to="Pod"), "only VirtualModel and GatewayConfig"),
        (_set("kind", "kind", to="GatewayConfig"), "only VirtualModel and GatewayConfig"),
        (_set("kind", "kind", to=[]), "only VirtualModel and GatewayConfig"),
        (_set("kind", "version", to="v1"), "only VirtualModel and GatewayConfig"),
        (_set("kind", "group", to="example.com"), "only VirtualModel and GatewayConfig"),
        (_set("kind", to="VirtualModel"), "only VirtualModel and GatewayConfig"),
        (_set("resource", "resource", to="virtualmodels/status"), "only VirtualModel and GatewayConfig"),
        (_set("resource", "version", to="v2"), "only VirtualModel and GatewayConfig"),
        (_set("resource", to=None), "only VirtualModel and GatewayConfig"),
        (_set("subResource", to="status"), "only VirtualModel and GatewayConfig"),
        (_set("subResource", to="scale"), "only VirtualModel and GatewayConfig"),
        (_set("object", to=None), "request.object is not an object"),
        (_set("object", to=[]), "request.object is not an object"),
        (_set("object", "kind", to="GatewayConfig"), "not of the kind"),
        (_set("object", "apiVersion", to="ai-gateway.io/v1"), "not of the kind"),
        (_set("object", "metadata", to=None), "has no metadata"),
        (_set("object", "metadata", to="x"), "has no metadata"),
        (_set("object", "metadata", "annotations", to=["a"]), "annotations is not a mapping"),
        (_set("object", "metadata", "name", to=5), "name is not a text"),
        (_set("oldObject", to={}), "does not belong to this operation"),
        (_set("namespace", to={}), "namespace is not a text"),
        (_set("userInfo", to=None), "does not say who asks"),
        (_set("userInfo", "username", to=""), "does not say who asks"),
        (_set("userInfo", "username", to=[7]), "username is not a text"),
    ],
)
def test_review_that_is_not_ours_is_refused_by_its_uid(change: Callable[[dict[str, Any]], None], text: str) -> None:
    """Somebody's configuration sends what it should not: the remedy is named, nothing is let through."""
    document = make_review("CREATE", make_virtual_model())
    change(document)
    with pytest.raises(MalformedReview, match=text) as caught:
        parse_review(orjson.dumps(document))
    assert caught.value.uid == UID


@pytest.mark.parametrize(("operation", "key"), [("UPDATE", "oldObject"), ("UPDATE", "object"), ("DELETE", "oldObject")])
def test_operation_needs_its_objects(operation: str, key: str) -> None:
    """Without the stored object neither the ratchet nor protection could be judged: that is not "allowed"."""
    manifest = make_virtual_model()
    document = make_review(operation, None if operation == "DELETE" else manifest, manifest)
    document["request"][key] = None
    with pytest.raises(MalformedReview, match=f"request.{key} is not an object"):
        parse_review(orjson.dumps(document))


@pytest.mark.parametrize(
    ("found", "replaced"),
    [
        (b'"use":true', b'"use":true,"use":true'),
        (b'"use":true', b'"use":false,"\\u0075se":true'),
        (b'"operation":"CREATE"', b'"operation":"DELETE","operation":"CREATE"'),
        (b'"name":"openai"', b'"name":"openai", "name" : "other"'),
        (b'"temperature":0.2', b'"temperature":0.2,"a":1e2,"a":100.0'),
    ],
)
def test_key_that_occurs_twice_is_refused(found: bytes, replaced: bytes) -> None:
    """Two readers may take different ones of two values; the API server never sends such a body."""
    body = orjson.dumps(make_review("CREATE", make_virtual_model()))
    assert body.count(found) >= 1
    with pytest.raises(MalformedReview, match="twice"):
        parse_review(body.replace(found, replaced, 1))


@pytest.mark.parametrize("text", ["a<b>&c", "\u2028", "é", ':"x":', "\\"])
def test_text_that_go_writes_otherwise_is_no_duplicate(text: str) -> None:
    """Go escapes <, > and &: such a body takes the slow path, and is the same."""
    manifest = with_metadata(make_virtual_model(), annotations={"note": text})
    escaped = orjson.dumps(make_review("CREATE", manifest))
    for char in "<>&\u2028":
        escaped = escaped.replace(char.encode(), f"\\u{ord(char):04x}".encode())
    spaced = escaped.replace(b'":', b'" : ') if text != ':"x":' else escaped
    for body in (escaped, escaped + b"\n", spaced):
        assert parse_review(body).new["metadata"]["annotations"]["note"] == text


@given(JSON)
def test_any_json_is_refused_and_nothing_else_is_raised(value: Any) -> None:
    """As the whole body and as any part of a request."""
    with pytest.raises(MalformedReview):
        parse_review(orjson.dumps(value))
    base = make_review("CREATE", make_virtual_model())
    for key in ("kind", "resource", "object", "operation", "userInfo"):
        document = copy.deepcopy(base)
        document["request"][key] = value
        with pytest.raises(MalformedReview):
            parse_review(orjson.dumps(document))
