"""The gateway around the calls: configurations that change, limits, health, pages, middlewares, logs."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import Any

import httpx
import pytest
from loguru import logger
from pydantic import SecretStr

from aigateway_config import documents
from tests.eventually import eventually
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.stub_upstream import Behaviour, StubUpstream

AUTH = {"Authorization": "Bearer key-chat"}


def ask(gateway: RunningGateway, model: str = "chat", **values: Any) -> httpx.Response:
    """Send one completion."""
    body = {"model": model, "messages": [{"role": "user", "content": "the prompt"}], **values}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=AUTH, json=body, timeout=10)


def test_a_request_ends_on_the_configuration_it_began_with(stub: StubUpstream) -> None:
    """`current` flips while a request runs: that one is answered by the old backend, the next one by the new."""
    small = make_backend(stub.base_url)
    big = make_backend(stub.base_url, name="big", model="up-big")
    stub.behaviours["up-small"] = Behaviour(delay_seconds=30)
    with RunningGateway(make_configuration(make_model("chat", small, big))) as gateway, ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, gateway)
        eventually(lambda: _assert(len(stub.requests) == 1), within_seconds=20)
        gateway.configure(make_configuration(make_model("chat", small, big, current="big"), revision=2))
        assert ask(gateway).json()["model"] == "up-big"
        stub.release()
        assert running.result().json()["model"] == "up-small"


def test_a_revoked_key_is_refused_at_once(stub: StubUpstream) -> None:
    """The new key works and the old one does not, from the first request after the change."""
    backend = make_backend(stub.base_url)
    with RunningGateway(make_configuration(make_model("chat", backend))) as gateway:
        assert ask(gateway).status_code == 200
        gateway.configure(make_configuration(make_model("chat", backend, key="another"), revision=2))
        assert ask(gateway).status_code == 401
        gateway.configure(make_configuration(make_model("chat", backend, key="key-chat\n"), revision=3))
        assert ask(gateway).status_code == 200


def test_before_the_first_configuration_only_readiness_and_calls_fail() -> None:
    """503 with Retry-After for callers, 503 for the readiness probe, 200 for liveness; then all is well."""
    with RunningGateway(None) as gateway:
        assert ask(gateway).json()["error"]["code"] == "not_configured"
        assert httpx.get(f"{gateway.url}/api/v1/health/ready").status_code == 503
        assert httpx.get(f"{gateway.url}/api/v1/health/live").status_code == 200
        assert httpx.get(f"{gateway.url}/api/v1/health").json()["status"] == "degraded"
        gateway.configure(make_configuration())
        ready = httpx.get(f"{gateway.url}/api/v1/health/ready")
        assert ready.status_code == 200
        assert ready.json()["data"]["gateway"] == "ai/main"


def test_requests_beyond_the_limits_are_refused_and_the_others_answered(stub: StubUpstream) -> None:
    """Two run, one waits, the fourth is told to come again; nothing is left inside afterwards."""
    stub.behaviours["up-small"] = Behaviour(delay_seconds=30)
    configuration = make_configuration(make_model("chat", make_backend(stub.base_url)))
    with RunningGateway(configuration, max_concurrent=2, max_waiting=1) as gateway, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, gateway) for _ in range(4)]
        refused = next(as_completed(asking, timeout=20)).result()  # the others wait until the stub answers
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        stub.release()
        assert sorted(answer.result().status_code for answer in asking) == [200, 200, 200, 429]
        assert ask(gateway).status_code == 200
        eventually(lambda: _assert(gateway.gateway.in_flight == 0), within_seconds=20)


def test_more_than_a_worker_can_take_is_503(stub: StubUpstream) -> None:
    """The whole worker has a limit too."""
    stub.behaviours["up-small"] = Behaviour(delay_seconds=30)
    configuration = make_configuration(make_model("chat", make_backend(stub.base_url)))
    with RunningGateway(configuration, max_in_flight=2) as gateway, ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, gateway) for _ in range(3)]
        assert next(as_completed(asking, timeout=20)).result().status_code == 503
        stub.release()
        assert sorted(answer.result().status_code for answer in asking) == [200, 200, 503]


def test_a_waiting_caller_that_leaves_gives_up_its_place(stub: StubUpstream) -> None:
    """It never reaches the backend."""
    stub.behaviours["up-small"] = Behaviour(delay_seconds=30)
    configuration = make_configuration(make_model("chat", make_backend(stub.base_url)))
    with RunningGateway(configuration, max_concurrent=1) as gateway, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, gateway)
        eventually(lambda: _assert(len(stub.requests) == 1), within_seconds=20)
        with closing(http.client.HTTPConnection("127.0.0.1", gateway.port)) as waiting:
            waiting.request("POST", "/v1/chat/completions", json.dumps({"model": "chat", "messages": []}), AUTH)
            eventually(lambda: _assert(gateway.gateway.in_flight == 2), within_seconds=20)
        eventually(lambda: _assert(gateway.gateway.in_flight == 1), within_seconds=20)  # it has been missed
        stub.release()
        assert first.result().status_code == 200
        eventually(lambda: _assert(gateway.gateway.in_flight == 0), within_seconds=20)
        assert len(stub.requests) == 1


def test_a_backend_that_falls_silent_in_a_stream_is_an_error_event(stub: StubUpstream) -> None:
    """The stream does not hang for ever, and the caller can tell that it is not complete."""
    stub.behaviours["up-small"] = Behaviour(events=3, event_delay_seconds=30)
    configuration = make_configuration(make_model("chat", make_backend(stub.base_url)))
    with RunningGateway(configuration, idle_timeout_seconds=0.3) as gateway:
        answer = ask(gateway, stream=True)
    assert answer.status_code == 200
    assert json.loads(answer.text.removeprefix("data: "))["error"]["code"] == "upstream_timeout"


def test_a_pooled_connection_that_died_is_replaced(stub: StubUpstream) -> None:
    """A backend that closes after an answer, right when the next request is sent, costs no caller an error."""
    import socket

    served: list[bytes] = []
    body = b'{"model": "m"}'
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + body

    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            for last in (False, True):
                connection, _ = server.accept()
                with connection:
                    served.append(connection.recv(65536))
                    connection.sendall(whole)
                    if not last:
                        connection.recv(65536)  # the second request: never answered

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        backend = make_backend(f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        with RunningGateway(make_configuration(make_model("chat", backend))) as gateway:
            assert [ask(gateway).status_code for _ in range(2)] == [200, 200]
        thread.join(5)
    assert len(served) == 2


def test_a_request_that_the_backend_worked_on_is_not_sent_twice(stub: StubUpstream) -> None:
    """Over a connection of the pool too: a completion that is made twice is paid for twice."""
    configuration = make_configuration(make_model("chat", make_backend(stub.base_url)))
    with RunningGateway(configuration) as gateway:
        assert ask(gateway).status_code == 200
        stub.behaviours["up-small"] = Behaviour(delay_seconds=0.5, break_after=0)
        answer = ask(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected")
    assert len(stub.requests) == 2


@pytest.fixture(scope="module")
def dressed(shared_stub: StubUpstream) -> Iterator[RunningGateway]:
    """A gateway with everything that is off by default."""
    tls = documents.Tls(enabled=False, ca_ref=None)
    mongodb = documents.MongoDB(
        host="10.255.255.1", port=27017, username="u", password_ref="m.p", database="d", auth_source="admin", tls=tls
    )
    configuration = make_configuration(
        make_model("chat", make_backend(shared_stub.base_url)),
        storage=documents.Storage(mongodb=None, redis=None, qdrant=None),
        secrets={"m.p": SecretStr("mongo-password"), "chat.proxy": SecretStr("key-chat")},
    )
    assert mongodb.port == 27017
    with RunningGateway(
        configuration,
        admin_key=SecretStr("admin-key"),
        cors_origins="https://app.example.com",
        allowed_hosts="127.0.0.1,gateway.example.com",
        gzip=True,
    ) as running:
        yield running


def test_config_is_masked_and_behind_the_admin_key(dressed: RunningGateway) -> None:
    """The model's key is shown as a mask where it is there, null where it is missing; callers' keys do not open it."""
    assert httpx.get(f"{dressed.url}/config", headers=AUTH).status_code == 401
    shown = httpx.get(f"{dressed.url}/config", headers={"Authorization": "Bearer admin-key"})
    assert shown.status_code == 200
    entry = shown.json()["data"]["configuration"]["ai-gateway"]["virtual_models"]["chat"]
    assert entry["proxy_key"] == "***"
    assert entry["small"]["api_key"] is None
    assert not [secret for secret in ("key-chat", "sk-backend", "mongo-password", "admin-key") if secret in shown.text]


def test_there_is_no_config_page_by_default(gateway: RunningGateway) -> None:
    """404 in the envelope of errors outside /v1."""
    got = httpx.get(f"{gateway.url}/config")
    assert got.status_code == 404
    assert got.json() == {
        "success": False,
        "message": "Not Found.",
        "data": None,
        "error_code": "not_found",
        "error_details": {"trace_id": got.headers["x-trace-id"]},
    }


def test_other_hosts_and_origins_are_not_served(dressed: RunningGateway) -> None:
    """A Host that is not ours is 400; CORS answers the one origin that is named."""
    assert httpx.get(f"{dressed.url}/", headers={"Host": "evil.example.com"}).status_code == 400
    allowed = httpx.get(f"{dressed.url}/", headers={"Origin": "https://app.example.com"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert (
        "access-control-allow-origin" not in httpx.get(f"{dressed.url}/", headers={"Origin": "https://x.example.com"}).headers
    )


def test_gzip_compresses_answers_and_never_streams(dressed: RunningGateway, stub: StubUpstream) -> None:
    """A long answer is compressed; a stream is not, or its pieces would wait for each other."""
    content = "long " * 1000
    body = {"model": "chat", "messages": [{"role": "user", "content": content}]}
    whole = httpx.post(f"{dressed.url}/v1/chat/completions", headers=AUTH, json=body)
    assert whole.headers["content-encoding"] == "gzip"
    assert whole.json()["choices"][0]["message"]["content"] == content
    streamed = httpx.post(f"{dressed.url}/v1/chat/completions", headers=AUTH, json=body | {"stream": True})
    assert "content-encoding" not in streamed.headers
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_a_callers_trace_id_goes_all_the_way(gateway: RunningGateway, stub: StubUpstream) -> None:
    """It comes back to the caller and reaches the backend."""
    body = {"model": "chat", "messages": []}
    got = httpx.post(f"{gateway.url}/v1/chat/completions", headers=AUTH | {"X-Trace-ID": "abc-1"}, json=body)
    assert got.headers["x-trace-id"] == "abc-1"
    assert stub.requests[-1].headers["X-Trace-ID"] == "abc-1"


def test_docs_describe_what_is_served(gateway: RunningGateway) -> None:
    """The raw routes are in the description too."""
    paths = httpx.get(f"{gateway.url}/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/embeddings", "/v1/models", "/api/v1/health/ready"} <= set(paths)
    docs = httpx.get(f"{gateway.url}/docs")
    assert docs.status_code == 200
    assert "POST /v1/embeddings" in docs.text
    assert re.findall(r"<script|src=|https?://(?!platform\.openai\.com)", docs.text) == [], "it loads something"
    assert httpx.get(f"{gateway.url}/").json()["data"]["links"]["docs"] == "/docs"


def test_an_unforeseen_fault_tells_the_caller_nothing(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 in the right format with the trace id; no text of the fault and no stack trace leave the process."""

    def broken(*_: object) -> None:
        raise RuntimeError("a secret thing")

    monkeypatch.setattr("aigateway_gateway.calls.merge", broken)
    monkeypatch.setattr(type(gateway.gateway.stores), "health", property(broken))
    for got in (ask(gateway), httpx.get(f"{gateway.url}/api/v1/health")):
        assert got.status_code == 500
        assert "secret thing" not in got.text
        assert "Traceback" not in got.text
        assert got.headers["x-trace-id"]


