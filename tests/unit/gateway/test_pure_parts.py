"""The gateway's parts that need no server: trace ids, keys, gates, errors, settings, what may be passed on of a stream."""

from __future__ import annotations

import asyncio
import json
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from aigateway_config.tls import client_context
from aigateway_gateway.access import Access
from aigateway_gateway.keys import Keyring, bearer
from aigateway_gateway.limits import Gate, Gates
from aigateway_gateway.openai_errors import ApiError, Kind, backend_error
from aigateway_gateway.relay import _whole_events
from aigateway_gateway.serve import sources
from aigateway_gateway.serving import Serving
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.trace import trace_id
from aigateway_gateway.upstream import ForbiddenAddress, Upstream
from tests.gateway_runs import make_backend, make_configuration, make_model

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-trace-id", b"abc-DEF-1")], "abc-DEF-1"),
        ([(b"x-trace-id", b"a" * 64)], "a" * 64),
        ([(b"traceparent", PARENT)], "4bf92f3577b34da6a3ce929d0e0e4736"),
        ([(b"traceparent", PARENT), (b"x-trace-id", b"mine")], "mine"),
        ([(b"traceparent", PARENT), (b"x-trace-id", b"not good")], "4bf92f3577b34da6a3ce929d0e0e4736"),
        ([(b"x-trace-id", b"a" * 65)], None),
        ([(b"x-trace-id", b"")], None),
        ([(b"x-trace-id", b"a\r\nSet-Cookie: x")], None),
        ([(b"traceparent", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01")], None),
        ([], None),
    ],
)
def test_trace_ids_are_taken_when_well_formed(headers: list[tuple[bytes, bytes]], expected: str | None) -> None:
    """Anything else gets a new one of 32 hex digits: an id goes into logs and headers."""
    found = trace_id(headers)
    assert found == expected if expected else re.fullmatch(r"[0-9a-f]{32}", found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"Bearer k", b"k"), (b"bearer   k ", b"k"), (b"Basic k", None), (b"Bearer", None), (b"Bearer ", None), (b"k", None)],
)
def test_only_a_bearer_token_is_a_key(value: bytes, expected: bytes | None) -> None:
    """The scheme is read without regard to case, as HTTP says."""
    assert bearer([(b"x", b"y"), (b"authorization", value)]) == expected


def test_a_key_opens_exactly_its_models() -> None:
    """Shared keys open several; a blank or missing one opens nothing, not even for a blank caller."""
    models = [make_model("a", key="k1"), make_model("b", key="k2"), make_model("c", key="k1"), make_model("d", key=None)]
    ring = Keyring({model.name: model for model in [*models, make_model("e", key=" \n")]})
    assert ring.opens(b"k1") == ["a", "c"]
    assert ring.opens(b"k2") == ["b"]
    assert [ring.opens(key) for key in (b"", b"k", b"k11", b" ")] == [[], [], [], []]
    assert ring.is_for("c", b"k1")
    assert not ring.is_for("b", b"k1")
    assert not ring.is_for("d", b"")


def test_an_unchanged_model_is_not_digested_again() -> None:
    """At 10,000 models a flip of one must not cost 10,000 digests."""
    same, changed = make_model("a"), make_model("b", key="old")
    first = Keyring({"a": same, "b": changed})
    second = Keyring({"a": same, "b": make_model("b", key="new")}, first)
    assert second.known["a"] is first.known["a"]
    assert (second.opens(b"old"), second.opens(b"new")) == ([], ["b"])


def test_targets_of_unchanged_models_are_taken_over() -> None:
    """And those of changed ones are not."""
    same, old, new = make_model("a"), make_model("b"), make_model("b")
    gates = Gates(1, 0, 1)
    first = Serving(make_configuration(same, old), gates)
    known = {name: first.target(name, b"key-chat") for name in "ab"}
    second = Serving(make_configuration(same, new), gates, first)
    assert second.target("a", b"key-chat") is known["a"]
    assert second.target("b", b"key-chat").model is new


