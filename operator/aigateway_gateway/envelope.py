"""The two forms of answers outside /v1: `{success, message, data}` and the same with an error code and the trace id. Pure.

Source: docs/gateway.md#what-it-answers, #errors.
"""

from __future__ import annotations

from typing import Any

import orjson


def success(message: str, data: Any) -> bytes:
    """Return a good answer as JSON."""
    return orjson.dumps({"success": True, "message": message, "data": data})


def failure(message: str, code: str, trace_id: str, data: Any = None, debug: str | None = None) -> bytes:
    """Return an error as JSON; `code` is one snake_case word, `debug` what `app.debug` adds."""
    details = {"trace_id": trace_id}
    if debug is not None:
        details["debug"] = debug.encode(errors="replace").decode()
    return orjson.dumps({"success": False, "message": message, "data": data, "error_code": code, "error_details": details})