def test_logs_tell_of_a_request_and_never_what_is_in_it(gateway: RunningGateway, stub: StubUpstream) -> None:
    """At the finest level: model, backend, key name, status, tokens, trace id; no prompt, completion or key."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(f"{message}{message.record['extra']}"), level=0)
    try:
        ask(gateway)
        ask(gateway, stream=True, stream_options={"include_usage": True})
        ask(gateway, model="nobody-said-so")
        eventually(lambda: _assert(len([line for line in lines if "Answered" in line]) == 3), within_seconds=20)
    finally:
        logger.remove(sink)
    text = "".join(lines)
    assert "'model': 'chat', 'backend': 'small', 'key_name': 'chat.proxy', 'status': 200" in text
    assert text.count("'prompt_tokens': 7, 'completion_tokens': 3") == 2
    assert not [word for word in ("the prompt", "piece0", "key-chat", "sk-backend", "nobody-said-so") if word in text]


def test_a_stopping_gateway_answers_and_is_not_ready(stub: StubUpstream) -> None:
    """While it drains, requests are answered and told to come by another connection."""
    with RunningGateway(make_configuration(make_model("chat", make_backend(stub.base_url)))) as gateway:
        gateway.gateway.draining = True
        assert httpx.get(f"{gateway.url}/api/v1/health/ready").status_code == 503
        answer = ask(gateway)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"


def _assert(condition: bool) -> None:
    assert condition
