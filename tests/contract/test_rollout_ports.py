"""One suite for the Protocols of `rollout/ports.py`, passed by the fake of the unit tests and by the real adapters.

The real ones work on a real API server and on real listeners at loopback addresses. What only HTTP can do wrong is below.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from aigateway_config.documents import STATUS_PATH
from aigateway_operator.api.meta import CONFIG_REVISION_ANNOTATION
from aigateway_operator.errors import NotFound, Rejected
from aigateway_operator.kube import watching
from aigateway_operator.kube.client import KubeClient
from aigateway_operator.kube.pods import PodWatch
from aigateway_operator.kube.resources import PODS
from aigateway_operator.plan.proof import PodState, Target
from aigateway_operator.rollout.answers import Answered, Misanswered, Outcome, Silent
from aigateway_operator.rollout.asker import MAX_BODY_BYTES, HttpAsker
from aigateway_operator.rollout.ports import Ask, Pods, PodSet, Poke
from aigateway_operator.rules import RuleContext
from hack.controlplane import ControlPlane
from tests.eventually import eventually_async
from tests.fake_pods import FakePods, answer_of, pod_state

KINDS = pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=pytest.mark.apiserver)])
LOOPBACK = RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),))
TARGET = Target(1, 1, "uid-1", {"config.yml": (1, "a" * 64)}, {"_manifest.json": 1})


@dataclass
class Fleet:
    """Pods of one namespace, the adapters, and how a test changes a pod."""

    namespace: str
    pods: Pods
    poke: Poke
    put: Callable[..., Awaitable[None]]
    remove: Callable[[str], Awaitable[None]]
    told: list[int] = field(default_factory=list)

    def follow(self, selector: str = "app=gateway") -> PodSet:
        return self.pods.follow(self.namespace, selector, lambda: self.told.append(1))


Use = Callable[[], Any]


@pytest.fixture
def use(kind: str, request: pytest.FixtureRequest) -> Use:
    """A context manager that opens a fleet; the control plane is started only for the real one."""
    if kind == "fake":
        return _fake
    return partial(_real, request.getfixturevalue("plane"), request.getfixturevalue("namespace"))


@asynccontextmanager
async def _fake() -> AsyncIterator[Fleet]:
    fleet = FakePods()

    async def put(name: str, **parts: Any) -> None:
        fleet.put(name, **parts)

    async def remove(name: str) -> None:
        fleet.remove(name)

    yield Fleet("ai", fleet, fleet.poke, put, remove)


@asynccontextmanager
async def _real(plane: Any, namespace: str) -> AsyncIterator[Fleet]:
    async with KubeClient.connect(plane.kubeconfig) as client:
        watch = PodWatch(client)

        async def put(name: str, **parts: Any) -> None:
            spec = {"nodeName": "none", "automountServiceAccountToken": False, "containers": [{"name": "a", "image": "a"}]}
            labels = {"app": parts.get("app", "gateway")}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
            try:
                await client.get(PODS, namespace, name)
            except NotFound:
                await client.create(PODS, namespace, body)
            status: dict[str, Any] = {"conditions": [{"type": "Ready", "status": str(parts.get("ready", True))}]}
            status |= {"phase": "Running" if parts.get("running", True) else "Pending", "podIP": "127.0.0.1"}
            await client.patch_status(PODS, namespace, name, {"status": status})

        async def remove(name: str) -> None:
            answer = plane.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")
            assert answer.status == 200, answer.body

        try:
            yield Fleet(namespace, watch, partial(client.patch_status, PODS), put, remove)
        finally:
            await watch.stop()


async def until(check: Callable[[], Any]) -> Any:
    """Wait until a check holds."""

    async def checked() -> Any:
        return check()

    return await eventually_async(checked, within_seconds=5, every_seconds=0.02)


def states(selected: PodSet) -> dict[str, PodState]:
    """Return pods by name."""
    return {pod.name: pod for pod in selected.pods.values()}


@KINDS
async def test_pods_are_followed_from_list_over_change_to_deletion(use: Use, kind: str) -> None:
    """What is there at the start, what comes, what changes, what goes; each is told."""
    async with use() as at:
        await at.put("first")
        selected = at.follow()
        await until(lambda: _equal((selected.listed, set(states(selected))), (True, {"first"})))
        await until(lambda: _equal(bool(at.told), True))
        first = states(selected)["first"]
        assert (first.ready, first.running, first.terminating, first.host_network, first.desired) == (
            (True, True, False, False, True)
        )
        assert first.ip
        assert selected.pods[first.uid] is first
        told = len(at.told)
        await at.put("second", ready=False)
        await until(lambda: _equal(states(selected)["second"].ready, False))
        assert len(at.told) > told
        await at.put("second", ready=True)
        await until(lambda: _equal(states(selected)["second"].desired, True))
        await at.remove("first")
        await until(lambda: _equal(set(states(selected)), {"second"}))
        selected.stop()
        told = len(at.told)
        await at.put("third")
        await asyncio.sleep(0)
        assert len(at.told) == told
        selected.stop()


@KINDS
async def test_poke_reaches_that_very_pod_and_no_other(use: Use, kind: str) -> None:
    """The annotation is seen by the watch; a pod made anew under the name, or none, is refused."""
    async with use() as at:
        await at.put("first")
        selected = at.follow()
        await until(lambda: _equal(set(states(selected)), {"first"}))
        pod = states(selected)["first"]
        assert pod.poked == ""
        await at.poke(at.namespace, "first", _poke(pod.uid, "2.1.0"))
        await until(lambda: _equal(states(selected)["first"].poked, "2.1.0"))
        with pytest.raises(Rejected, match="uid"):
            await at.poke(at.namespace, "first", _poke("00000000-0000-4000-8000-000000000000", "2.1.1"))
        with pytest.raises(NotFound):
            await at.poke(at.namespace, "absent", _poke(pod.uid, "2.1.1"))
        selected.stop()


@pytest.mark.apiserver
async def test_server_selects_by_expressions_and_fields_are_read_as_kubelets_write_them(plane: Any, namespace: str) -> None:
    """Only pods of the selector come over the wire; one that loses the label is gone."""
    async with _real(plane, namespace) as at:
        await at.put("one")
        await at.put("two", app="other")
        await at.put("three", app="third")
        both = at.follow("app in (gateway,other),!canary")
        await until(lambda: _equal(set(states(both)), {"one", "two"}))
        path = f"/api/v1/namespaces/{namespace}/pods/two"
        patch = {"metadata": {"labels": {"canary": "yes"}}}
        plane.request("PATCH", path, patch, content_type="application/merge-patch+json")
        await until(lambda: _equal(set(states(both)), {"one"}))
        plane.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/one?gracePeriodSeconds=30")
        await until(lambda: _equal(states(both)["one"].terminating, True))
        assert not states(both)["one"].desired
        both.stop()


def _poke(uid: str, value: str) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "annotations": {CONFIG_REVISION_ANNOTATION: value}}}


def _equal(found: object, wanted: object) -> None:
    assert found == wanted


# Asking


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def asked(serve: Serve, *, context: RuleContext = LOOPBACK, seconds: float = 0.4) -> AsyncIterator[Callable[[], Any]]:
    """A listener that `serve`s each connection, and a function that asks it."""
    asker = HttpAsker(context, timeout_seconds=seconds)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def ask() -> Outcome:
        ask: Ask = asker
        return await ask(pod_state(ip="127.0.0.1"), port)

    try:
        yield ask
    finally:
        await asker.close()
        server.close()


def replying(*chunks: bytes, pause_seconds: float = 0.0) -> Serve:
    """Return a listener that reads a request and sends these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(pause_seconds)
        except ConnectionError:
            return
        finally:
            writer.close()

    return serve


