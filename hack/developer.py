"""One control plane, Redis and MongoDB kept running for a developer: what `python -m hack up` and its kin do.

`up` starts `serve` in the background, which owns the servers; `down` ends it, and with it everything. All of it lies in
`.dev/` of the work tree, so each work tree has its own. It must not know how servers are run. Called by `hack.__main__`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hack.binaries import ensure
from hack.controlplane import NEEDED, ControlPlane
from hack.process import ServerError
from hack.progress import duration
from hack.stores import MongoServer, RedisServer

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = Path(os.environ.get("AIGATEWAY_DEV_FOLDER") or ROOT / ".dev")
"""Where everything of it lies; removed whole by `down`."""

_UP_WITHIN_SECONDS = 120
_DOWN_WITHIN_SECONDS = 20
_STATE = "state.json"
_SERVE_LOG = "serve.log"


def up(*, keep_logs: bool = False) -> int:
    """Start everything in the background, wait until it is ready, say how to reach it. Says so when it is up already."""
    if state := _state():
        print(f"Already up, since {state['since']} (process {state['pid']}). `python -m hack down` ends it.")
        _print_reach(state)
        return 0
    ensure([*NEEDED, "redis-server", "mongowire"])
    started = time.monotonic()
    _remove_leftovers()
    FOLDER.mkdir(mode=0o700, parents=True)
    with (FOLDER / _SERVE_LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hack", "serve", *(["--keep-logs"] if keep_logs else [])], cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    print("Starting etcd, kube-apiserver, kube-controller-manager, Redis and a MongoDB wire server (usually 4 s) …", flush=True)
    while time.monotonic() - started < _UP_WITHIN_SECONDS:
        if process.poll() is not None:
            said = (FOLDER / _SERVE_LOG).read_text(errors="replace").strip()
            raise ServerError(f"It did not start (exit code {process.returncode}):\n{said}")
        if state := _state():
            process.returncode = 0  # it goes on without us: no warning that it still runs
            print(f"Ready after {duration(time.monotonic() - started)}.")
            _print_reach(state)
            return 0
        time.sleep(0.05)
    process.terminate()
    process.wait(timeout=_DOWN_WITHIN_SECONDS)
    raise ServerError(f"Not ready within {_UP_WITHIN_SECONDS} s; see {FOLDER}.")


def down() -> int:
    """End everything and wait until it is gone. Nothing to do is fine."""
    state = _state()
    if state is None:
        _remove_leftovers()
        print("Nothing is up.")
        return 0
    os.kill(state["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if not _alive(state["pid"]):
            print(f"Down. Logs are kept in {FOLDER / 'logs'}." if (FOLDER / "logs").exists() else "Down. Nothing is left.")
            return 0
        time.sleep(0.05)
    raise ServerError(f"Process {state['pid']} did not end within {_DOWN_WITHIN_SECONDS} s; see {FOLDER}.")


def status() -> int:
    """Say what runs and where; 1 when nothing does."""
    state = _state()
    if state is None:
        print("Nothing is up. `python -m hack up` starts a control plane, Redis and MongoDB.")
        return 1
    print(f"Up since {state['since']} (process {state['pid']}).")
    for name, pid in state["servers"].items():
        print(f"  {name:<24} {f'process {pid}' if _alive(pid) else 'DEAD: see `python -m hack logs`'}")
    _print_reach(state)
    return 0


def env() -> int:
    """Print export lines for a shell; 1 when nothing is up."""
    state = _state()
    if state is None:
        print("Nothing is up. `python -m hack up` first.", file=sys.stderr)
        return 1
    print("\n".join(_exports(state)))
    return 0


def logs(name: str | None = None) -> int:
    """Print the servers' logs, or one's; 1 when there are none of that name."""
    files = [path for path in sorted(FOLDER.rglob("*.log")) if path.name != "audit.log" or name == "audit"]
    chosen = [path for path in files if name in (None, path.stem)]
    if not chosen:
        print(
            f"No logs of {name or 'anything'}; there are {', '.join(path.stem for path in files) or 'none'}.", file=sys.stderr
        )
        return 1
    for path in chosen:
        print(f"==> {path} <==")
        print(path.read_text(errors="replace"))
    return 0


def serve(*, keep_logs: bool = False) -> int:
    """Own the servers in this process until SIGTERM or SIGINT; then leave nothing of them."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    binaries = ensure([*NEEDED, "redis-server", "mongowire"])
    crds = [ROOT / "crds"] if any((ROOT / "crds").glob("*.yaml")) else []
    try:
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(RedisServer.start(FOLDER / "redis", binary=binaries["redis-server"]))
            mongo = stack.enter_context(MongoServer.start(FOLDER / "mongodb", binary=binaries["mongowire"]))
            plane = stack.enter_context(ControlPlane.start(FOLDER / "plane", binaries=binaries, crds=crds))
            _write_state({
                "pid": os.getpid(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                "url": plane.url,
                "servers": {**plane.pids, "redis-server": redis.pid, "mongowire": mongo.pid},
                "environment": {
                    "KUBECONFIG": str(plane.kubeconfig), "AIGATEWAY_DEV_REDIS_URL": redis.url,
                    "AIGATEWAY_DEV_MONGODB_URL": mongo.url,
                },
                "kubectl": str(binaries["kubectl"]),
            })  # fmt: skip
            ended.wait()
    finally:
        _clear(keep_logs=keep_logs)
    return 0


def _write_state(state: dict[str, Any]) -> None:
    waiting = FOLDER / f".{_STATE}"
    waiting.write_text(json.dumps(state, indent=1) + "\n")
    waiting.replace(FOLDER / _STATE)


def _state() -> dict[str, Any] | None:
    """What `serve` wrote, if that process is still there; None when nothing is up."""
    try:
        state: dict[str, Any] = json.loads((FOLDER / _STATE).read_text())
    except (OSError, ValueError):
        return None
    return state if _alive(state["pid"]) else None


def _alive(pid: int) -> bool:
    """Whether the process is there and no zombie (in a container nobody may collect those)."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def _remove_leftovers() -> None:
    """Remove what an earlier run left, as one that was killed. ServerError for a folder that is not ours."""
    if not FOLDER.exists():
        return
    if any(FOLDER.iterdir()) and not any((FOLDER / name).exists() for name in (_SERVE_LOG, "logs")):
        raise ServerError(f"{FOLDER} holds other things than servers of `python -m hack up`, so it is left alone; remove it")
    shutil.rmtree(FOLDER, ignore_errors=True)


def _clear(*, keep_logs: bool) -> None:
    kept = list(_kept_logs()) if keep_logs else []
    for path in FOLDER.iterdir() if FOLDER.exists() else ():
        if path.name != "logs":
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if not kept:
        shutil.rmtree(FOLDER, ignore_errors=True)


def _kept_logs() -> Iterator[Path]:
    """Move all logs into one folder that outlives the rest."""
    target = FOLDER / "logs"
    target.mkdir(exist_ok=True)
    for path in sorted(FOLDER.rglob("*.log")):
        if path.parent != target:
            yield path.replace(target / path.name)


def _print_reach(state: dict[str, Any]) -> None:
    print(f"  API server  {state['url']}")
    for line in _exports(state):
        print(f"  {line}")
    print(f'  In one go:  eval "$({sys.executable} -m hack env)"')


def _exports(state: dict[str, Any]) -> list[str]:
    """Return the lines for a shell; kubectl and the `aigateway` of this environment come first in its PATH."""
    lines = [f"export {name}='{value}'" for name, value in state["environment"].items()]
    return [*lines, f"export PATH='{Path(state['kubectl']).parent}:{Path(sys.executable).parent}':\"$PATH\""]
