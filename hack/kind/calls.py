"""A caller outside the cluster: opens a way to the gateway's Service and asks it, as applications do.

Called by `hack.kind.acts`.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from hack.kind.cluster import Cluster, CommandError
from hack.kind.commands import CALLER_KEY, MODEL, forward

_OPEN_SECONDS: Final = 20
_CALL_SECONDS: Final = 10


class Caller:
    """`with Caller(cluster) as caller:` calls through a port of this machine; when the way breaks it opens another."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is opened yet."""
        self._cluster = cluster
        self._address = ""
        self._close: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def ask(self) -> str:
        """Call the model once and return what it said. CommandError with the answer when that is no completion."""
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Who are you?"}]}).encode()
        headers = {"Authorization": f"Bearer {CALLER_KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/v1/chat/completions", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_CALL_SECONDS) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise CommandError(f"the gateway answered {error.code}: {error.read().decode(errors='replace')[:500]}") from error
        except OSError as error:
            raise CommandError(f"the gateway cannot be reached: {error}") from error
        return str(answer["choices"][0]["message"]["content"])

    def ask_until(self, expected: str, within_seconds: float) -> float:
        """Call until the model says what is expected; the seconds that took. CommandError with its last answer if never."""
        started = time.monotonic()
        said = ""
        while time.monotonic() - started < within_seconds:
            try:
                said = self.ask()
            except CommandError as error:
                said = str(error)
            if expected in said:
                return time.monotonic() - started
            threading.Event().wait(0.02)
        raise CommandError(f"after {within_seconds:.0f} s the gateway still says: {said}")

    def _open(self) -> None:
        process = self._cluster.start(forward())
        opened = threading.Event()
        lines: list[str] = []

        def read() -> None:
            for line in process.stdout or ():
                lines.append(line)
                if found := re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", line):
                    self._address = f"http://127.0.0.1:{found[1]}"
                    opened.set()

        def close() -> None:
            process.kill()
            process.wait()
            reader.join(timeout=5)
            if process.stdout:
                process.stdout.close()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self._close = close
        if not opened.wait(_OPEN_SECONDS):
            close()
            raise CommandError(f"{forward()}\nopened no way within {_OPEN_SECONDS} s: {''.join(lines)[-500:]}")


def _nothing() -> None:
    """Close nothing: no way is open yet."""
