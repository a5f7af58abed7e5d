"""What Qdrant's answers mean, against a stand-in that follows its REST reference: there is no real Qdrant here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.datastores.checks import SECRET, check, said, store
from tests.datastores.stand_ins import QdrantStandIn


async def test_the_key_decides() -> None:
    """Health paths ask for no key: only the collection tells whether ours is good."""
    server = QdrantStandIn(api_key=SECRET.decode())
    async with server.running() as port:
        assert said(await check(store("qdrant", port, password=SECRET))) == ("Up", "Answering")
        assert server.asked[-1] == ("/collections/knowledge_base", SECRET.decode())
        wrong = await check(store("qdrant", port, password=b"another"))
        assert said(wrong) == ("Denied", "AuthenticationFailed")
        assert "spec.storage.qdrant.apiKeySecretRef" in wrong.message
        assert said(await check(store("qdrant", port))) == ("Denied", "AuthenticationRequired")
        broken = await check(store("qdrant", port, password=SECRET + b"\n"))
        assert said(broken) == ("Denied", "AuthenticationFailed")
        assert "line break" in broken.message


async def test_a_collection_that_is_missing_is_not_ready() -> None:
    """The store works, the gateway would not."""
    async with QdrantStandIn(collections=set()).running() as port:
        outcome = await check(store("qdrant", port))
    assert said(outcome) == ("NotReady", "CollectionMissing")
    assert "'knowledge_base'" in outcome.message


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (QdrantStandIn(ready=False), ("NotReady", "Loading")),
        (QdrantStandIn(status=500), ("NotReady", "ServerError")),
        (QdrantStandIn(status=429), ("NotReady", "Overloaded")),
        (QdrantStandIn(status=403), ("Denied", "AuthenticationRequired")),
        (QdrantStandIn(status=302), ("Down", "ProtocolError")),
        (QdrantStandIn(status=404), ("Down", "ProtocolError")),
        (QdrantStandIn(status=200), ("Down", "ProtocolError")),
    ],
)
async def test_each_answer_has_its_state(server: QdrantStandIn, expected: tuple[str, str]) -> None:
    """A web server that answers 200 or 404 to everything is no Qdrant, and no redirect is followed."""
    async with server.running() as port:
        assert said(await check(store("qdrant", port))) == expected


async def test_odd_names_of_collections_stay_one_path_segment() -> None:
    """A name cannot lead to another path."""
    name = "a?b#c%2e"
    server = QdrantStandIn(collections={name})
    async with server.running() as port:
        outcome = await check(replace(store("qdrant", port), collection=name))
    assert said(outcome) == ("Up", "Answering")
