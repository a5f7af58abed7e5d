"""Names of credentials files: readable where possible, never the same for two keys."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aigateway_operator.render.references import SecretRef, credential_key, secret_of
from tests.reference_renderer import credentials_file

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?){0,2}", fullmatch=True)
KEYS = st.from_regex(r"[-._a-zA-Z0-9]{1,12}", fullmatch=True)
REFS = st.builds(SecretRef, NAMES, KEYS)


@given(REFS, REFS)
@example(SecretRef("a", "b.c"), SecretRef("a.b", "c"))
@example(SecretRef("a", ".b"), SecretRef("a.", "b"))
def test_two_references_never_share_a_file(left: SecretRef, right: SecretRef) -> None:
    """Otherwise one model would present another's key."""
    assert (credential_key(left) == credential_key(right)) == (left == right)


@given(REFS)
def test_a_name_that_is_not_hashed_leads_back_to_its_secret(ref: SecretRef) -> None:
    """After a restart the references of the last good are read back from documents."""
    back = secret_of(credential_key(ref))
    assert back == (None if "." in ref.secret else ref)


@given(REFS)
def test_the_reference_renderer_agrees(ref: SecretRef) -> None:
    """Two programs that share no code agree on the name."""
    assert credential_key(ref) == credentials_file({"name": ref.secret, "key": ref.key})


@pytest.mark.parametrize(("length", "plain"), [(251, True), (252, False)])
def test_names_longer_than_a_key_may_be_are_hashed(length: int, plain: bool) -> None:
    """A Secret's key has at most 253 characters."""
    file = credential_key(SecretRef("s", "k" * length))
    assert len(file) <= 253
    assert file.startswith("s.") is plain
    assert len(file) == (253 if plain else 41)
