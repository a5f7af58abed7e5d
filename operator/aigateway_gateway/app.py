"""The public API as one FastAPI application: routes, middlewares, and the form of every error. Wires, decides nothing.

`/v1/chat/completions` and `/v1/embeddings` are raw ASGI applications, since FastAPI's own routes would cost as much again as
the rest of the request, and are found before its router is asked; they are described in the documentation all the same.
Called by `serve`, once a worker, and by tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aigateway_gateway import __version__, config_page, docs_page, health, models
from aigateway_gateway.calls import ModelCall
from aigateway_gateway.envelope import failure, success
from aigateway_gateway.openai_errors import ApiError, Kind
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.state import Gateway
from aigateway_gateway.trace import TraceMiddleware

_TITLE: Final = "AI Gateway"
_GZIP_FROM_BYTES: Final = 1024
_CODES: Final = {404: "not_found", 405: "method_not_allowed", 422: "invalid_request"}


def create_app(gateway: Gateway) -> FastAPI:
    """Return the application; `gateway` is opened when it starts and closed when it ends."""
    settings = gateway.settings

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(
        title=_TITLE,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        redirect_slashes=False,
    )
    calls = {"/v1/chat/completions": ModelCall(gateway, "chat"), "/v1/embeddings": ModelCall(gateway, "embeddings")}
    app.router.routes[:0] = [Route(path, call, methods=["POST"]) for path, call in calls.items()]
    app.include_router(models.routes(gateway))
    app.include_router(health.routes(gateway))
    if admin_key := settings.read_admin_key():
        app.include_router(config_page.routes(gateway, admin_key))
    if settings.docs:
        app.include_router(docs_page.routes(lambda: app.openapi()))
    _add_root(app, settings)
    _add_middlewares(app, gateway, calls)
    _add_errors(app, gateway)
    _describe_calls(app)
    return app


def _add_root(app: FastAPI, settings: GatewaySettings) -> None:
    @app.get("/", tags=["about"], summary="Name, version, links")
    async def root() -> Response:
        links = {"models": "/v1/models", "health": "/api/v1/health"} | ({"docs": "/docs"} if settings.docs else {})
        body = success("AI Gateway", {"name": "aigateway", "version": __version__, "links": links})
        return Response(body, media_type="application/json")


class _CallsFirst:
    """The innermost middleware: hands calls over without a router's search. Other methods get the router's 405."""

    def __init__(self, app: ASGIApp, calls: Mapping[str, ModelCall]) -> None:
        self._app, self._calls = app, calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._calls.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (call or self._app)(scope, receive, send)


def _add_middlewares(app: FastAPI, gateway: Gateway, calls: Mapping[str, ModelCall]) -> None:
    """The last one added is the outermost: the trace id comes first, so that every answer has it."""
    settings = gateway.settings
    app.add_middleware(_CallsFirst, calls=calls)
    if settings.gzip:
        app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES, compresslevel=5)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Trace-ID"],
            expose_headers=["X-Trace-ID", "X-Request-ID", "Retry-After"],
        )
    if settings.allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts, www_redirect=False)
    app.add_middleware(TraceMiddleware, explain=gateway.explain)


def _add_errors(app: FastAPI, gateway: Gateway) -> None:
    async def api_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for this type alone
        error.debug = gateway.explain(error)
        headers = {name.decode(): value.decode() for name, value in error.headers}
        return Response(error.body, error.shape.status, headers)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type alone
        if request.url.path.startswith("/v1/"):
            return await api_error(request, _of_v1(request, error.status_code))
        code = _CODES.get(error.status_code, "http_error")
        body = failure(f"{error.detail}.".replace("..", "."), code, request.scope["trace_id"])
        return Response(body, error.status_code, error.headers, "application/json")

    async def invalid(request: Request, _error: Exception) -> Response:
        body = failure(
            "The request does not have the form that the documentation gives.", "invalid_request", request.scope["trace_id"]
        )
        return Response(body, 422, media_type="application/json")

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)


def _of_v1(request: Request, status: int) -> ApiError:
    asked = f"{request.method} {request.url.path[:100]}"
    if status == Kind.METHOD_NOT_ALLOWED.value.status:
        return ApiError(Kind.METHOD_NOT_ALLOWED, f"Method not allowed ({asked}).")
    return ApiError(Kind.UNKNOWN_URL, f"Invalid URL ({asked}).")


def _describe_calls(app: FastAPI) -> None:
    """Put the raw routes into the OpenAPI description; their bodies are OpenAI's and not repeated here."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = original()
        security = {"type": "http", "scheme": "bearer", "description": "The model's proxy key."}
        schema.setdefault("components", {}).setdefault("securitySchemes", {})["key"] = security
        schema["paths"]["/v1/chat/completions"] = {"post": _operation("Chat completions, streamed or whole", "chat/create")}
        schema["paths"]["/v1/embeddings"] = {"post": _operation("Embeddings", "embeddings/create")}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the description


def _operation(summary: str, page: str) -> dict[str, Any]:
    properties = {"model": {"type": "string", "description": "Public name of a virtual model."}}
    body = {"type": "object", "required": ["model"], "properties": properties, "additionalProperties": True}
    return {
        "tags": ["OpenAI"],
        "summary": summary,
        "description": f"As OpenAI's API: https://platform.openai.com/docs/api-reference/{page}",
        "security": [{"key": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "The backend's answer."}, "default": {"description": "OpenAI's error format."}},
    }
