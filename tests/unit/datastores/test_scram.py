"""SCRAM's client half says word for word what the standards' examples say, and believes no server that breaks them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest

from aigateway_operator.datastores.scram import SHA_1, SHA_256, Conversation, KeyCache, ScramError, saslprep


@dataclass(frozen=True)
class Example:
    """One printed conversation of user `user` with password `pencil`."""

    mechanism: str
    nonce: str
    server_first: str
    proof: str
    server_final: str

    def begin(self, password: bytes = b"pencil") -> Conversation:
        return Conversation(self.mechanism, "user", password, self.nonce, KeyCache())


RFC_7677 = Example(
    SHA_256,
    "rOprNGfwEbeRWgbNEkqO",
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)
MONGODB_SHA_1 = Example(
    SHA_1,
    "fyko+d2lbbFgONRv9qkxdawL",
    "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l/9SraGMHEE,s=rQ9ZY3MntBeuP3E1TDVC4w==,i=10000",
    "MC2T8BvbmWRckDw8oWl5IVghwCY=",
    "v=UMWeI25JD1yNYZRMpZ4VHvhZ9e0=",
)


@pytest.mark.parametrize("example", [RFC_7677, MONGODB_SHA_1], ids=["rfc-7677", "mongodb-sha-1"])
def test_the_printed_examples_come_out(example: Example) -> None:
    """RFC 7677 section 3, and the SHA-1 example of MongoDB's authentication specification."""
    conversation = example.begin()
    assert conversation.first() == f"n,,n=user,r={example.nonce}".encode()
    assert conversation.final(example.server_first.encode()).decode().endswith(f",p={example.proof}")
    conversation.verify(example.server_final.encode())


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    """Anything may listen on that port: it must prove itself, too."""
    conversation = RFC_7677.begin(b"another")
    conversation.final(RFC_7677.server_first.encode())
    with pytest.raises(ScramError, match="does not know the password"):
        conversation.verify(RFC_7677.server_final.encode())


@pytest.mark.parametrize(
    ("server_first", "text"),
    [
        (RFC_7677.server_first.replace("r=rOpr", "r=xOpr"), "nonce"),
        (RFC_7677.server_first.replace("i=4096", "i=1"), "1 rounds"),
        (RFC_7677.server_first.replace("i=4096", "i=99999999999"), "99999999999 rounds"),
        (RFC_7677.server_first.replace("i=4096", "i=many"), "not understood"),
        ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
        ("", "not understood"),
        ("\udcff", "no text"),
    ],
)
def test_a_broken_first_message_is_refused(server_first: str, text: str) -> None:
    """Too few rounds would give the password away, too many would keep a core busy."""
    with pytest.raises(ScramError, match=text):
        RFC_7677.begin().final(server_first.encode("utf-8", "surrogateescape"))


def test_the_slow_key_is_derived_once_for_a_password_and_salt() -> None:
    """15,000 rounds in each check would cost more than all else in it; another salt means another password."""
    cache = KeyCache()
    for salt in ("W22ZaJ0SNY7soEsUEjb6gQ==", "W22ZaJ0SNY7soEsUEjb6gQ==", base64.b64encode(b"other").decode()):
        known = cache.key
        conversation = Conversation(SHA_256, "user", b"pencil", "abc", cache)
        conversation.final(f"r=abcdef,s={salt},i=4096".encode())
        assert (cache.key is known) == (known != b"" and salt == "W22ZaJ0SNY7soEsUEjb6gQ==")


def test_names_are_escaped_and_secrets_never_shown() -> None:
    """A comma in a user name would add a field."""
    conversation = Conversation(SHA_256, "a=b,c", b"sesame", "abc", KeyCache(("x", b"", 1), b"sesame-key"))
    assert conversation.first() == b"n,,n=a=3Db=2Cc,r=abc"
    assert "sesame" not in repr(conversation)


def test_passwords_are_prepared_as_rfc_4013_says() -> None:
    """The examples of RFC 4013 section 3 that concern passwords."""
    assert saslprep("I\u00adX") == "IX"
    assert saslprep("\u00aa") == "a"
    assert saslprep("\u2168") == "IX"
    assert saslprep("a\u00a0b") == "a b"
    with pytest.raises(ScramError, match="characters"):
        saslprep("\u0007")
