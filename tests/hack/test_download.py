"""Downloads are verified, resumed, and given up fast: against an HTTP server of the test's own."""

import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hack import cache, download, tools
from hack.download import DownloadError, Downloads
from hack.process import free_ports
from hack.progress import Progress
from hack.tools import TOOLS, Kubernetes

CONTENT = bytes(range(256)) * 8192  # 2 MiB
WANTED = Kubernetes((1, 36), "1.36.3", chosen=False)


class Publisher(ThreadingHTTPServer):
    """Serves `files`; `breaks` answers end after half of what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks = 0
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        """Answer with a file, from where it was asked for."""
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        if not self.path.endswith((".sha256", ".txt")):
            self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(body):
            self.send_error(416)
            return
        rest = body[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.breaks and not self.path.endswith(".sha256"):
            self.server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher of kubectl, and an empty cache; no proxy in between."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AIGATEWAY_OFFLINE", raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with Publisher() as server:
        publish(server, "/kubectl", CONTENT)
        monkeypatch.setattr(
            download, "_file_of", lambda *_: download._File(f"{server.url}/kubectl", f"{server.url}/kubectl.sha256")
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def publish(server: Publisher, path: str, content: bytes) -> None:
    """Put a file and its checksum in place."""
    server.files[path] = content
    server.files[f"{path}.sha256"] = hashlib.sha256(content).hexdigest().encode()


def get(name: str = "kubectl") -> Path:
    """Download it into the cache."""
    return Downloads(Progress(io.StringIO())).get(TOOLS[name], WANTED)


def part(tmp_path: Path) -> Path:
    """The file that a broken download leaves."""
    found = list((tmp_path / "cache" / "aigateway" / "downloads").glob("*.part"))
    assert len(found) == 1
    return found[0]


def test_a_download_ends_in_the_cache_verified_and_executable(publisher: Publisher, tmp_path: Path) -> None:
    """The marker vouches for it, and nothing half-made is left."""
    path = get()
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o755
    assert cache.find("kubectl", "1.36.3") == path
    assert list((tmp_path / "cache" / "aigateway" / "downloads").iterdir()) == []


def test_a_download_that_breaks_off_goes_on_where_it_stopped(publisher: Publisher) -> None:
    """Twice broken: three requests, none of which starts again from the beginning."""
    publisher.breaks = 2
    assert get().read_bytes() == CONTENT
    assert publisher.ranges == [None, f"bytes={1 << 20}-", f"bytes={(1 << 20) + (1 << 19)}-"]


def test_what_there_is_of_a_broken_download_is_used_by_the_next_call(publisher: Publisher, tmp_path: Path) -> None:
    """Also in another process: it lies in the cache."""
    publisher.breaks = 3
    with pytest.raises(DownloadError, match="broke off at 1835008 of 2097152 bytes; what there is of it is kept"):
        get()
    assert part(tmp_path).stat().st_size == 1835008
    assert get().read_bytes() == CONTENT
    assert publisher.ranges[-1] == "bytes=1835008-"


def test_a_file_that_does_not_match_its_checksum_is_thrown_away(publisher: Publisher, tmp_path: Path) -> None:
    """It never reaches the cache, and the next call starts from the beginning."""
    publisher.files["/kubectl.sha256"] = hashlib.sha256(b"something else").hexdigest().encode()
    with pytest.raises(DownloadError, match=r"has SHA-256 .*, its publisher says .*; it was thrown away"):
        get()
    assert not list((tmp_path / "cache" / "aigateway" / "downloads").iterdir())
    assert cache.find("kubectl", "1.36.3") is None


def test_a_file_without_published_checksum_is_refused(publisher: Publisher) -> None:
    """Nothing unverified is run."""
    publisher.files["/kubectl.sha256"] = b"<html>"
    with pytest.raises(DownloadError, match="no checksum of kubectl is published"):
        get()
    assert publisher.ranges == []


def test_the_line_of_a_checksum_file_that_names_the_file_is_taken() -> None:
    """etcd publishes one file for all."""
    text = f"{'a' * 64}  etcd-v3-linux-arm64.tar.gz\n{'b' * 64}  etcd-v3-linux-amd64.tar.gz\n"
    assert download._pick_checksum(text, "etcd-v3-linux-amd64.tar.gz") == "b" * 64


def test_a_binary_is_taken_out_of_its_archive(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm and etcd come in archives; only the binary is kept."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("linux-amd64/helm")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"helm"))
    publish(publisher, "/helm.tar.gz", packed.getvalue())
    url = f"{publisher.url}/helm.tar.gz"
    monkeypatch.setattr(download, "_file_of", lambda *_: download._File(url, f"{url}.sha256", "linux-amd64/helm"))
    assert get("helm").read_bytes() == b"helm"


def test_a_host_that_refuses_is_asked_once_and_given_up(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the host; the second tool does not wait for it again."""
    knocked: list[str] = []

    def knock(host: str, port: int) -> str:
        knocked.append(host)
        return "no answer within 5 s"

    monkeypatch.setattr(download, "_knock", knock)
    downloads = Downloads(Progress(io.StringIO()))
    for name in ("kubectl", "kube-apiserver"):
        with pytest.raises(DownloadError, match=r"127\.0\.0\.1: no answer within 5 s"):
            downloads.get(TOOLS[name], WANTED)
    assert knocked == ["127.0.0.1"]


def test_a_refused_connection_is_noticed_at_once() -> None:
    """No time-out is waited for."""
    started = time.monotonic()
    assert download._knock("127.0.0.1", free_ports(1)[0]) == "Connection refused"
    assert time.monotonic() - started < download._CONNECT_SECONDS - 1


def test_the_newest_patch_of_a_chosen_minor_is_asked_for(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no patch is pinned the publisher says which is the newest."""
    asked: list[str] = []

    def text(_: Downloads, url: str) -> str:
        asked.append(url)
        return "v1.34.9\n" if url.endswith(".txt") else hashlib.sha256(CONTENT).hexdigest()

    monkeypatch.setattr(Downloads, "_text", text)
    path = Downloads(Progress(io.StringIO())).get(TOOLS["kubectl"], Kubernetes((1, 34), None, chosen=True))
    assert asked[0] == "https://dl.k8s.io/release/stable-1.34.txt"
    assert path.parent.name == "kubectl-1.34.9"


def test_addresses_are_those_of_the_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As their pages name them."""
    monkeypatch.setattr(download, "platform_name", lambda: ("linux", "arm64"))
    assert download._file_of("kubectl", "1.36.3").url == "https://dl.k8s.io/release/v1.36.3/bin/linux/arm64/kubectl"
    assert download._file_of("helm", tools.HELM).url == f"https://get.helm.sh/helm-v{tools.HELM}-linux-arm64.tar.gz"
    etcd = download._file_of("etcd", "3.6.16")
    assert etcd.url == "https://github.com/etcd-io/etcd/releases/download/v3.6.16/etcd-v3.6.16-linux-arm64.tar.gz"
    assert etcd.member == "etcd-v3.6.16-linux-arm64/etcd"
