"""What `benchmarks.gateway` compares with: the plainest pass-through with FastAPI and aiohttp, and the upstream.

`python -m benchmarks.bare_gateway upstream PORT` answers every POST at once with one completion, as a stream if asked for.
`python -m benchmarks.bare_gateway control PORT UPSTREAM` is the control: it parses the request, sets model and key, sends it on
and gives the answer back. No keys are checked, nothing is limited, logged or counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
import uvloop
from aiohttp import web
from fastapi import FastAPI, Request, Response

ANSWER = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "up-small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello " * 25}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
).encode()


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Give the completion."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def upstream(port: int) -> None:
    """Serve the upstream until killed."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def control(port: int, target: str) -> None:
    """Serve the control until killed."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        body["model"] = "up-small"
        headers = {"Authorization": "Bearer sk-backend"}
        async with app.state.session.post(f"{target}/chat/completions", json=body, headers=headers) as got:
            return Response(await got.read(), got.status, media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        uvloop.run(upstream(int(sys.argv[2])))
    else:
        control(int(sys.argv[2]), sys.argv[3])
