"""Secrets that the process has read are taken out of any text, however many there are."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_logs.known_secrets import KnownSecrets

SECRETS = st.text(min_size=8, max_size=40).filter(lambda text: len(text.strip()) >= 8 and "***" not in text)


@pytest.mark.parametrize("others", [0, 500])
@given(secret=SECRETS, before=st.text(max_size=30), after=st.text(max_size=30))
def test_a_known_value_survives_nowhere(others: int, secret: str, before: str, after: str) -> None:
    """Few are searched for one by one, many by their ends."""
    known = KnownSecrets()
    for number in range(others):
        known.add(f"another-{number:05d}")
    known.add(secret)
    masked = known.mask(f"{before}{secret}{after}", "***")
    assert secret.strip() not in masked
    assert "***" in masked


def test_a_value_is_found_as_secrets_and_uris_write_it() -> None:
    """Base64 in a Secret's data, percent-encoding in a URI, with a trailing newline or as bytes."""
    known = KnownSecrets()
    value = "pa/ss wörd+1"
    known.add(f"{value}\n".encode())
    for form in (value, base64.b64encode(value.encode()).decode(), quote(value, safe="")):
        assert value not in known.mask(f"x{form}y", "***")
        assert known.mask(f"x{form}y", "***").startswith("x***")


def test_a_value_that_holds_another_is_masked_whole() -> None:
    """Or the rest of the longer one would be left standing."""
    known = KnownSecrets()
    known.add("12345678")
    known.add("12345678-and-more")
    assert known.mask("12345678-and-more", "***") == "***"


def test_short_values_are_left_alone_and_old_ones_are_forgotten_at_the_bound() -> None:
    """A value such as `admin` would mask ordinary words."""
    known = KnownSecrets()
    known.add("admin")
    assert known.mask("admin of the cluster", "***") == "admin of the cluster"
    for number in range(30_000):
        known.add(f"secret{number:08d}")
    assert known.mask("secret00029999", "***") == "***"
    assert known.mask("secret00000000", "***") == "secret00000000"
    assert "secret" not in repr(known).replace("KnownSecrets", "")
