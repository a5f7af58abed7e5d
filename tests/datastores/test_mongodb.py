"""What MongoDB says of users and of itself. The real wire server knows no users: those tests use a stand-in that PyMongo, too,
logs in to.
"""

from __future__ import annotations

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from hack.stores import MongoServer
from tests.datastores.checks import SECRET, check, said, store
from tests.datastores.stand_ins import ScramStandIn

USERS = {"gateway": SECRET.decode()}
mechanisms = pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])


@mechanisms
async def test_the_driver_logs_in_to_the_stand_in_as_we_do(mechanism: str) -> None:
    """So the stand-in speaks as a MongoDB does, and our half agrees with the driver's."""
    server = ScramStandIn(USERS, mechanism=mechanism)
    async with server.running() as port:
        for password, fine in ((SECRET.decode(), True), ("another", False)):
            async with AsyncMongoClient[dict[str, object]](
                "127.0.0.1", port, username="gateway", password=password, directConnection=True, serverSelectionTimeoutMS=2000
            ) as client:
                if fine:
                    assert (await client.admin.command("ping"))["ok"] == 1.0
                else:
                    with pytest.raises(OperationFailure):
                        await client.admin.command("ping")


@mechanisms
async def test_user_and_password_decide(mechanism: str) -> None:
    """Right: up. A wrong password, an unknown user, none at all: denied, with the fields to correct."""
    server = ScramStandIn(USERS, mechanism=mechanism)
    async with server.running() as port:
        assert said(await check(store("mongodb", port, username="gateway", password=SECRET))) == ("Up", "Answering")
        assert server.logins == 1
        for username, password in (("gateway", b"another"), ("nobody", SECRET)):
            outcome = await check(store("mongodb", port, username=username, password=password))
            assert said(outcome) == ("Denied", "AuthenticationFailed")
            assert "spec.storage.mongodb.passwordSecretRef" in outcome.message
        assert said(await check(store("mongodb", port))) == ("Denied", "AuthenticationRequired")


async def test_a_server_that_does_not_know_the_password_is_not_up() -> None:
    """It says yes to everyone and cannot prove that it knows the password."""
    async with ScramStandIn(USERS, lies=True).running() as port:
        outcome = await check(store("mongodb", port, username="gateway", password=SECRET))
    assert said(outcome) == ("Denied", "AuthenticationFailed")
    assert "does not know the password" in outcome.message


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (ScramStandIn(primary=False, secondary=True), ("NotReady", "NoPrimary")),
        (ScramStandIn(primary=False), ("NotReady", "NoPrimary")),
        (ScramStandIn(code=11600), ("NotReady", "NoPrimary")),
        (ScramStandIn(code=13), ("Denied", "AuthenticationRequired")),
        (ScramStandIn(code=8000), ("Denied", "AuthenticationFailed")),
        (ScramStandIn(code=4711), ("NotReady", "ServerError")),
    ],
)
async def test_each_answer_has_its_state(server: ScramStandIn, expected: tuple[str, str]) -> None:
    """A secondary takes no writes, one without an election neither, one that shuts down will not for long."""
    async with server.running() as port:
        assert said(await check(store("mongodb", port))) == expected


async def test_a_user_who_may_nothing_is_not_authorized() -> None:
    """He is known: another remedy than a wrong password."""
    async with ScramStandIn(USERS, code=13).running() as port:
        outcome = await check(store("mongodb", port, username="gateway", password=SECRET))
    assert said(outcome) == ("Denied", "NotAuthorized")


async def test_the_real_server_refuses_users_that_it_does_not_know(mongo_server: MongoServer) -> None:
    """FerretDB on SQLite has none."""
    outcome = await check(store("mongodb", mongo_server.port, username="gateway", password=SECRET))
    assert said(outcome) == ("Denied", "AuthenticationFailed")


async def test_a_stopped_process_and_a_killed_one(mongo_server: MongoServer) -> None:
    """SIGSTOP: connections are accepted and nothing answers. SIGKILL: they are refused. Back: up."""
    mongo_server.pause()
    try:
        assert said(await check(store("mongodb", mongo_server.port), timeout_seconds=0.4)) == ("Down", "Timeout")
    finally:
        mongo_server.resume()
    mongo_server.kill()
    try:
        assert said(await check(store("mongodb", mongo_server.port))) == ("Down", "Refused")
    finally:
        mongo_server.restart()
    assert said(await check(store("mongodb", mongo_server.port))) == ("Up", "Answering")
