"""`/config`: what the gateway runs, secrets masked, for whoever has the admin key; without one there is no such page.

Mounted by `app`. Built from a tree that has never held a secret: names of credentials stand where values would.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from aigateway_gateway.envelope import failure, success
from aigateway_gateway.keys import bearer
from aigateway_gateway.state import Gateway

_MASK: Final = "***"
_MASKED_AS: Final = {"proxy_key_ref": "proxy_key", "api_key_ref": "api_key", "password_ref": "password"}


def routes(gateway: Gateway, admin_key: str) -> APIRouter:
    """Return the route. `admin_key` is what it asks for."""
    router = APIRouter(tags=["administration"])

    @router.get("/config", summary="Effective configuration, secrets masked")
    async def config(request: Request) -> Response:
        """Needs the admin key as a bearer token. A mask says that there is a value, null that its Secret is missing."""
        presented = bearer(request.scope["headers"]) or b""
        if not secrets.compare_digest(presented, admin_key.encode()):
            body = failure("This page asks for the admin key as a bearer token.", "unauthorized", request.scope["trace_id"])
            return Response(body, 401, {"WWW-Authenticate": "Bearer"}, "application/json")
        return Response(success("Effective configuration.", _shown(gateway)), media_type="application/json")

    return router


def _shown(gateway: Gateway) -> dict[str, Any]:
    serving = gateway.serving
    if serving is None:
        return {"configuration": None, "error": gateway.reader.error}
    configuration = serving.configuration

    def masked(value: Any) -> Any:
        if isinstance(value, list):
            return [masked(item) for item in value]
        if not isinstance(value, dict):
            return value
        shown = {key: masked(item) for key, item in value.items()}
        for reference, name in _MASKED_AS.items():
            if isinstance(ref := value.get(reference), str):
                shown[name] = None if configuration.secret(ref) is None else _MASK
        return shown

    return {
        "gateway": configuration.gateway,
        "lineage": configuration.lineage,
        "documents": {name: state.model_dump() for name, state in configuration.documents.items()},
        "credentials": dict(configuration.credentials),
        "loadedAt": configuration.loaded_at.isoformat(timespec="milliseconds"),
        "error": gateway.reader.error,
        "configuration": masked(configuration.as_dict()),
    }
