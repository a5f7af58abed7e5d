"""What a signal does to a gateway: the first drains, further ones hurry, and each is heeded once."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import cast

import uvicorn

from aigateway_gateway.serve import _Server
from aigateway_gateway.state import Gateway
from tests.eventually import eventually_async


def made(drain_seconds: float) -> tuple[_Server, Gateway]:
    """Return a server that does not listen, and what it drains."""
    gateway = cast(Gateway, SimpleNamespace(draining=False, settings=SimpleNamespace(drain_seconds=drain_seconds)))
    return _Server(uvicorn.Config("none:app", log_config=None), gateway), gateway


async def test_sigterm_turns_readiness_off_first_and_stops_when_the_drain_is_over() -> None:
    """A Service goes on sending callers until it has seen that the pod is not ready."""
    server, gateway = made(0.05)
    server.handle_exit(signal.SIGTERM, None)
    await asyncio.sleep(0)
    assert (gateway.draining, server.should_exit) == (True, False)

    async def stops() -> None:
        assert server.should_exit

    await eventually_async(stops, within_seconds=20)
    assert not server.force_exit, "what runs is answered"


async def test_a_second_signal_stops_at_once_and_a_third_cuts_off_what_runs() -> None:
    """Somebody is in a hurry."""
    server, gateway = made(60)
    server.handle_exit(signal.SIGTERM, None)
    await asyncio.sleep(0)
    assert gateway.draining
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit


async def test_ctrl_c_needs_no_drain() -> None:
    """At a terminal there is no Service in front."""
    server, gateway = made(60)
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, gateway.draining) == (True, False)
