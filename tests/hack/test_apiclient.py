"""The client of `hack/`: connections are kept, and one that ended is not taken for one that can be used."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import Any

import pytest

from hack.apiclient import ApiClient, Response
from tests.eventually import eventually
from tests.webhooks import Authority


class Server(ThreadingHTTPServer):
    """Answers each request with its path, over TLS; counts connections, and can end those that are open."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        chain, key = authority.leaf()
        (folder / "chain.pem").write_bytes(chain)
        (folder / "key.pem").write_bytes(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.connections: list[socket] = []

    def end_connections(self) -> None:
        """End what is open, as a server does that dies."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Note the connection."""
        super().setup()
        self.server.connections.append(self.request)

    def do_GET(self) -> None:
        """Answer; `/last` is the last answer of its connection."""
        body = json.dumps(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def authority() -> Authority:
    """Whom the client trusts."""
    return Authority()


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[Server]:
    """A server that counts connections."""
    with Server(authority, tmp_path) as started:
        threading.Thread(target=started.serve_forever, args=(0.02,), daemon=True).start()
        yield started
        started.end_connections()
        started.shutdown()


@pytest.fixture
def client(server: Server, authority: Authority, tmp_path: Path) -> Iterator[ApiClient]:
    """A client of the server, closed before it."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    made = ApiClient(server.server_address[1], tmp_path / "ca.pem", "token")
    yield made
    made.close()


def test_one_connection_serves_one_request_after_another(client: ApiClient, server: Server) -> None:
    """Also behind an answer that ends it: then the next request opens another."""
    assert [client.request("GET", f"/{number}").body for number in range(10)] == [f"/{number}" for number in range(10)]
    assert len(server.connections) == 1
    client.request("GET", "/last")
    assert client.request("GET", "/next") == Response(200, "/next")
    assert len(server.connections) == 2


def test_a_connection_that_ended_while_idle_is_replaced(client: ApiClient, server: Server) -> None:
    """A server that was killed and started again is reached at once: no request is sent into what is left of the first."""
    client.request("GET", "/first")
    server.end_connections()
    assert client.request("GET", "/second").body == "/second"
    assert len(server.connections) == 2


def test_requests_at_once_have_a_connection_each_and_close_ends_them_all(client: ApiClient, server: Server) -> None:
    """Threads do not wait for each other, nor read each other's answers."""
    with ThreadPoolExecutor(5) as threads:
        asked = [f"/{number}" for number in range(200)]
        assert [answer.body for answer in threads.map(partial(client.request, "GET"), asked)] == asked
    assert 1 <= len(server.connections) <= 5
    client.close()
    eventually(lambda: assert_ended(server), within_seconds=5)


def assert_ended(server: Server) -> None:
    """Assert that every connection has come to its end, as the server sees it."""
    assert all(connection.fileno() == -1 for connection in server.connections)
