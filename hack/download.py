"""Official downloads: which file holds a tool, fetching it, and checking it against its published checksum.

No checksum is pinned here: they are fetched over HTTPS from beside the file (`.sha256`, `SHA256SUMS`), which guards
against broken and mixed-up files and trusts the publisher's host. A broken download is resumed. A host that cannot be
reached is given up at once, for the rest of the process. Called by `hack.binaries`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import urllib.response
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hack import cache
from hack.progress import Progress, Step
from hack.tools import ETCD, HELM, PROMETHEUS, Kubernetes, Tool, platform_name

OFFLINE_VARIABLE: Final = "AIGATEWAY_OFFLINE"
HOSTS: Final = ("dl.k8s.io", "github.com", "get.helm.sh")

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 20


class DownloadError(RuntimeError):
    """A file could not be had; the text says where and why."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a publisher: its address, that of its checksums, and the binary's path inside it ("" if it is one)."""

    url: str
    checksums: str
    member: str = ""


class Downloads:
    """Fetches tools; remembers which hosts cannot be reached. May be used from several threads."""

    def __init__(self, progress: Progress) -> None:
        """Nothing is fetched yet."""
        self._progress = progress
        self._unreachable: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, tool: Tool, kubernetes: Kubernetes) -> Path:
        """Download `tool` into the cache, verified, and return its path there. DownloadError when it cannot be had."""
        if os.environ.get(OFFLINE_VARIABLE):
            raise DownloadError(f"switched off by {OFFLINE_VARIABLE}")
        try:
            version = self._version(tool, kubernetes)
            file = _file_of(tool.name, version)
            expected = _pick_checksum(self._text(file.checksums), file.url.rsplit("/", 1)[1])
            with self._progress.step(f"{tool.name} {version}: downloading", "under a minute") as step:
                return self._fetch(tool.name, version, file, expected, step)
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise DownloadError(str(getattr(error, "reason", error))) from error

    def _version(self, tool: Tool, kubernetes: Kubernetes) -> str:
        if tool.group == "kubernetes":
            return kubernetes.exact or self._text(f"https://dl.k8s.io/release/stable-{kubernetes}.txt").strip().lstrip("v")
        if tool.name in (pinned := {"etcd": ETCD, "helm": HELM, "promtool": PROMETHEUS}):
            return pinned[tool.name]
        raise DownloadError("it is only built, from its Go modules")

    def _fetch(self, name: str, version: str, file: _File, expected: str, step: Step) -> Path:
        parts = cache.cache_root() / "downloads"
        parts.mkdir(parents=True, exist_ok=True)
        part = parts / f"{name}-{version}-{'-'.join(platform_name())}.part"
        self._stream_persistently(file.url, part, step)
        if (actual := cache.sha256(part)) != expected:
            part.unlink()
            raise DownloadError(f"{file.url} has SHA-256 {actual}, its publisher says {expected}; it was thrown away")
        made = part
        if file.member:
            made = part.with_suffix(".binary")
            _extract(part, file.member, made)
            part.unlink()
        return cache.install(name, version, made, origin=file.url)

    def _stream_persistently(self, url: str, part: Path, step: Step) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._stream(url, part, step)
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS:
                    raise DownloadError(f"{error}; what there is of it is kept, the next call goes on from there") from error
            else:
                return

    def _stream(self, url: str, part: Path, step: Step) -> None:
        """Append to `part` what is missing of `url`, from the start if the server cannot begin in the middle."""
        done = part.stat().st_size if part.exists() else 0
        try:
            response = self._open(url, {"Range": f"bytes={done}-"} if done else {})
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            return  # nothing is missing: the checksum decides
        with response, part.open("ab" if response.status == 206 else "wb") as stream:
            total = int(response.headers.get("Content-Length") or 0) + stream.tell()
            while chunk := response.read(_CHUNK_BYTES):
                stream.write(chunk)
                step.note(f"{stream.tell() >> 20} of {total >> 20} MiB")
            if stream.tell() < total:
                raise ConnectionError(f"{url} broke off at {stream.tell()} of {total} bytes")

    def _text(self, url: str) -> str:
        with self._open(url, {}) as response:
            return str(response.read(_CHUNK_BYTES).decode())

    def _open(self, url: str, headers: Mapping[str, str]) -> urllib.response.addinfourl:
        parts = urllib.parse.urlsplit(url)
        self._require_reach(parts.hostname or "", parts.port or 443)
        try:
            response: urllib.response.addinfourl = urllib.request.urlopen(
                urllib.request.Request(url, headers=dict(headers)), timeout=_READ_SECONDS
            )
        except urllib.error.HTTPError as error:
            if error.code == 416:
                raise
            raise DownloadError(f"{url}: HTTP {error.code}") from error
        return response

    def _require_reach(self, host: str, port: int) -> None:
        """Knock at the door first: a time-out of its own for connecting, which urllib does not have."""
        with self._lock:
            if host not in self._unreachable:
                self._unreachable[host] = "" if urllib.request.getproxies().get("https") else _knock(host, port)
            reason = self._unreachable[host]
        if reason:
            raise DownloadError(f"{host}: {reason}")


def _knock(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return ""
    except TimeoutError:
        return f"no answer within {_CONNECT_SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)


def _file_of(name: str, version: str) -> _File:
    system, processor = platform_name()
    if name == "etcd":
        base = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
        if system != "linux":
            raise DownloadError(f"there is no tar archive for {system}")
        stem = f"etcd-v{version}-{system}-{processor}"
        return _File(f"{base}/{stem}.tar.gz", f"{base}/SHA256SUMS", f"{stem}/etcd")
    if name == "helm":
        url = f"https://get.helm.sh/helm-v{version}-{system}-{processor}.tar.gz"
        return _File(url, f"{url}.sha256sum", f"{system}-{processor}/helm")
    if name == "promtool":
        base = f"https://github.com/prometheus/prometheus/releases/download/v{version}"
        stem = f"prometheus-{version}.{system}-{processor}"
        return _File(f"{base}/{stem}.tar.gz", f"{base}/sha256sums.txt", f"{stem}/promtool")
    url = f"https://dl.k8s.io/release/v{version}/bin/{system}/{processor}/{name}"
    return _File(url, f"{url}.sha256")


def _pick_checksum(text: str, file: str) -> str:
    """The SHA-256 of `file` in a checksum file: a bare one, or the line that names it."""
    for line in text.splitlines():
        words = line.split()
        if words and re.fullmatch(r"[0-9a-f]{64}", words[0]) and (len(words) == 1 or words[-1].lstrip("*") == file):
            return words[0]
    raise DownloadError(f"no checksum of {file} is published beside it")


def _extract(archive: Path, member: str, to: Path) -> None:
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(tarfile.open(archive)).extractfile(member)
        except (tarfile.TarError, KeyError) as error:
            raise DownloadError(f"{archive.name} holds no {member}: {error}") from error
        if source is None:
            raise DownloadError(f"{member} in {archive.name} is no file")
        with to.open("wb") as stream:
            shutil.copyfileobj(source, stream)