@pytest.mark.parametrize("key", ["", " ", "sk-a\nX-Evil: 1", "sk-\x00", "schlüssel"])
def test_a_key_that_fits_no_header_is_missing(key: str) -> None:
    """It would split the request, or be sent as something else: 503 instead."""
    serving = Serving(make_configuration(make_model("a", make_backend(api_key=SecretStr(key)))), Gates(1, 0, 1))
    with pytest.raises(ApiError) as caught:
        serving.target("a", b"key-chat")
    assert caught.value.kind is Kind.BACKEND_KEY_MISSING


def test_a_line_end_is_not_part_of_a_key() -> None:
    """Secrets made by `echo` end with one."""
    model = make_model("a", make_backend(api_key=SecretStr("sk-a\n")), key="k\n")
    target = Serving(make_configuration(model), Gates(1, 0, 1)).target("a", b"k")
    assert target.headers["Authorization"] == "Bearer sk-a"
    assert str(target.chat) == "http://10.0.0.1/v1/chat/completions"


def test_a_target_says_all_that_a_request_to_its_backend_needs() -> None:
    """A slash too many would be another path, and a compressed answer one that cannot be passed on piece by piece."""
    backend = make_backend(api_key=SecretStr("sk-a"), base_url="http://10.0.0.1/v1/")
    target = Serving(make_configuration(make_model("a", backend)), Gates(1, 0, 1)).target("a", b"key-chat")
    assert str(target.chat) == "http://10.0.0.1/v1/chat/completions"
    assert str(target.embeddings) == "http://10.0.0.1/v1/embeddings"
    assert target.headers["Accept-Encoding"] == "identity"
    assert target.secrets == ("sk-a",), "an upstream's error may quote the key, and must not get to callers"


def test_a_backend_whose_key_is_missing_is_to_be_tried_again_soon() -> None:
    """Secrets are made anew by controllers; clients that are told nothing give up, or hammer."""
    serving = Serving(make_configuration(make_model("a", make_backend(api_key=SecretStr("")))), Gates(1, 0, 1))
    with pytest.raises(ApiError) as caught:
        serving.target("a", b"key-chat")
    assert caught.value.retry_after_seconds == 5


def test_a_flip_leaves_the_queue_of_the_old_backend_behind() -> None:
    """Requests that wait for a backend that hangs must not hold up those for the one that took its place."""
    gates = Gates(1, 0, 1)
    old = Serving(make_configuration(make_model("a", make_backend(name="small"))), gates)
    new = Serving(make_configuration(make_model("a", make_backend(name="big"))), gates, old)
    assert new.target("a", b"key-chat").gate is not old.target("a", b"key-chat").gate


async def test_a_gate_admits_in_order_and_refuses_beyond_its_queue() -> None:
    """One inside, two waiting, the fourth refused; the waiting ones enter as they came."""
    gate, order, release = Gate(1, 2, 5), list[int](), asyncio.Event()

    async def enter(number: int) -> None:
        async with gate:
            order.append(number)
            await release.wait()

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as caught:
        await enter(3)
    assert caught.value.kind is Kind.QUEUE_FULL
    release.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    assert gate.idle


async def test_a_gate_forgets_those_who_wait_too_long_or_leave() -> None:
    """Neither takes a place afterwards, and nothing is left inside."""
    gate, release = Gate(1, 5, 0.02), asyncio.Event()

    async def enter() -> None:
        async with gate:
            await release.wait()

    holder = asyncio.create_task(enter())
    await asyncio.sleep(0)
    left = asyncio.create_task(enter())
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(ApiError):
        await enter()
    release.set()
    await asyncio.gather(holder, left, return_exceptions=True)
    assert gate.idle
    async with gate:
        assert gate.active == 1


async def test_a_place_given_to_one_who_leaves_in_the_same_moment_goes_on() -> None:
    """The waiter is cancelled after its place was given and before it woke: the next one gets it."""
    gate = Gate(1, 5, 5)
    entered = list[str]()

    async def enter(name: str) -> None:
        async with gate:
            entered.append(name)

    async with gate:
        first, second = asyncio.create_task(enter("first")), asyncio.create_task(enter("second"))
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert entered == ["second"]
    assert gate.idle


def test_idle_gates_of_models_that_are_gone_are_forgotten() -> None:
    """Names come and go for months."""
    gates = Gates(1, 0, 1)
    kept, gone = gates.get("a", "x"), gates.get("b", "x")
    gates.prune({"a"})
    assert gates.get("a", "x") is kept
    assert gates.get("b", "x") is not gone


