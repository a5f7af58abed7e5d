"""Every way a request can fail, with its status and body: one table, asked over raw HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from hack.process import free_ports
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.stub_upstream import Behaviour, StubUpstream

GOOD = {"model": "chat", "messages": [{"role": "user", "content": "the prompt"}]}
AUTH = {"Authorization": "Bearer key-chat"}
WRONG = {"Authorization": "Bearer nope"}
OPENAI_400 = {"error": {"message": "bad temperature", "type": "invalid_request_error", "param": "temperature", "code": "bad"}}
REQUEST, UPSTREAM, SERVER = "invalid_request_error", "upstream_error", "server_error"


@dataclass(frozen=True)
class Case:
    """What is asked, how the stub behaves, and what must come back."""

    name: str
    status: int
    code: str | None
    type: str
    body: Any = None
    """None: GOOD for `model`; bytes: as they are."""
    model: str = "chat"
    headers: dict[str, str] = field(default_factory=lambda: AUTH)
    method: str = "POST"
    path: str = "/v1/chat/completions"
    stub: Behaviour | None = None
    says: str = ""
    retry: str | None = None
    """x-should-retry, or None for none."""
    retry_after: str | None = None
    param: str | None = None


def answer(status: int, body: Any, **values: Any) -> Behaviour:
    """Return a stub that answers so."""
    return Behaviour(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode(), **values)


CASES = [
    # who calls
    Case("no key", 401, None, REQUEST, headers={}, says="didn't provide an API key"),
    Case("key of another scheme", 401, None, REQUEST, headers={"Authorization": "Basic a2V5LWNoYXQ="}),
    Case("empty bearer", 401, None, REQUEST, headers={"Authorization": "Bearer"}),
    Case("wrong key", 401, "invalid_api_key", REQUEST, headers=WRONG),
    Case("beginning of the key", 401, "invalid_api_key", REQUEST, headers={"Authorization": "Bearer key-cha"}),
    Case("key and more", 401, "invalid_api_key", REQUEST, headers={"Authorization": "Bearer key-chat2"}),
    Case("key in other letters", 401, "invalid_api_key", REQUEST, headers={"Authorization": "Bearer KEY-CHAT"}),
    Case("the backend's key", 401, "invalid_api_key", REQUEST, headers={"Authorization": "Bearer sk-backend"}),
    Case("proxy key missing", 401, "invalid_api_key", REQUEST, model="no-proxy-key"),
    Case("wrong key and no JSON", 401, "invalid_api_key", REQUEST, body=b"{", headers=WRONG),
    Case("wrong key for embeddings", 401, "invalid_api_key", REQUEST, path="/v1/embeddings", headers=WRONG),
    Case("no key for models", 401, None, REQUEST, method="GET", path="/v1/models", headers={}),
    Case("wrong key, models", 401, "invalid_api_key", REQUEST, method="GET", path="/v1/models", headers=WRONG),
    # what is asked
    Case("empty body", 400, "invalid_json", REQUEST, body=b""),
    Case("not JSON", 400, "invalid_json", REQUEST, body=b'{"model": "chat", "messages": [}', says="line 1"),
    Case("not UTF-8", 400, "invalid_json", REQUEST, body=b'{"model": "\xff"}'),
    Case("NaN", 400, "invalid_json", REQUEST, body=b'{"model": "chat", "temperature": NaN}'),
    Case("too deep", 400, "invalid_json", REQUEST, body=b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    Case("too deep to send", 400, "invalid_json", REQUEST, body=b'{"model":"chat","a":' + b"[" * 300 + b"]" * 300 + b"}"),
    Case("a list", 400, "invalid_json", REQUEST, body=b"[]", says="must be a JSON object"),
    Case("no model", 400, "model_required", REQUEST, body={"messages": []}, param="model"),
    Case("null model", 400, "model_required", REQUEST, body={"model": None}, param="model"),
    Case("model is a number", 400, "model_required", REQUEST, body={"model": 7}, param="model"),
    Case("model is empty", 400, "model_required", REQUEST, body={"model": ""}, param="model"),
    Case("too large", 413, "request_too_large", REQUEST, body=b" " * 100_001, says="100000 bytes"),
    Case("unknown model", 404, "model_not_found", REQUEST, model="nobody", says="`nobody` does not exist", param="model"),
    Case("unknown model, long name", 404, "model_not_found", REQUEST, model="x" * 9000, param="model"),
    Case("switched off", 404, "model_not_found", REQUEST, model="off", param="model"),
    Case("model of another key", 404, "model_not_found", REQUEST, model="org/Keyless_v2.1", says="access", param="model"),
    Case("unknown model, embeddings", 404, "model_not_found", REQUEST, path="/v1/embeddings", model="nobody", param="model"),
    Case("one unknown model", 404, "model_not_found", REQUEST, method="GET", path="/v1/models/nobody", param="model"),
    Case("unknown URL", 404, "unknown_url", REQUEST, path="/v1/completions", says="POST /v1/completions"),
    Case("wrong method", 405, "method_not_allowed", REQUEST, method="GET", says="GET /v1/chat/completions"),
    Case("backend key missing", 503, "backend_key_missing", SERVER, model="no-backend-key", retry_after="5"),
    # what the backend says
    Case("400 of the backend", 400, "bad", REQUEST, stub=answer(400, OPENAI_400), says="bad temperature", param="temperature"),
    Case("422 of the backend", 422, "x", REQUEST, stub=answer(422, {"error": {"message": "no", "code": "x"}}), says="no"),
    Case("error that is a text", 400, "upstream_error", REQUEST, stub=answer(400, {"error": "bad"}), says="answered 400"),
    Case("error that is HTML", 500, "upstream_error", UPSTREAM, stub=answer(500, b"<html>trace</html>"), says="answered 500"),
    Case("error without a body", 503, "upstream_error", UPSTREAM, stub=answer(503, b"")),
    Case("401 of the backend", 502, "upstream_authentication_failed", UPSTREAM, stub=answer(401, OPENAI_400), retry="false"),
    Case("403 of the backend", 502, "upstream_authentication_failed", UPSTREAM, stub=answer(403, b""), retry="false"),
    Case("404 of the backend", 502, "upstream_not_found", UPSTREAM, stub=answer(404, OPENAI_400), retry="false"),
    Case("407 of the backend", 502, "upstream_invalid_response", UPSTREAM, stub=answer(407, b"")),
    Case("429 of the backend", 429, "rate", "requests", retry_after="17",
         stub=answer(429, {"error": {"message": "slow", "code": "rate"}}, headers={"Retry-After": "17"})),
    Case("redirect", 502, "upstream_redirect", UPSTREAM, retry="false",
         stub=answer(307, b"", headers={"Location": "http://169.254.169.254/v1"})),
    Case("304", 502, "upstream_redirect", UPSTREAM, stub=answer(304, b""), retry="false"),
    Case("key in an error", 400, None, REQUEST, stub=answer(400, {"error": {"message": "got sk-backend"}}), says="got ***"),
    # what is no answer
    Case("not JSON from the backend", 502, "upstream_invalid_response", UPSTREAM, stub=answer(200, b"<html>")),
    Case("a list from the backend", 502, "upstream_invalid_response", UPSTREAM, stub=answer(200, b"[1]")),
    Case("nothing from the backend", 502, "upstream_invalid_response", UPSTREAM, stub=answer(200, b"")),
    Case("much and not JSON", 502, "upstream_invalid_response", UPSTREAM, stub=answer(200, b"x" * 70_000)),
    Case("more than allowed", 502, "upstream_response_too_large", UPSTREAM, stub=answer(200, b" " * 300_000), retry="false"),
    Case("a huge error", 502, "upstream_response_too_large", UPSTREAM, stub=answer(500, b"x" * 100_000), retry="false"),
    Case("breaks off before the head", 502, "upstream_disconnected", UPSTREAM, stub=Behaviour(break_after=0)),
    Case("breaks off in the body", 502, "upstream_disconnected", UPSTREAM, stub=Behaviour(break_after=1)),
    Case("answers too late", 504, "upstream_timeout", UPSTREAM, stub=Behaviour(delay_seconds=20)),
    Case("nobody listens", 502, "upstream_unreachable", UPSTREAM, model="nobody-listens"),
    Case("no such name", 502, "upstream_unreachable", UPSTREAM, model="no-such-name"),
    Case("not HTTP", 502, "upstream_invalid_response", UPSTREAM, model="not-http"),
    Case("TLS where none is spoken", 502, "upstream_unreachable", UPSTREAM, model="no-tls"),
    Case("metadata address", 502, "upstream_address_forbidden", UPSTREAM, model="metadata", retry="false"),
]  # fmt: skip


@pytest.fixture(scope="module")
def not_http() -> Iterator[int]:
    """A port at which something answers that is not HTTP."""
    import threading

    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.fixture(scope="module")
def faulty(shared_stub: StubUpstream, not_http: int) -> Iterator[RunningGateway]:
    """A gateway with every model of the table."""
    url = shared_stub.base_url
    closed_port = free_ports(1)[0]
    elsewhere = {
        "nobody-listens": f"http://127.0.0.1:{closed_port}/v1",
        "no-such-name": "http://no-such-name.invalid/v1",
        "not-http": f"http://127.0.0.1:{not_http}/v1",
        "no-tls": url.replace("http:", "https:"),
        "metadata": "http://169.254.169.254/v1",
    }
    configuration = make_configuration(
        make_model("chat", make_backend(url)),
        make_model("off", make_backend(url), key="key-chat", use=False),
        make_model("no-proxy-key", make_backend(url), key=None),
        make_model("no-backend-key", make_backend(url, api_key=None), key="key-chat"),
        make_model("org/Keyless_v2.1", make_backend(url), key="key-keyless"),
        *(make_model(name, make_backend(base), key="key-chat") for name, base in elsewhere.items()),
    )
    limits = {"max_request_bytes": 100_000, "max_response_bytes": 200_000}
    with RunningGateway(configuration, first_byte_timeout_seconds=1.0, **limits) as running:
        yield running


def test_the_table_has_at_least_forty_cases() -> None:
    """The issue asks for forty."""
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_failure_has_its_status_and_body(case: Case, faulty: RunningGateway, stub: StubUpstream) -> None:
    """Status, type, code and param are those of the table; the format is OpenAI's, and nothing secret is in it."""
    if case.stub is not None:
        stub.behaviours["up-small"] = case.stub
    body = {**GOOD, "model": case.model} if case.body is None else case.body
    content = None if case.method == "GET" else body if isinstance(body, bytes) else json.dumps(body).encode()
    started = time.monotonic()
    got = httpx.request(case.method, faulty.url + case.path, headers=case.headers, content=content, timeout=10)
    assert got.status_code == case.status, got.text
    assert got.headers["content-type"] == "application/json"
    error = got.json()["error"]
    assert set(got.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"], error["param"]) == (case.code, case.type, case.param)
    assert case.says in error["message"]
    assert got.headers.get("x-should-retry") == case.retry
    assert got.headers.get("retry-after") == case.retry_after
    assert len(got.headers["x-trace-id"]) == 32
    assert not [secret for secret in ("sk-backend", "the prompt", "Traceback", "127.0.0.1") if secret in got.text]
    assert len(got.text) < 1000
    assert time.monotonic() - started < 5
