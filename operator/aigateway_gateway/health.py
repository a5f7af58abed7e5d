"""`/api/v1/health` and what is below it. Only `ready` may answer 503; datastores never decide. Mounted by `app`.

Answers what was seen last and asks nobody: a store that hangs must not make a probe hang.
Source: docs/gateway.md#what-it-answers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from aigateway_gateway import __version__
from aigateway_gateway.envelope import failure, success
from aigateway_gateway.state import Gateway
from aigateway_gateway.stores.book import NAMES
from aigateway_gateway.stores.store import Health


def routes(gateway: Gateway) -> APIRouter:
    """Return all health routes."""
    router = APIRouter(prefix="/api/v1/health", tags=["health"])

    @router.get("", summary="Overall health")
    async def overall() -> Response:
        """`degraded` while the gateway has no configuration, or a datastore that it names is unhealthy."""
        stores = gateway.stores.health
        good = gateway.serving is not None and all(seen.health is not Health.UNHEALTHY for seen in stores.values())
        body: dict[str, Any] = {
            "status": "healthy" if good else "degraded",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "services": {name: str(seen.health) for name, seen in stores.items()},
            "version": __version__,
        }
        return Response(orjson.dumps(body), media_type="application/json")

    @router.get("/live", summary="For a liveness probe")
    async def live() -> Response:
        """Whether the event loop answers; nothing else would get better by a restart."""
        return _good("The gateway is alive.", None)

    @router.get("/ready", summary="For a readiness probe")
    async def ready(request: Request) -> Response:
        """503 before the first configuration and while the gateway stops."""
        serving = gateway.serving
        if gateway.draining:
            return _unready(request, "The gateway is stopping.", "stopping")
        if serving is None:
            return _unready(request, f"There is no configuration yet: {gateway.reader.error}.", "not_configured")
        configuration = serving.configuration
        data = {"gateway": configuration.gateway, "revision": configuration.revision, "error": gateway.reader.error}
        return _good("The gateway is ready.", data)

    @router.get("/{store}", summary="One datastore: mongodb, redis or qdrant")
    async def one_store(request: Request, store: str) -> Response:
        """What was seen of a datastore last; `success` is false while it is unhealthy, and the status 200 all the same."""
        if store not in NAMES:
            text = f"There is no health of '{store[:40]}'. Ask for ready, live, {', '.join(NAMES)}."
            body = failure(text, "not_found", request.scope["trace_id"])
            return Response(body, status_code=404, media_type="application/json")
        seen = gateway.stores.health[store]
        if seen.health is not Health.UNHEALTHY:
            return _good(seen.message, seen.as_dict())
        body = failure(seen.message, "store_unhealthy", request.scope["trace_id"], seen.as_dict())
        return Response(body, media_type="application/json")

    return router


def _good(message: str, data: Any) -> Response:
    return Response(success(message, data), media_type="application/json")


def _unready(request: Request, message: str, code: str) -> Response:
    return Response(failure(message, code, request.scope["trace_id"]), status_code=503, media_type="application/json")
