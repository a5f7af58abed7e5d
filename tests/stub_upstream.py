"""A stub of an OpenAI-compatible server: answers as it is told to, by the name of the model it is asked for.

Runs in a thread with an event loop of its own, on a free port. What it was asked stands in `requests`; `left` counts the
requests whose client went away before the answer was complete; `events_made` counts what was written of streams.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True)
class Behaviour:
    """How the stub answers one model. By default: at once, in the right form."""

    status: int = 200
    body: bytes | None = None
    """What it says; None: what OpenAI would."""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    """Before the head of the answer, unless the stub is told to `release` it before."""
    events: int = 3
    """Pieces of text in a stream."""
    event_delay_seconds: float = 0.0
    """Before each of them."""
    padding: str = ""
    """At the end of each of them."""
    break_after: int | None = None
    """Close the connection after that many events of a stream, or in the middle of a whole answer (0: before its head)."""
    half_event: bytes = b""
    """Sent right before the connection is closed."""


@dataclass(frozen=True)
class Asked:
    """One request the stub got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.time)
    """When its body was complete, by this machine's clock."""


class StubUpstream:
    """`with StubUpstream() as stub:` serves at `stub.base_url`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.port = 0
        self.requests: list[Asked] = []
        self.left = 0
        self.events_made = 0
        self.behaviours: dict[str, Behaviour] = {}
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stub upstream", daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """URL for `baseUrl`."""
        return f"http://{self._host}:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def release(self) -> None:
        """From now on answer at once, also who is waiting: for a test that has seen what it wanted to see meanwhile."""
        self._loop.call_soon_threadsafe(self._released.set)

    def forget(self) -> None:
        """Be as new, for the next test."""
        self.requests.clear()
        self.behaviours.clear()
        self._released.clear()
        self.left = self.events_made = 0

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked, behaviour = await self._note(request)
        try:
            return await self._answer(request, asked, behaviour, chat_body(asked.body))
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        asked, behaviour = await self._note(request)
        return await self._answer(request, asked, behaviour, embeddings_body(asked.body))

    async def _note(self, request: web.Request) -> tuple[Asked, Behaviour]:
        asked = Asked(request.path, dict(request.headers), await request.json())
        self.requests.append(asked)
        return asked, self.behaviours.get(str(asked.body.get("model")), Behaviour())

    async def _answer(self, request: web.Request, asked: Asked, behaviour: Behaviour, usual: Any) -> web.StreamResponse:
        with suppress(TimeoutError):
            async with asyncio.timeout(behaviour.delay_seconds):
                await self._released.wait()
        transport = request.transport
        assert transport is not None
        if behaviour.break_after == 0:
            transport.close()
            return web.Response()
        if asked.body.get("stream") and behaviour.body is None and behaviour.status == 200:
            return await self._stream(request, asked, behaviour)
        body = json.dumps(usual).encode() if behaviour.body is None else behaviour.body
        if behaviour.break_after is not None:
            response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            transport.close()
            return response
        headers = {"Content-Type": behaviour.content_type, **behaviour.headers}
        return web.Response(status=behaviour.status, body=body, headers=headers)

    async def _stream(self, request: web.Request, asked: Asked, behaviour: Behaviour) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **behaviour.headers})
        await response.prepare(request)
        for number in range(behaviour.events):
            await asyncio.sleep(behaviour.event_delay_seconds)
            if behaviour.break_after == number:
                await response.write(behaviour.half_event)
                await asyncio.sleep(0.05)
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(event(asked.body["model"], {"content": f"piece{number} {behaviour.padding}"}))
            self.events_made += 1
        options = asked.body.get("stream_options") or {}
        last = event(asked.body["model"], {}, finish="stop", usage=bool(options.get("include_usage")))
        await response.write(last + b"data: [DONE]\n\n")
        await response.write_eof()
        return response


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(model: str, delta: dict[str, Any], *, finish: str | None = None, usage: bool = False) -> bytes:
    """Return one event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return b"data: " + json.dumps({**chunk, **({"usage": USAGE} if usage else {})}).encode() + b"\n\n"


def chat_body(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a whole completion that tells what it was asked: tools are called, otherwise the last message is said again."""
    message: dict[str, Any] = {"role": "assistant", "content": str((asked.get("messages") or [{}])[-1].get("content"))}
    if asked.get("tools"):
        name = asked["tools"][0]["function"]["name"]
        call = {"id": "call1", "type": "function", "function": {"name": name, "arguments": '{"city":"Oslo"}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if asked.get("tools") else "stop"}
    named = {"id": "c1", "object": "chat.completion", "created": 1, "model": asked.get("model")}
    return {**named, "choices": [choice], "usage": USAGE}


def embeddings_body(asked: dict[str, Any]) -> dict[str, Any]:
    """Return one vector per input."""
    inputs = asked.get("input")
    count = len(inputs) if isinstance(inputs, list) else 1
    data = [{"object": "embedding", "index": index, "embedding": [0.5, -0.25]} for index in range(count)]
    return {"object": "list", "model": asked.get("model"), "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
