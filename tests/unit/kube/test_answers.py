"""Answers of the API server become errors by their code alone, with the server's words and never a Secret's content."""

from __future__ import annotations

import orjson
import pytest

from aigateway_operator.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected, Unavailable
from aigateway_operator.kube.answers import MAX_LEVELS, parse_error, parse_object, parse_watch_error
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS

KINDS = [
    (400, Rejected),
    (401, Forbidden),
    (403, Forbidden),
    (404, NotFound),
    (408, Unavailable),
    (409, Conflict),
    (410, Rejected),
    (413, Rejected),
    (415, Rejected),
    (422, Rejected),
    (429, Unavailable),
    (500, Unavailable),
    (503, Unavailable),
    (504, Unavailable),
    (302, Unavailable),
]


@pytest.mark.parametrize(("status", "kind"), KINDS)
def test_each_code_becomes_its_error(status: int, kind: type[ClusterError]) -> None:
    """Both as an answer and as an ERROR event of a watch; the place and the reason are in the text."""
    body = orjson.dumps({"kind": "Status", "message": "the reason", "code": status})
    error = parse_error("PUT /api/v1/configmaps/a", status, {}, body)
    assert type(error) is kind
    assert error.status == status
    assert "PUT /api/v1/configmaps/a" in str(error)
    assert "the reason" in str(error)
    assert type(parse_watch_error("WATCH /x", {"code": status, "message": "m"})) is kind


def test_what_the_server_asks_to_wait_is_kept() -> None:
    """429 and 503 carry it in a header, watches in details."""
    assert parse_error("GET /x", 503, {"Retry-After": "3"}, b"").retry_after_seconds == 3.0
    assert parse_error("GET /x", 503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"").retry_after_seconds is None
    assert parse_watch_error("W", {"code": 429, "details": {"retryAfterSeconds": 2}}).retry_after_seconds == 2.0


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[1]", b'"x"', b"{}", b'{"message": null}', b"\xff"])
def test_odd_bodies_of_errors_are_survived(body: bytes) -> None:
    """Load balancers answer in their own ways."""
    assert isinstance(parse_error("GET /x", 502, {}, body), Unavailable)
    assert len(str(parse_error("GET /x", 502, {}, body * 10_000))) < 3_000


@pytest.mark.parametrize("obj", [None, [], {}, {"code": "x", "details": 3}])
def test_odd_watch_errors_are_unavailable(obj: object) -> None:
    """What cannot be understood is retried, not taken for a refusal."""
    assert isinstance(parse_watch_error("W", obj), Unavailable)


def test_texts_about_secrets_give_the_reason_alone() -> None:
    """A refusal can quote the refused value."""
    body = orjson.dumps({"reason": "Invalid", "message": "data[key]: Invalid value: hunter2"})
    error = parse_error(f"PUT {SECRETS.object_path('ns', 'a')}", 422, {}, body)
    assert "hunter2" not in str(error)
    assert "Invalid" in str(error)
    assert "hunter2" not in str(parse_error(f"PUT {SECRETS.object_path('ns', 'a')}", 502, {}, b"echo: hunter2"))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"kind": "Pod"'])
def test_a_body_that_is_no_object_is_unavailable(body: bytes) -> None:
    """A proxy's page with 200 must not be taken for an empty list."""
    with pytest.raises(Unavailable, match="no JSON object"):
        parse_object("GET /x", body)


@pytest.mark.parametrize("depth", [1200, 10_000])
def test_one_object_that_is_too_deep_leaves_the_others_readable(depth: int) -> None:
    """The API server stores what no parser of ours reads; a whole LIST was unreadable for ever because of one user's object."""
    deep = b'{"text": "]}\\"[", "a": ' + b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2) + b', "after": 7}'
    obj = parse_object("LIST", b'{"items": [{"name": "good"}, {"spec": ' + deep + b'}, {"name": "[last"}]}')
    assert [item.get("name") for item in obj["items"]] == ["good", None, "[last"]
    assert (obj["items"][1]["spec"]["text"], obj["items"][1]["spec"]["after"]) == (']}"[', 7)
    value, levels = obj["items"][1]["spec"]["a"], 0
    while value is not None:
        value, levels = (value["a"] if isinstance(value, dict) else value[0]), levels + 1
    assert levels == MAX_LEVELS - 4, "what is left is still deeper than any rule accepts"
    with pytest.raises(Unavailable, match="no JSON object"):
        parse_object("LIST", b'{"items": ' + b"[" * 5000)


def test_paths_are_those_of_the_api() -> None:
    """The core group has a root of its own; None is the whole cluster."""
    assert CONFIG_MAPS.object_path("ns", "a") == "/api/v1/namespaces/ns/configmaps/a"
    assert CONFIG_MAPS.collection_path(None) == "/api/v1/configmaps"
    path = VIRTUAL_MODELS.object_path("ns", "chat", "status")
    assert path == "/apis/ai-gateway.io/v1alpha1/namespaces/ns/virtualmodels/chat/status"
