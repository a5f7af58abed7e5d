"""What Redis says of credentials and of itself, against a real one; errors it cannot be brought to are spoken by a stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.stores import RedisServer
from tests.conftest import require_binaries
from tests.datastores.checks import SECRET, check, said, store
from tests.datastores.stand_ins import listening, says
from tests.eventually import eventually_async


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A Redis with a password."""
    with RedisServer.start(password=SECRET.decode(), binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


async def test_the_password_decides(guarded: RedisServer) -> None:
    """Right, wrong, none: up, denied, denied, each with its own remedy."""
    assert said(await check(store("redis", guarded.port, password=SECRET))) == ("Up", "Answering")
    wrong = await check(store("redis", guarded.port, password=b"another"))
    assert said(wrong) == ("Denied", "AuthenticationFailed")
    assert "spec.storage.redis.passwordSecretRef" in wrong.message
    assert said(await check(store("redis", guarded.port))) == ("Denied", "AuthenticationRequired")


async def test_a_password_for_a_redis_without_one_is_denied(redis_server: RedisServer) -> None:
    """Gateways would fail with it, too."""
    outcome = await check(store("redis", redis_server.port, password=SECRET))
    assert said(outcome) == ("Denied", "AuthenticationFailed")
    assert "has no password" in outcome.message


async def test_a_password_with_line_breaks_is_sent_as_it_is(guarded: RedisServer) -> None:
    """It cannot end the command and begin another."""
    outcome = await check(store("redis", guarded.port, password=SECRET + b"\r\nPING\r\n"))
    assert said(outcome) == ("Denied", "AuthenticationFailed")


async def test_a_stopped_process_and_a_killed_one(guarded: RedisServer) -> None:
    """SIGSTOP: connections are accepted and nothing answers. SIGKILL: they are refused. Back: up."""
    guarded.pause()
    try:
        assert said(await check(store("redis", guarded.port, password=SECRET), timeout_seconds=0.4)) == ("Down", "Timeout")
    finally:
        guarded.resume()
    guarded.kill()
    try:
        assert said(await check(store("redis", guarded.port, password=SECRET))) == ("Down", "Refused")
    finally:
        guarded.restart()

    async def it_is_back() -> None:
        assert said(await check(store("redis", guarded.port, password=SECRET))) == ("Up", "Answering")

    await eventually_async(it_is_back, within_seconds=20)  # it says LOADING meanwhile


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", ("NotReady", "Loading")),
        (b"-MASTERDOWN Link with MASTER is down\r\n", ("NotReady", "NoPrimary")),
        (b"-BUSY Redis is busy running a script.\r\n", ("NotReady", "Overloaded")),
        (b"-ERR max number of clients reached\r\n", ("NotReady", "Overloaded")),
        (b"-NOPERM User default has no permissions to run the 'ping' command\r\n", ("Denied", "NotAuthorized")),
        (b"-DENIED Redis is running in protected mode because\r\n", ("Denied", "AuthenticationRequired")),
        (b"-ERR invalid password\r\n", ("Denied", "AuthenticationFailed")),
        (b"-ERR something new\r\n", ("NotReady", "ServerError")),
        (b"-\r\n", ("NotReady", "ServerError")),
        (b"+HELLO\r\n", ("Down", "ProtocolError")),
    ],
)
async def test_each_error_has_its_state(answer: bytes, expected: tuple[str, str]) -> None:
    """Words of Redis 7 and 8, spoken by a stand-in."""
    async with listening(says(answer)) as port:
        assert said(await check(store("redis", port))) == expected
