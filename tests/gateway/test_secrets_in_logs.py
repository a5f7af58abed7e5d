"""No prompt, no completion and no key is in any log at any level, and no stack trace leaves the process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from loguru import logger
from pydantic import SecretStr

from aigateway_config import Configuration, documents
from hack.stores import RedisServer
from tests.conftest import require_binaries
from tests.eventually import eventually
from tests.gateway.programs import Program, Volume, gateway_program
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.stub_upstream import Behaviour, StubUpstream

CANARY = "canary-4e1c"
"""Begins every text here that must not be logged."""
PROXY, BACKEND, ADMIN, STORE, WRONG = (f"{CANARY}-{name}-key" for name in ("proxy", "backend", "admin", "store", "wrong"))
PROMPT = f"{CANARY} prompt"
TRACE = re.compile(r"Traceback \(most recent|File \"[^\"]+\", line \d+|\.py:\d+")
AUTH = {"Authorization": f"Bearer {PROXY}"}


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis with another password than the one the gateway has."""
    with RedisServer.start(password="another", binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


def says(body: Any, status: int = 400) -> Behaviour:
    """Return a stub that answers so."""
    return Behaviour(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())


BEHAVIOURS = {
    "good": Behaviour(),
    "its error repeats the prompt and its key": says({"error": {"message": f"{PROMPT} with {BACKEND}"}}),
    "its refusal repeats the key": says({"error": {"message": f"no such key: {BACKEND}"}}, 401),
    "no JSON": says(f"<html>{PROMPT}".encode(), 200),
    "half an answer": Behaviour(break_after=1),
    "a stream that breaks off": Behaviour(break_after=2, half_event=f'data: {{"x": "{CANARY}'.encode()),
    "nothing": Behaviour(break_after=0),
    "a redirect": Behaviour(status=307, body=b"", headers={"Location": f"https://x.example/?key={CANARY}"}),
}


def exchange(url: str, stub: StubUpstream) -> list[httpx.Response]:
    """Ask in every way that is known to go well or wrong, and return the answers."""
    body = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}], "user": f"{CANARY}-user"}
    tools = [{"type": "function", "function": {"name": "f", "description": f"{CANARY} tool"}}]
    answers = []
    with httpx.Client(base_url=url, timeout=10, headers=AUTH | {"Cookie": f"session={CANARY}"}) as client:
        for behaviour in BEHAVIOURS.values():
            stub.behaviours["up-a"] = behaviour
            for asked in (body, {**body, "stream": True}, {**body, "tools": tools}):
                answers.append(client.post("/v1/chat/completions", json=asked))
        stub.behaviours.clear()
        answers += [
            client.post("/v1/embeddings", json={"model": "chat", "input": [PROMPT]}),
            client.post("/v1/chat/completions", content=f'{{"model": "chat", "messages": ["{PROMPT}"'.encode()),
            client.post("/v1/chat/completions", json={**body, "model": f"{CANARY}-model"}),
            client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {WRONG}"}),
            client.post(f"/v1/chat/completions?api_key={WRONG}", json=body, headers={"Authorization": f"Basic {WRONG}"}),
            client.get("/v1/models", headers={"Authorization": f"Bearer {WRONG}"}),
            client.get("/config", headers={"Authorization": f"Bearer {ADMIN}"}),
            client.get("/config", headers={"Authorization": f"Bearer {WRONG}"}),
            client.get(f"/nowhere?key={WRONG}"),
            client.get("/api/v1/health"),
        ]
    return answers


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_of_a_verbose_gateway_holds_prompt_completion_or_key(
    volume: Volume, stub: StubUpstream, tmp_path: Path, own_redis: RedisServer, log_format: str
) -> None:
    """`app.debug` and DEBUG: every request has its line, a store refuses its password, and no canary is anywhere."""
    redis = {"host": own_redis.host, "port": own_redis.port, "password_ref": "redis.password", "tls": None}
    secrets = {"chat.proxy": PROXY, "backend.key": BACKEND, "redis.password": STORE, documents.MIRROR_KEY: "a" * 64}
    volume.write("a", debug=True, storage={"redis": redis}, secrets=secrets)
    given = {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": log_format, "ADMIN_KEY": ADMIN, "STORE_CHECK_SECONDS": "0.1"}
    with gateway_program(tmp_path, **given) as program:
        answers = exchange(program.url, stub)

        def redis_refused() -> None:
            assert httpx.get(f"{program.url}/api/v1/health").json()["services"]["redis"] == "unhealthy"

        eventually(redis_refused, within_seconds=30)
        volume.write("b", debug=True, storage={"redis": redis}, secrets={**secrets, "chat.proxy": f"{PROXY}-2"})
        eventually(lambda: _is_revision(program, volume.revision), within_seconds=30)
        program.process.terminate()
        assert program.end() == 0
        text = "".join(program.lines)
    calls = len(BEHAVIOURS) * 3 + 5
    assert text.count("Answered a request") >= calls, "the log is not verbose, so this shows nothing"
    assert "refuses the password" in text
    assert CANARY not in text
    assert "a" * 64 not in text
    for answer in answers:
        assert TRACE.search(answer.text) is None, answer.text
        assert not [key for key in (PROXY, BACKEND, ADMIN, STORE) if key in answer.text], answer.text


def _is_revision(program: Program, revision: int) -> None:
    assert httpx.get(f"{program.url}/api/v1/health/ready").json()["data"]["revision"] == revision


def configuration_of(stub: StubUpstream, *, debug: bool = False) -> Configuration:
    """Return a configuration whose backend key the gateway knows as a secret."""
    elsewhere = make_backend("http://127.0.0.1:9/v1")
    return make_configuration(
        make_model("chat", make_backend(stub.base_url, api_key=SecretStr(BACKEND)), key=PROXY),
        make_model("nobody-listens", elsewhere, key=PROXY),
        app=documents.App(host="127.0.0.1", port=0, debug=debug),
        secrets={"openai.api-key": SecretStr(BACKEND), "chat.proxy": SecretStr(PROXY)},
    )


@pytest.mark.parametrize("begun", [False, True])
def test_a_fault_of_ours_is_logged_by_its_place_and_not_by_what_it_says(
    stub: StubUpstream, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """An exception may quote anything: the log has its type and where it happened, before an answer began or in its middle."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(f"{message}{message.record['extra']}"), level=0)

    def broken(*_: object, **__: object) -> None:
        raise ValueError(PROMPT, BACKEND)

    monkeypatch.setattr("aigateway_gateway.relay._whole_events" if begun else "aigateway_gateway.calls.merge", broken)
    try:
        with RunningGateway(configuration_of(stub)) as gateway:
            body = {"model": "chat", "messages": [], "stream": True}
            try:
                answer = httpx.post(f"{gateway.url}/v1/chat/completions", headers=AUTH, json=body).text
            except httpx.RemoteProtocolError:
                answer = ""
    finally:
        logger.remove(sink)
    text = "".join(lines)
    assert "A request failed: ValueError" in text
    assert re.search(r"calls\.py:\d+ _run", text) is not None
    for said in (text, answer):
        assert CANARY not in said
    assert TRACE.search(answer) is None
    assert ("internal_error" in answer) is not begun


def test_debug_tells_callers_what_led_to_an_error_and_masks_every_secret(stub: StubUpstream) -> None:
    """Off: nothing more than OpenAI's four keys. On: the cause, the backend and its words, with keys masked."""
    stub.behaviours["up-small"] = says({"error": {"message": f"unknown key {BACKEND}"}}, 401)
    with RunningGateway(configuration_of(stub)) as gateway:

        def ask(model: str) -> dict[str, Any]:
            body = {"model": model, "messages": []}
            error = httpx.post(f"{gateway.url}/v1/chat/completions", headers=AUTH, json=body).json()["error"]
            return dict(error)

        assert [set(ask(model)) for model in ("chat", "nobody-listens")] == [{"message", "type", "param", "code"}] * 2
        gateway.configure(configuration_of(stub, debug=True))
        refused, unreachable = ask("chat"), ask("nobody-listens")
        assert "unknown key ***" in refused["debug"]
        assert f"small at {stub.base_url}" in refused["debug"]
        assert "Cannot connect to host 127.0.0.1:9" in unreachable["debug"]
        assert BACKEND not in str(refused)
        assert "debug" not in ask("no-such-model")
