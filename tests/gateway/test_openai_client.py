"""OpenAI's own client works unchanged: whole answers, streams, tools, embeddings, models, errors, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.eventually import eventually, eventually_async
from tests.gateway_runs import RunningGateway
from tests.stub_upstream import Behaviour, StubUpstream

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def create(client: Any, **values: Any) -> Any:
    """Ask for a completion; its overloads would want every literal spelled out for the type checker."""
    return client.chat.completions.create(**values)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The client as its users have it, without retries."""
    with openai.OpenAI(api_key="key-chat", base_url=f"{gateway.url}/v1", max_retries=0, timeout=10) as made:
        yield made


def test_a_completion_comes_from_the_live_backend(client: openai.OpenAI, stub: StubUpstream) -> None:
    """The answer is the backend's; it was asked for its own model, with its own key, and not with the caller's."""
    answer = create(client, model="chat", messages=HELLO)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage.total_tokens == 10
    asked = stub.requests[-1]
    assert asked.body["model"] == "up-small"
    assert asked.headers["Authorization"] == "Bearer sk-backend"


def test_parameters_are_defaults_and_the_caller_wins(client: openai.OpenAI, stub: StubUpstream) -> None:
    """What the caller leaves out is filled in, what it says stays, what nobody knows is passed on."""
    create(client, model="chat", messages=HELLO, temperature=0.9, extra_body={"vendor": {"x": 1}})
    assert stub.requests[-1].body | {"messages": []} == {
        "model": "up-small",
        "messages": [],
        "temperature": 0.9,
        "stop": ["END"],
        "vendor": {"x": 1},
    }


def test_no_authorization_is_sent_to_a_keyless_backend(gateway: RunningGateway, stub: StubUpstream) -> None:
    """A model whose name no Kubernetes object can have works too; nothing of the caller's key goes upstream."""
    with openai.OpenAI(api_key="key-keyless", base_url=f"{gateway.url}/v1", max_retries=0) as client:
        create(client, model="org/Keyless_v2.1", messages=HELLO)
    assert stub.requests[-1].body["model"] == "up-big"
    assert "Authorization" not in stub.requests[-1].headers


def test_a_stream_arrives_piece_by_piece_with_its_usage(client: openai.OpenAI, stub: StubUpstream) -> None:
    """The first piece is there long before the last one is made."""
    stub.behaviours["up-small"] = Behaviour(events=3, event_delay_seconds=0.2)
    options = {"include_usage": True}
    with create(client, model="chat", messages=HELLO, stream=True, stream_options=options) as stream:
        chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["piece0 ", "piece1 ", "piece2 "]
    assert chunks[-1].usage.total_tokens == 10


def test_the_first_piece_is_not_held_back(client: openai.OpenAI, stub: StubUpstream) -> None:
    """While the stub waits with the second event, the caller has the first."""
    stub.behaviours["up-small"] = Behaviour(events=2, event_delay_seconds=0.3)
    with create(client, model="chat", messages=HELLO, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content == "piece0 "
        assert stub.left == 0


def test_tools_are_passed_through(client: openai.OpenAI, stub: StubUpstream) -> None:
    """Tools reach the backend as they are, and its calls come back."""
    answer = create(client, model="chat", messages=HELLO, tools=[TOOL])
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city":"Oslo"}'
    assert stub.requests[-1].body["tools"] == [TOOL]


def test_embeddings(client: openai.OpenAI, stub: StubUpstream) -> None:
    """One vector an input, from /embeddings of the backend."""
    answer = client.embeddings.create(model="chat", input=["a", "b"], encoding_format="float")
    assert [row.embedding for row in answer.data] == [[0.5, -0.25], [0.5, -0.25]]
    assert stub.requests[-1].path == "/v1/embeddings"


def test_models_are_those_whose_key_is_presented(client: openai.OpenAI, gateway: RunningGateway) -> None:
    """Neither models of another key nor those that are switched off are listed; one can be retrieved by its odd name."""
    assert [model.id for model in client.models.list()] == ["chat", "no-backend-key"]
    with openai.OpenAI(api_key="key-keyless", base_url=f"{gateway.url}/v1", max_retries=0) as other:
        assert other.models.retrieve("org/Keyless_v2.1").id == "org/Keyless_v2.1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/Keyless_v2.1")


@pytest.mark.parametrize(
    ("key", "model", "expected", "code"),
    [
        ("wrong", "chat", openai.AuthenticationError, "invalid_api_key"),
        ("key-chat", "nobody", openai.NotFoundError, "model_not_found"),
        ("key-chat", "off", openai.NotFoundError, "model_not_found"),
        ("key-chat", "org/Keyless_v2.1", openai.NotFoundError, "model_not_found"),
        ("key-chat", "no-proxy-key", openai.AuthenticationError, "invalid_api_key"),
        ("key-chat", "no-backend-key", openai.InternalServerError, "backend_key_missing"),
    ],
)
def test_errors_are_the_clients_own(
    gateway: RunningGateway, key: str, model: str, expected: type[openai.APIStatusError], code: str
) -> None:
    """Each refusal is raised as the exception that OpenAI's own refusal would be."""
    with openai.OpenAI(api_key=key, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        with pytest.raises(expected) as caught:
            create(client, model=model, messages=HELLO)
    assert caught.value.code == code


def test_a_stream_that_breaks_off_is_an_error_for_the_client(client: openai.OpenAI, stub: StubUpstream) -> None:
    """Half an event is withheld, and an error event sent in its place: the client raises instead of ending early."""
    stub.behaviours["up-small"] = Behaviour(events=5, break_after=2, half_event=b'data: {"id": "c1", "cho')
    pieces = []

    def read() -> None:
        for chunk in create(client, model="chat", messages=HELLO, stream=True):
            pieces.append(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError) as caught:
        read()
    assert pieces == ["piece0 ", "piece1 "]
    assert caught.value.code == "upstream_disconnected"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_cancels_stops_the_request_upstream(
    gateway: RunningGateway, stub: StubUpstream, stream: bool
) -> None:
    """Nobody pays for tokens that nobody reads: the backend sees the connection close."""
    stub.behaviours["up-small"] = Behaviour(delay_seconds=0 if stream else 30, events=1000, event_delay_seconds=0.05)
    async with openai.AsyncOpenAI(api_key="key-chat", base_url=f"{gateway.url}/v1", max_retries=0) as client:

        async def ask() -> None:
            answer = await create(client, model="chat", messages=HELLO, stream=stream)
            if stream:
                async for _ in answer:
                    pass

        task = asyncio.create_task(ask())

        async def reached() -> None:
            assert stub.requests

        await eventually_async(reached, within_seconds=20)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        async def stopped() -> None:
            assert stub.left == 1
            assert gateway.gateway.in_flight == 0

        await eventually_async(stopped, within_seconds=20)


async def test_fifty_callers_at_once_each_get_their_own_answer(gateway: RunningGateway, stub: StubUpstream) -> None:
    """Answers are not mixed up, streams among them."""
    async with openai.AsyncOpenAI(api_key="key-chat", base_url=f"{gateway.url}/v1", max_retries=0) as client:

        async def ask(number: int) -> str | None:
            messages = [{"role": "user", "content": f"number {number}"}]
            answer = await create(client, model="chat", messages=messages)
            return str(answer.choices[0].message.content)

        answers = await asyncio.gather(*(ask(number) for number in range(50)))
    assert answers == [f"number {number}" for number in range(50)]

    def nobody_is_left() -> None:
        assert gateway.gateway.in_flight == 0

    eventually(nobody_is_left, within_seconds=20)
