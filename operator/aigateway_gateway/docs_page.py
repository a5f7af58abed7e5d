"""`/docs`: what is served, as one page that loads nothing from anywhere, so that it works where no other network is in reach.

Built from the OpenAPI description; no script, and a policy that allows none. Mounted by `app`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;"
    "border-bottom:1px solid #8884}code{white-space:nowrap}"
)


def routes(describe: Callable[[], dict[str, Any]]) -> APIRouter:
    """Return the route. `describe` returns the OpenAPI description."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(describe()), headers=_HEADERS)

    return router


def page(description: dict[str, Any]) -> str:
    """Return an OpenAPI description as HTML."""
    info = description["info"]
    title = escape(f"{info['title']} {info['version']}")
    rows = "".join(_rows(description["paths"]))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>OpenAI's API for the models that your key opens; send the key as "
        "<code>Authorization: Bearer KEY</code>. Any client of OpenAI's works: give it this address and <code>/v1</code> as "
        'base URL. For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"<table><tr><th>Request</th><th>What it does</th></tr>{rows}</table></body></html>"
    )


def _rows(paths: dict[str, dict[str, Any]]) -> Iterator[str]:
    for path, operations in sorted(paths.items()):
        for method, operation in operations.items():
            more = escape(operation.get("description", ""))
            summary = f"<b>{escape(operation.get('summary', ''))}</b><br>{more}"
            yield f"<tr><td><code>{escape(method.upper())} {escape(path)}</code></td><td>{summary}</td></tr>"
