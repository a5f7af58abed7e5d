"""An ASGI application whose every worker follows a mounted volume and reports what it runs; for tests with uvicorn.

Environment: POD_CONFIG, POD_CREDENTIALS, POD_WORKERS (folders) and POD_STATUS_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aigateway_config import ConfigReader, MountedVolume, StatusReporter

Message = MutableMapping[str, Any]


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    """Open the reader for as long as the worker serves."""
    assert scope["type"] == "lifespan"
    await receive()
    volume = MountedVolume(os.environ["POD_CONFIG"], os.environ["POD_CREDENTIALS"], poll_seconds=1)
    status = StatusReporter(int(os.environ["POD_STATUS_PORT"]), host="127.0.0.1", workers_dir=os.environ["POD_WORKERS"])
    async with ConfigReader([volume], services=[status]) as reader:
        await reader.wait_ready(10)
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
