"""SCRAM, the client's half, as MongoDB uses it: SHA-256 and SHA-1. Pure but for the nonce, which is passed in.

The key that takes long to derive (15,000 rounds by default) is kept by `KeyCache`, as drivers do, so that a check costs next
to nothing. Called by `mongodb`.
Source: RFC 5802, RFC 7677 (test vectors in the tests), RFC 4013 (SASLprep); MongoDB's authentication specification.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from dataclasses import dataclass, field
from typing import Final

SHA_256: Final = "SCRAM-SHA-256"
SHA_1: Final = "SCRAM-SHA-1"
_HASHES: Final = {SHA_256: "sha256", SHA_1: "sha1"}
MIN_ROUNDS: Final = 4_096
MAX_ROUNDS: Final = 1_000_000
"""More is refused: a server that is none must not keep a core busy."""
_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class ScramError(Exception):
    """The server does not keep to the protocol, or proves not to know the password. Holds no secret."""


@dataclass(slots=True)
class KeyCache:
    """The salted password last derived, with what it was derived from."""

    known: tuple[str, bytes, int] | None = None
    key: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Conversation:
    """One authentication. `nonce`: fresh random text, printable and without commas."""

    mechanism: str
    username: str
    password: bytes = field(repr=False)
    nonce: str
    cache: KeyCache = field(repr=False)
    _server_signature: bytes = field(default=b"", repr=False)

    @property
    def _bare(self) -> str:
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        return f"n={name},r={self.nonce}"

    def first(self) -> bytes:
        """Return the client's first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Return the client's second message. Takes some milliseconds if the key is not in the cache. Raises ScramError."""
        fields = _fields(server_first)
        try:
            nonce, salt, rounds = fields["r"], base64.b64decode(fields["s"], validate=True), int(fields["i"])
        except (KeyError, ValueError, binascii.Error) as error:
            raise ScramError("the server's first message is not understood") from error
        if not nonce.startswith(self.nonce) or nonce == self.nonce:
            raise ScramError("the server's nonce does not continue ours")
        if not MIN_ROUNDS <= rounds <= MAX_ROUNDS:
            raise ScramError(f"the server asks for {rounds} rounds")
        key = self._key(salt, rounds)
        without_proof = f"c=biws,r={nonce}"
        signed = ",".join((self._bare, server_first.decode(), without_proof)).encode()
        client_key = self._hmac(key, b"Client Key")
        signature = self._hmac(hashlib.new(_HASHES[self.mechanism], client_key).digest(), signed)
        self._server_signature = self._hmac(self._hmac(key, b"Server Key"), signed)
        proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Check that the server knows the password too. Raises ScramError."""
        try:
            signature = base64.b64decode(_fields(server_final)["v"], validate=True)
        except (KeyError, binascii.Error) as error:
            raise ScramError("the server's last message is not understood") from error
        if not hmac.compare_digest(signature, self._server_signature):
            raise ScramError("the server does not know the password itself")

    def _key(self, salt: bytes, rounds: int) -> bytes:
        known = (self.mechanism, salt, rounds)
        if self.cache.known != known:
            derived = hashlib.pbkdf2_hmac(_HASHES[self.mechanism], self._prepared(), salt, rounds)
            self.cache.known, self.cache.key = known, derived
        return self.cache.key

    def _prepared(self) -> bytes:
        try:
            text = self.password.decode()
        except UnicodeDecodeError as error:
            raise ScramError("the password is no text") from error
        if self.mechanism == SHA_256:
            return saslprep(text).encode()
        digest = hashlib.md5(f"{self.username}:mongo:{text}".encode(), usedforsecurity=False)
        return digest.hexdigest().encode()

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, _HASHES[self.mechanism])


def saslprep(text: str) -> str:
    """Return the form of a password in which it is hashed. Raises ScramError for characters that no password may have."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char))
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(prohibited(char) for char in prepared for prohibited in _PROHIBITED):
        raise ScramError("the password has characters that no MongoDB password may have")
    return prepared


def _fields(message: bytes) -> dict[str, str]:
    try:
        parts = message.decode().split(",")
    except UnicodeDecodeError as error:
        raise ScramError("the server's message is no text") from error
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}
