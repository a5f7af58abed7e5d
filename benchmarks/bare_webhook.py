"""The control for benchmarks/admission.py: the plainest webhook of aiohttp, orjson and the same rules, over the same TLS.

No checks of shape, no bounds, no causes, no metrics: what a server in this language cannot do with less. Prints its port.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import orjson
from aiohttp import web

from aigateway_operator.rules import RuleContext, check_edit, check_gateway_config, check_virtual_model


async def validate(request: web.Request) -> web.Response:
    """Answer one review; of GatewayConfigs only new ones are asked about."""
    asked = orjson.loads(await request.read())["request"]
    new, old = asked["object"], asked["oldObject"]
    context = RuleContext(new["metadata"]["name"])
    if old is None:
        check = check_virtual_model if asked["kind"]["kind"] == "VirtualModel" else check_gateway_config
        violations = check(new["spec"], context)
    else:
        violations = list(check_edit("VirtualModel", new["spec"], old["spec"], context).violations)
    response = {"uid": asked["uid"], "allowed": not violations, "status": {"message": "; ".join(map(str, violations))}}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def serve(folder: Path) -> None:
    """Serve with the certificate of a folder, until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    app = web.Application()
    app.add_routes([web.post("/validate", validate)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
