"""The message that brings a document: what goes in comes out, and nothing is believed of one that was cut or altered."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from aigateway_config.mirror import MAX_BODY_BYTES, RedisEndpoint, body_channel, cut_body, join_body, sign
from aigateway_config.mirror_judging import Judge, Place

SIGNING: Final = b"a" * 64
PLACE: Final = Place(RedisEndpoint("redis", 6379), SIGNING, "ai/main", "uid", frozenset({"config.yml"}))
DOCUMENTS: Final = st.binary(max_size=300) | st.text("{}\n:a", max_size=300).map(str.encode)


def manifest_for(document: bytes, revision: int = 2) -> bytes:
    """Return the manifest of a document as it is rendered: a line."""
    fields = {"schema": "1.0", "gateway": "ai/main", "lineage": "uid", "shards": 1, "shard": None, "revision": revision}
    return json.dumps({**fields, "sha256": sha256(document).hexdigest(), "sources": {}}).encode() + b"\n"


def message_for(document: bytes) -> bytes:
    """Return the message that brings a document."""
    manifest = manifest_for(document)
    message = join_body(document, manifest, sign(manifest, SIGNING))
    assert message is not None
    return message


def believed(message: bytes) -> bytes | None:
    """Return the document that a pod would take from a message, None if it takes none."""
    judge = Judge(revisions={"config.yml": 1})
    brought = judge.body(PLACE, message)
    taken = brought[1].document if brought is not None and judge.is_whole(brought[0], brought[1].document) else None
    assert (taken is None) == (sum(judge.ignored.values()) == 1), "what is refused is counted, once"
    return taken


@given(DOCUMENTS)
def test_what_goes_in_comes_out(document: bytes) -> None:
    """Byte for byte, line feeds and all."""
    body = cut_body(message := message_for(document))
    assert body is not None
    manifest = manifest_for(document)
    assert (body.signature, body.manifest, body.document) == (sign(manifest, SIGNING).encode(), manifest, document)
    assert message == body.signature + b"\n" + manifest + document, "so that a program in another language can read it"
    assert believed(message) == document


@given(DOCUMENTS, st.data())
def test_no_altered_message_is_believed(document: bytes, data: st.DataObject) -> None:
    """One byte of it is another, wherever it is."""
    message = bytearray(message_for(document))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    assert believed(bytes(message)) is None


@given(DOCUMENTS, st.data())
def test_no_cut_or_longer_message_is_believed(document: bytes, data: st.DataObject) -> None:
    """From the front, from the back, or with something added."""
    message = message_for(document)
    begin = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(begin, len(message)))
    assert (begin == 0 and end == len(message)) or believed(message[begin:end]) is None
    assert believed(message + data.draw(st.binary(min_size=1, max_size=3))) is None


def test_what_has_not_the_shape_is_not_sent() -> None:
    """Too large, or a manifest that is not a line: such documents are fetched."""
    manifest = manifest_for(b"")
    space = MAX_BODY_BYTES - len(manifest) - 65
    assert join_body(b"x" * space, manifest, "s" * 64) is not None
    assert join_body(b"x" * (space + 1), manifest, "s" * 64) is None
    assert join_body(b"", manifest[:-1], "s" * 64) is None
    assert join_body(b"", b"{\n}\n", "s" * 64) is None


def test_every_gateway_has_a_channel_of_its_own() -> None:
    """One pattern of an access list matches all of them; the setting of the shared channel moves them too."""
    assert body_channel("config:invalidate", "ai/main") == "config:invalidate:ai:main"
    assert body_channel("other", "ai/main") == "other:ai:main"


def test_only_the_newest_can_be_believed() -> None:
    """What is in force is no news, what is older is a replay."""
    manifest = manifest_for(b"text")
    message = join_body(b"text", manifest, sign(manifest, SIGNING)) or b""
    for in_force, ignored in ((1, {}), (2, {}), (3, {"Stale": 1})):
        judge = Judge(revisions={"config.yml": in_force})
        assert (judge.body(PLACE, message) is not None) == (in_force == 1)
        assert dict(judge.ignored) == ignored
