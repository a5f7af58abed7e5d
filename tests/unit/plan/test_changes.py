"""What differs between two mappings: told by the mapping where it knows, found by a look where not, and the same either way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.plan.changes import Renewed, changed_keys

VALUES = [object() for _ in range(3)]
MAPPINGS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(VALUES))


@given(st.lists(MAPPINGS, min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_what_a_chain_of_mappings_says_is_what_a_look_finds(contents: list[dict[str, object]], first: int, last: int) -> None:
    """Also between mappings that do not follow each other, and back: then nobody believes what was said of another one."""
    chain: list[Renewed[str, object]] = []
    for content in contents:
        base = chain[-1] if chain else None
        chain.append(Renewed(content, base, changed_keys(dict(base or {}), content)))
    before, now = chain[first % len(chain)], chain[last % len(chain)]
    assert changed_keys(before, now) == changed_keys(dict(before), dict(now))
    assert now == contents[last % len(chain)]


def test_a_mapping_is_believed_about_the_one_it_was_made_from() -> None:
    """That is the point of it: nothing is looked at."""
    base = Renewed({"a": 1, "b": 2}, None, set())
    assert changed_keys(base, Renewed({"a": 9, "b": 9}, base, {"a"})) == {"a"}


def test_a_mapping_is_not_believed_about_an_equal_one() -> None:
    """Another mapping with the same content may have come to it another way."""
    base, twin = Renewed({"a": 1}, None, set()), Renewed({"a": 1}, None, set())
    now = Renewed({"a": 2}, base, set())
    assert changed_keys(twin, now) == {"a"}
    assert changed_keys({"a": 1}, now) == {"a"}
    assert changed_keys({}, Renewed({"a": 1}, None, set())) == {"a"}
