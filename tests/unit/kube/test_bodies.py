"""What is sent to the API server: whole, with its length, and piece by piece, since connections keep room for the largest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http_writer import StreamWriter

from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import VIRTUAL_MODELS
from aigateway_operator.kube.transport import PIECE_BYTES
from tests.kubeconfig import write_kubeconfig


@pytest.mark.parametrize("size", [10, PIECE_BYTES, 5 * PIECE_BYTES + 1])
async def test_a_body_arrives_whole_in_pieces(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not chunked, and again after a 401, which means that nothing was done: the credentials may be new."""
    pieces, arrived = list[int](), list[tuple[object, str | None]]()
    write = StreamWriter.write

    async def noted(writer: StreamWriter, chunk: bytes, *arguments: object, **options: object) -> None:
        if b"model" in chunk or b"xxx" in chunk:
            pieces.append(len(chunk))
        await write(writer, chunk, *arguments, **options)  # type: ignore[arg-type]  # handed on as they came

    async def answer(request: web.Request) -> web.Response:
        arrived.append((json.loads(await request.read()), request.headers.get("Transfer-Encoding")))
        return web.json_response({"metadata": {"name": "chat"}}, status=401 if len(arrived) == 1 else 201)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        token = tmp_path / "token"
        token.write_text("old")
        config = write_kubeconfig(tmp_path, f"http://127.0.0.1:{runner.addresses[0][1]}", tokenFile=str(token))
        async with KubeClient.connect(config) as client:
            token.write_text("new")
            monkeypatch.setattr(StreamWriter, "write", noted)
            body = {"kind": "VirtualModel", "spec": {"model": "x" * size}}
            await client.create(VIRTUAL_MODELS, "ai", body)
    finally:
        await runner.cleanup()
    assert arrived == [(body, None), (body, None)]
    assert max(pieces) <= PIECE_BYTES
    assert sum(pieces) >= 2 * size