def response(body: bytes, code: str = "200 OK", **headers: str) -> bytes:
    """Return an HTTP response as bytes."""
    lines = [f"HTTP/1.1 {code}", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GOOD = answer_of(TARGET).model_dump_json(by_alias=True).encode()


@KINDS
async def test_well_behaved_pod_is_understood(kind: str) -> None:
    """The fake's answer and the one over HTTP are the same."""
    if kind == "fake":
        fleet = FakePods()
        fleet.put("gateway-1", TARGET)
        outcome = await _ask_fake(fleet)
    else:
        async with asked(replying(response(GOOD))) as ask:
            outcome = await ask()
    assert outcome == Answered(answer_of(TARGET))


async def _ask_fake(fleet: FakePods) -> Outcome:
    return await fleet.ask(fleet.states["gateway-1"], 8081)


async def test_question_is_small_and_for_that_pod_alone() -> None:
    """One GET of the agreed path, no compression asked for, no cookies kept."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response(GOOD, **{"Set-Cookie": "a=b"}))
        await writer.drain()
        writer.close()

    async with asked(serve) as ask:
        await ask()
        await ask()
    assert len(requests) == 2
    assert all(request.startswith(f"GET {STATUS_PATH} HTTP/1.1\r\n".encode()) for request in requests)
    assert not any(b"ookie" in request or b"gzip" in request for request in requests)


LARGE = b'{"x": "' + b"a" * MAX_BODY_BYTES + b'"}'


@pytest.mark.parametrize(
    ("serve", "kind", "text"),
    [
        (replying(response(b"<html>hello</html>")), Misanswered, "something that is not a status answer"),
        (replying(response(b"", "302 Found", Location="http://169.254.169.254/")), Misanswered, "answers 302"),
        (replying(response(GOOD, "500 Oops")), Misanswered, "answers 500"),
        (replying(response(b"", "204 No Content")), Misanswered, "answers 204"),
        (replying(response(LARGE)), Misanswered, "more than 64 KiB"),
        (replying(b"HTTP/1.1 200 OK\r\n\r\n", *[b"a" * 9000] * 20), Misanswered, "more than 64 KiB"),
        (replying(response(gzip.compress(GOOD), **{"Content-Encoding": "gzip"})), Misanswered, "not a status answer"),
        (replying(b"SSH-2.0-OpenSSH\r\n\r\n"), Misanswered, "does not speak HTTP"),
        (replying(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 2000 + b"x: " + b"y" * 20_000 + b"\r\n\r\n"), Misanswered, "HTTP"),
        (replying(), Silent, "without a whole answer"),
        (replying(response(GOOD)[:-20]), Silent, "without a whole answer"),
        (replying(b"", pause_seconds=3), Silent, "gives no answer on port"),
        (replying(*[bytes([byte]) for byte in response(GOOD)], pause_seconds=0.05), Silent, "gives no answer on port"),
    ],
    ids=range(13),
)
async def test_pod_that_misbehaves_is_told_apart(serve: Serve, kind: type, text: str) -> None:
    """Whatever a pod does takes no longer than the limit, costs no more than 64 KiB, and raises nothing."""
    async with asked(serve) as ask:
        began = asyncio.get_running_loop().time()
        outcome = await ask()
        assert asyncio.get_running_loop().time() - began < 1.0
    assert isinstance(outcome, kind), outcome
    assert text in outcome.text  # type: ignore[attr-defined]  # of both kinds


async def test_port_nobody_listens_on_is_silent() -> None:
    """As when statusPort is wrong."""
    asker = HttpAsker(LOOPBACK)
    server = await asyncio.start_server(replying(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    outcome = await asker(pod_state(ip="127.0.0.1"), port)
    await asker.close()
    assert outcome == Silent(f"accepts no connection on port {port}")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"host_network": True}, "hostNetwork"),
        ({"ip": None}, "no address yet"),
        ({"ip": "127.0.0.1"}, "loopback"),
        ({"ip": "::ffff:127.0.0.1"}, "loopback"),
        ({"ip": "169.254.169.254"}, "metadata"),
        ({"ip": "127.0.0.1/../x"}, "has an address that is none"),
    ],
)
async def test_pods_that_must_not_be_asked_are_not(parts: dict[str, Any], text: str) -> None:
    """No connection is made; the text says why and how to allow it."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        writer.close()

    asker = HttpAsker(RuleContext(""))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    outcome = await asker(pod_state(**parts), server.sockets[0].getsockname()[1])
    await asker.close()
    server.close()
    assert isinstance(outcome, Silent)
    assert text in outcome.text
    assert connections == []


@pytest.mark.apiserver
async def test_missing_right_to_watch_pods_is_told_at_once_and_its_return_is_seen(
    plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that is refused says which right is lacking; once it is there, pods are known and nothing is wrong any more."""
    monkeypatch.setattr(watching, "FORBIDDEN_BACKOFF_SECONDS", 0.2)
    token = plane.token_for_service_account(namespace, "default")
    async with KubeClient.connect(plane.kubeconfig_for("default", token, tmp_path / "kubeconfig")) as client:
        watch, told = PodWatch(client), []
        selected = watch.follow(namespace, "app=gateway", lambda: told.append(1))
        trouble = await until(lambda: _present(selected.trouble))
        assert "give its ServiceAccount the verbs list and watch on pods" in trouble
        assert told
        assert not selected.listed
        rights = ("--namespace", namespace)
        plane.kubectl("create", "role", "pods", "--verb=list,watch", "--resource=pods", *rights, check=True)
        plane.kubectl(
            "create", "rolebinding", "pods", "--role=pods", f"--serviceaccount={namespace}:default", *rights, check=True
        )
        await until(lambda: _equal((selected.trouble, selected.listed), (None, True)))
        await watch.stop()


def _present(text: str | None) -> str:
    assert text is not None
    return text
