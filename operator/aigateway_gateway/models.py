"""`/v1/models`: the models whose key the caller presented, and nothing of the others. Mounted by `app`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from aigateway_config.model import Model
from aigateway_gateway.openai_errors import model_not_found, not_configured
from aigateway_gateway.serving import Serving
from aigateway_gateway.state import Gateway


def routes(gateway: Gateway) -> APIRouter:
    """Return both routes."""
    router = APIRouter(tags=["OpenAI"])

    @router.get("/v1/models", summary="List the models that your key opens")
    async def list_models(request: Request) -> Response:
        """Models that are switched off are not listed. `created` is 0: a virtual model has no date of birth."""
        serving, models = _of_caller(request)
        return _json({"object": "list", "data": [_shown(model, serving) for model in models]})

    @router.get("/v1/models/{name:path}", summary="Retrieve one model that your key opens")
    async def retrieve_model(request: Request, name: str) -> Response:
        """404 for a model that is unknown, switched off, or not for this key."""
        serving, models = _of_caller(request)
        for model in models:
            if model.name == name:
                return _json(_shown(model, serving))
        raise model_not_found(name)

    def _of_caller(request: Request) -> tuple[Serving, list[Model]]:
        serving = gateway.serving
        if serving is None:
            raise not_configured()
        return serving, serving.models_for(serving.authenticate(request.scope["headers"]))

    return router


def _shown(model: Model, serving: Serving) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": serving.configuration.gateway}


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
