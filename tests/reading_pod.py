"""A gateway pod for tests that want the whole chain: N worker processes on the pod library, each with a ledger of what it ran.

Each worker appends a line to `<LEDGER>/<pid>.jsonl` the moment another configuration is in force, stamped with
CLOCK_MONOTONIC, which all processes of a machine share. With LOAD it serves a stream of pretended requests meanwhile, each of
which takes one configuration, waits, and then needs the live backend and its key; what it lacks goes to the ledger. Run by
stand-in pods (`tests/delivery.py`), configured by the environment that `aigateway mount` gives them and a few names more.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from aigateway_config import ApiAccess, ApiWatch, ConfigReader, MountedVolume, RedisMirror, StatusReporter
from aigateway_config.source import Source

ENV = os.environ
LOOPBACK = (ip_network("127.0.0.0/8"),)
REQUEST_SECONDS = 0.03
FEW = 100


class Ledger:
    """What one worker ran, line by line."""

    def __init__(self, reader: ConfigReader) -> None:
        self._reader = reader
        self._file = (Path(ENV["LEDGER"]) / f"{os.getpid()}.jsonl").open("a", buffering=1)
        self._last: dict[str, Any] = {}

    def note(self) -> None:
        """Write down what is in force, if that has changed. Called in the turn of the loop in which it came into force."""
        state: dict[str, Any] = {"ignored": dict(self._reader.counters.ignored)}
        current = self._reader.current
        if current is not None:
            state |= {
                "lineage": current.lineage,
                "documents": {file: one.revision for file, one in current.documents.items()},
                "credentials": dict(current.credentials),
            }
        if current is not None and len(current.models) <= FEW:  # of ten thousand, a line would take longer than the swap
            state["uses"] = {name: [model.current, _text(model.live.api_key)] for name, model in current.models.items()}
        if state != self._last:
            self._last = state
            self.write(state)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        self._file.write(json.dumps({"at": time.monotonic(), **record}) + "\n")

    async def keep(self) -> None:
        """Note what only counters tell, until cancelled."""
        while True:
            await asyncio.sleep(0.2)
            self.note()


def _text(key: SecretStr | None) -> str | None:
    return None if key is None else key.get_secret_value()


async def serve(reader: ConfigReader, ledger: Ledger) -> None:
    """Serve requests for every model, many at a time, until cancelled; each needs what the configuration it took promises."""
    served = 0

    async def requests(seed: int) -> None:
        nonlocal served
        dice = random.Random(seed)
        while True:
            config = reader.current
            await asyncio.sleep(dice.uniform(0.001, REQUEST_SECONDS))
            for name, model in config.models.items() if config is not None else ():
                lacks = _lacks(model)
                if lacks:
                    ledger.write({"lacks": f"{name}: {lacks}"})
                served += 1

    async def count() -> None:
        while True:
            await asyncio.sleep(0.2)
            ledger.write({"served": served})

    async with asyncio.TaskGroup() as group:
        for seed in range(16):
            group.create_task(requests(seed))
        group.create_task(count())


def _lacks(model: Any) -> str:
    """Return what a request for a model lacks; values are "<model name of the backend>-key", so that a wrong one is seen."""
    if model.proxy_key is None:
        return "the caller's key"
    live = model.live
    if live.api_key_ref is None:
        return ""
    if live.api_key is None:
        return f"the key {live.api_key_ref} of backend {live.name}"
    found = live.api_key.get_secret_value()
    return "" if found.startswith(f"{live.model}-key") else f"the right key of backend {live.name}"


def sources() -> list[Source]:
    """Return the sources that SOURCES names."""
    wanted = ENV.get("SOURCES", "volume").split(",")
    found: list[Source] = [MountedVolume(ENV["AIGATEWAY_CONFIG_DIR"], ENV["AIGATEWAY_CREDENTIALS_DIR"])]
    if "api" in wanted:
        access = ApiAccess(ENV["API_SERVER"], ENV["API_NAMESPACE"], Path(ENV["API_TOKEN_FILE"]), Path(ENV["API_CA_FILE"]))
        found.append(ApiWatch("main", access=access))
    if "redis" in wanted:
        found.append(RedisMirror(allowed=LOOPBACK))
    return found


async def work() -> None:
    """Be one worker until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    status = StatusReporter(
        int(ENV["STATUS_PORT"]), host=ENV["AIGATEWAY_STATUS_HOST"], workers_dir=ENV["AIGATEWAY_WORKERS_DIR"]
    )
    async with ConfigReader(sources(), services=[status]) as reader:
        ledger = Ledger(reader)
        ledger.write({"pid": os.getpid()})
        reader.watch(ledger.note)
        beside = [asyncio.create_task(ledger.keep())]
        beside += [asyncio.create_task(serve(reader, ledger))] if ENV.get("LOAD") else []
        await stop.wait()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def main() -> None:
    """Fork the workers and wait for them; the signals of a stand-in reach the whole group."""
    count = int(ENV.get("WORKERS", "1"))
    if count == 1:
        asyncio.run(work())
        return
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            asyncio.run(work())
            os._exit(0)
        children.append(child)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
