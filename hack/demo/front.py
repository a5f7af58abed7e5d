"""What the callers' acts need: two gateway pods with a kubelet's volumes, the providers' stub, a Redis, and a caller.

Pods are `aigateway gateway` processes behind real Pod objects (`hack.kubelet`), each at an address of its own. Nothing is
judged here. Called by `acts_callers`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from openai import APIStatusError, OpenAI, OpenAIError

from hack.controlplane import ControlPlane
from hack.demo.upstream import StubUpstream
from hack.kubelet import KubeletVolumes, StandInPod
from hack.kubelet.pods import PYTHON
from hack.process import ServerError
from hack.stores import RedisServer

GATEWAY: Final = "front"
MODEL: Final = "assistant"
CALLER_KEY: Final = "demo-caller-key"
LOOPBACK: Final = {"AIGATEWAY_ALLOW_ADDRESSES": "127.0.0.0/8"}
"""Everything here is on this machine, which the rules of a real cluster refuse."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_MANIFEST: Final = Path(__file__).with_name("front.yaml")
_SETTINGS: Final = {
    "AIGATEWAY_GATEWAY_HOST": "{ip}",
    "AIGATEWAY_GATEWAY_STATUS_HOST": "{ip}",
    "AIGATEWAY_GATEWAY_DRAIN_SECONDS": "0",
    "AIGATEWAY_GATEWAY_STORE_CHECK_SECONDS": "1",
    **LOOPBACK,
}
_PORT: Final = 8000
_COMMAND_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """One call: when it was sent and answered (`time.monotonic`), its status (0: no answer), and the words of the model."""

    sent: float
    answered: float
    status: int
    text: str


class Front:
    """Servers of the callers' acts, all ended with `stack`."""

    def __init__(self, plane: ControlPlane, namespace: str, stack: ExitStack) -> None:
        """Start the providers' stub and Redis; pods come with `start_pods`."""
        self._plane = plane
        self._namespace = namespace
        self._stack = stack
        self.upstream = stack.enter_context(StubUpstream())
        self.redis = stack.enter_context(RedisServer.start())
        self.pods: list[StandInPod] = []

    def manifest(self) -> str:
        """Return what is to be applied."""
        text = _MANIFEST.read_text().replace("{upstream}", self.upstream.base_url)
        return text.replace("{redis_port}", str(self.redis.port))

    def start_pods(self, patch: str) -> None:
        """Start two pods of a Deployment that `aigateway mount` has patched. ServerError when one does not become ready."""
        template = yaml.safe_load(patch)["spec"]["template"]
        template["spec"]["automountServiceAccountToken"] = False
        container = template["spec"]["containers"][0]
        container["image"] = "aigateway"
        container["readinessProbe"] = {"httpGet": {"path": "/api/v1/health/ready", "port": _PORT}}
        kubelet = self._stack.enter_context(KubeletVolumes(self._plane, self._namespace))
        command = [PYTHON, "-m", "aigateway_operator", "gateway"]
        for number in range(2):
            # Both at once: starting Python takes longer than anything that is shown.
            name = f"{GATEWAY}-{number}"
            pod = StandInPod.start(kubelet, name, template, command, environment=_SETTINGS, ready_within_seconds=None)
            self._stack.callback(pod.delete)
            self.pods.append(pod)
        for pod in self.pods:
            pod.become_ready()

    def call(self, pod: StandInPod, key: str = CALLER_KEY) -> Answer:
        """Ask one pod something, through the official client."""
        with _client(pod, key) as client:
            return _ask(client)

    @contextmanager
    def calling(self) -> Iterator[Callers]:
        """Call both pods without a pause as long as the context lasts."""
        callers = Callers(self.pods)
        try:
            yield callers
        finally:
            callers.stop()

    def health(self, pod: StandInPod) -> dict[str, Any]:
        """Return what a pod says of its health."""
        with urllib.request.urlopen(f"http://{pod.ip}:{_PORT}/api/v1/health", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@dataclass(slots=True)
class Callers:
    """A caller of each pod that asks again as soon as it has its answer. `answers`: by pod, in order."""

    pods: list[StandInPod]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for pod in self.pods:
            self.answers[pod.name] = []
            thread = threading.Thread(target=self._call, args=(pod,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def first(self, text: str, *, since: float, within_seconds: float) -> dict[str, Answer]:
        """Return, by pod, the first answer with that text that was sent after `since`. ServerError when it is late."""
        deadline = time.monotonic() + within_seconds
        while True:
            found = {
                name: next((one for one in list(answers) if one.sent >= since and one.text == text), None)
                for name, answers in self.answers.items()
            }
            there = {name: one for name, one in found.items() if one is not None}
            if len(there) == len(found):
                return there
            if time.monotonic() > deadline:
                last = {name: answers[-1:] for name, answers in self.answers.items()}
                raise ServerError(f"'{text}' was not answered by every pod within {within_seconds:g} s, but: {last}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End all callers; returns when their last answers are there."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)

    def _call(self, pod: StandInPod) -> None:
        with _client(pod, CALLER_KEY) as client:
            while not self._stopping.is_set():
                self.answers[pod.name].append(_ask(client))
                self._stopping.wait(0.003)


def _client(pod: StandInPod, key: str) -> OpenAI:
    return OpenAI(base_url=f"http://{pod.ip}:{_PORT}/v1", api_key=key, max_retries=0, timeout=10)


def _ask(client: OpenAI) -> Answer:
    sent = time.monotonic()
    try:
        answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Who are you?"}])
    except APIStatusError as error:
        return Answer(sent, time.monotonic(), error.status_code, str(error.code))
    except OpenAIError as error:
        return Answer(sent, time.monotonic(), 0, type(error).__name__)
    return Answer(sent, time.monotonic(), 200, answer.choices[0].message.content or "")


def aigateway(plane: ControlPlane, *arguments: str) -> str:
    """Run the command line on the control plane and return what it printed. ServerError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "aigateway_operator", *arguments],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig), "PYTHONPATH": str(_ROOT / "operator")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServerError(f"aigateway {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
