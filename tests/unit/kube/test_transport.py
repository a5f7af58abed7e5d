"""An API server that must not be believed: what is said of its certificate, and that nothing is sent to it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiohttp import web

from aigateway_operator.errors import Unavailable
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.resources import VIRTUAL_MODELS
from tests.kubeconfig import write_kubeconfig
from tests.webhooks import Authority


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_of_another_ca_is_named_with_the_server_and_gets_no_token(tmp_path: Path, trusted: bool) -> None:
    """A kubeconfig of a cluster that was made anew: no words of the HTTP library, no hint of the credentials."""
    own, asked = Authority(), list[str]()
    for name, content in zip(("tls.crt", "tls.key"), own.leaf(), strict=True):
        (tmp_path / name).write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.json_response({"metadata": {"name": "chat"}})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        config = write_kubeconfig(
            tmp_path, f"https://127.0.0.1:{port}", ca=(own if trusted else Authority("another")).pem, token="canary-token"
        )
        async with KubeClient.connect(config) as client:
            if trusted:
                assert (await client.get(VIRTUAL_MODELS, "ai", "chat"))["metadata"]["name"] == "chat"
                return
            with pytest.raises(Unavailable) as refused:
                await client.get(VIRTUAL_MODELS, "ai", "chat")
    finally:
        await runner.cleanup()
        assert asked == (["Bearer canary-token"] if trusted else [])
    said = str(refused.value)
    assert said.endswith(f"/chat failed: the certificate of 127.0.0.1:{port} is not trusted: {said.rpartition(': ')[2]}")
    assert "certificate" in said.rpartition(": ")[2], "and why, in the words of OpenSSL"
    assert not any(word in said for word in ("Client", "Error", "SSL:", "_ssl.c", "canary"))
