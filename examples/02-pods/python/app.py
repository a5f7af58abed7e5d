"""A gateway pod in Python: follows the mounted documents, answers on the status port, and lists the models it serves.

Everything that a reader must do is done by the library; this program takes `reader.current` wherever a request needs it.
"""

import asyncio
import json
import logging
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aigateway_config import ConfigReader, Configuration, MountedVolume, StatusReporter

CONFIG = os.environ.get("AIGATEWAY_CONFIG_DIR", "/etc/aigateway/config")
CREDENTIALS = os.environ.get("AIGATEWAY_CREDENTIALS_DIR", "/etc/aigateway/credentials")
WORKERS = os.environ.get("AIGATEWAY_WORKERS_DIR")
log = logging.getLogger("app")


def announce(new: Configuration, old: Configuration | None) -> None:
    """Say what has come into force; a program would reconnect its datastores here."""
    revisions = {file: document.revision for file, document in new.documents.items()}
    log.info(
        "lineage %s, documents %s, credentials %s%s", new.lineage, revisions, dict(new.credentials), " (first)" * (old is None)
    )


def models(config: Configuration | None) -> dict[str, object]:
    """Return each model that is switched on, with its live backend. Keys are only counted."""
    served = {} if config is None else {name: model for name, model in config.models.items() if model.use}
    return {
        name: {"current": model.current, "model": model.live.model, "keyed": model.live.api_key is not None}
        for name, model in served.items()
    }


def page(reader: ConfigReader) -> type[BaseHTTPRequestHandler]:
    """Return what answers /ready and /models."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            config = reader.current  # one configuration for the whole request, whatever comes meanwhile
            answers = {"/ready": {"ready": config is not None}, "/models": models(config)}
            code = 404 if self.path not in answers else 200 if config is not None else 503
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Page


async def main() -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    status = StatusReporter(
        int(os.environ.get("STATUS_PORT", "8081")),
        host=os.environ.get("AIGATEWAY_STATUS_HOST"),
        workers_dir=WORKERS,
    )
    async with ConfigReader([MountedVolume(CONFIG, CREDENTIALS)], services=[status]) as reader:
        reader.subscribe(announce)
        address = (os.environ.get("LISTEN_HOST", ""), int(os.environ.get("PORT", "8000")))
        with ThreadingHTTPServer(address, page(reader)) as server:
            serving = asyncio.create_task(asyncio.to_thread(server.serve_forever, 0.1))
            await stop.wait()
            server.shutdown()
            await serving


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main())
