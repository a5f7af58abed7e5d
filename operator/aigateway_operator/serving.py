"""The process of `aigateway run`: its logs, its signals, and one controller after the other as selected namespaces change.

It puts no parts together (`main` does) and decides nothing about resources. Called by `cli.run`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from loguru import logger

from aigateway_logs import DualLog
from aigateway_operator import __version__
from aigateway_operator.collecting import freeze_what_is_there
from aigateway_operator.footprint import stay_small
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.namespaces import SelectedNamespaces
from aigateway_operator.logs import logging_to
from aigateway_operator.main import Operator, running
from aigateway_operator.settings import Settings

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes may keep another one waiting for the interpreter. kopf's thread goes on working on an event
after it has handed it over, and whatever lets go of the interpreter in a round, such as hashing a document, would wait for that
as long as Python's 5 ms: a plan of 1.2 ms of processor time took 6 ms."""

START_SECONDS: Final = 60.0
"""How long a start may last; garbage that only a full collection finds stays as long."""
LOOK_SECONDS: Final = 0.5


def run_operator(settings: Settings) -> int:
    """Configure logging, print the settings and run; return the exit code. The body of `aigateway run`."""
    with logging_to(settings) as logs:
        logger.bind(**settings.model_dump(mode="json")).info("Settings")
        if settings.allow_addresses:
            logger.warning("Addresses that rules refuse are allowed: {}", ", ".join(map(str, settings.allow_addresses)))
        sys.setswitchinterval(SWITCH_SECONDS)
        stay_small()
        return asyncio.run(serve(settings, logs))


async def serve(settings: Settings, logs: DualLog | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code. A part that breaks down ends the process with 1."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.namespace_selector:
        return await _serve_selected(settings, logs, stop)
    return await _serve_until(settings, logs, stop.wait)


async def _serve_selected(settings: Settings, logs: DualLog | None, stop: asyncio.Event) -> int:
    """Serve in the namespaces that the selector selects, anew whenever these change: seconds, and no write."""
    agent = f"aigateway-operator/{__version__} (namespaces)"
    async with KubeClient.connect(settings.kubeconfig, settings.context, user_agent=agent) as client:
        selected = SelectedNamespaces(client, settings.namespace_selector)
        try:
            await _first_of(stop.wait, selected.start)
            code = 0
            while not stop.is_set() and code == 0:
                names = selected.names
                logger.bind(selector=settings.namespace_selector).info("Working in namespaces {}", ", ".join(names))
                chosen = settings.model_copy(update={"namespaces": names})
                code = await _serve_until(chosen, logs, stop.wait, partial(selected.changed_from, names))
            return code
        finally:
            await selected.stop()


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of these does; raises what that one raises."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _serve_until(settings: Settings, logs: DualLog | None, *ends: Callable[[], Awaitable[object]]) -> int:
    """Run one controller until the first of `ends` returns; return 1 if a part of it broke down."""
    async with running(settings, logs) as operator:
        freeze_what_is_there(starting=True)
        logger.bind(pid=os.getpid(), health_port=operator.health_port).info("Operator {} started", __version__)
        starting = asyncio.create_task(_end_start(operator), name="start")
        try:
            await _first_of(*ends, lambda: asyncio.wait(operator.tasks, return_when=asyncio.FIRST_COMPLETED))
        finally:
            starting.cancel()
        broken = [task for task in operator.tasks if task.done()]
        for task in broken:
            logger.opt(exception=task.exception()).error("{} ended although it never should", task.get_name())
        logger.info("Operator stopping")
    return 1 if broken else 0


async def _end_start(operator: Operator) -> None:
    """Freeze what has been listed too, once nothing is left to do about it: a tenth of a second for 10,000 models."""
    for _ in range(round(START_SECONDS / LOOK_SECONDS)):
        await asyncio.sleep(LOOK_SECONDS)
        if operator.controller.store.listed and operator.controller.idle:
            break
    freeze_what_is_there()