@given(st.lists(st.binary(max_size=6).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b"")), max_size=6), st.data())
def test_whole_events_pass_whatever_the_pieces_are(texts: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut, nothing is lost, doubled or reordered, and what passes ends with the end of an event."""
    end = data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n"]))
    stream = b"".join(b"data: " + text + end for text in texts) + b"data: half"
    passed, held = b"", b""
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(1, 9))
        held += stream[position : position + size]
        position += size
        cut = _whole_events(held)
        passed, held = passed + held[:cut], held[cut:]
        assert passed == b"" or passed.endswith(end)
    assert passed + held == stream
    assert held == b"data: half"


def test_an_event_that_never_ends_is_passed_on() -> None:
    """Memory is bounded."""
    assert _whole_events(b"x" * 2_000_000) == 2_000_000


def test_token_counts_are_not_read_from_texts() -> None:
    """A completion that talks about token counts does not change the bill."""
    told = json.dumps({"content": '{"prompt_tokens": 999}', "usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode()
    access = Access("chat", "t")
    access.count_tokens(told)
    assert (access.prompt_tokens, access.completion_tokens) == (7, 3)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=8))
def test_a_backends_error_never_repeats_the_key(key: str) -> None:
    """Whatever characters it has, and wherever it stands."""
    body = json.dumps({"error": {"message": f"Incorrect API key: {key}.", "code": key, "inner": {"x": [key]}}}).encode()
    error = json.loads(backend_error(400, body, [key]))["error"]
    assert key not in str(error["message"]) or key in "Incorrect API key: ***."
    assert error["code"] == "***"


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [("169.254.169.254", True), ("127.0.0.1", True), ("10.1.2.3", False), ("93.184.216.34", False)],
)
async def test_sockets_are_opened_only_for_addresses_that_are_allowed(address: str, forbidden: bool) -> None:
    """The check sees the address that is really connected to, whatever name it came from."""
    import socket

    upstream = Upstream((), 1, client_context())
    try:
        where = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
        if forbidden:
            with pytest.raises(ForbiddenAddress, match="the address is"):
                upstream._open_socket(where)
        else:
            upstream._open_socket(where).close()
    finally:
        await upstream.close()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists with commas; the operator's own variable for addresses; the admin key is not shown."""
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "127.0.0.0/8, ::1")
    monkeypatch.setenv("AIGATEWAY_GATEWAY_CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("AIGATEWAY_GATEWAY_ADMIN_KEY", "very-secret")
    monkeypatch.setenv("AIGATEWAY_GATEWAY_PORT", "")
    settings = GatewaySettings()
    assert settings.allow_addresses == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.port is None
    assert "very-secret" not in repr(settings)


def test_variables_that_mount_puts_into_a_deployment_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`aigateway mount` names folders for any program; ours has names of its own, which win."""
    monkeypatch.setenv("AIGATEWAY_CONFIG_DIR", "/a")
    monkeypatch.setenv("AIGATEWAY_WORKERS_DIR", "/w")
    assert (GatewaySettings().config_dir, GatewaySettings().workers_dir) == (Path("/a"), Path("/w"))
    monkeypatch.setenv("AIGATEWAY_GATEWAY_CONFIG_DIR", "/b")
    assert GatewaySettings().config_dir == Path("/b")
    assert GatewaySettings(config_dir=Path("/c")).config_dir == Path("/c")


def test_sources_are_the_volume_the_mirror_and_the_api_server_where_it_is_named(tmp_path: Path) -> None:
    """The volume is the one that decides, so it is always there, but for a plain file in its place."""
    assert [source.name for source in sources(GatewaySettings())] == ["volume", "redis"]
    assert [source.name for source in sources(GatewaySettings(api_watch="main"))] == ["volume", "redis", "api"]
    assert len(sources(GatewaySettings(config_file=tmp_path / "config.yml", api_watch="main"))) == 1


def test_any_origin_with_credentials_is_refused() -> None:
    """Any page could act for its visitor."""
    with pytest.raises(ValidationError, match="needs origins by name"):
        GatewaySettings(cors_origins="*", cors_credentials=True)  # type: ignore[arg-type]  # as the environment gives it
