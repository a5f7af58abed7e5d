"""What differs between two mappings: told by the mapping where it knows, found by a look where not, and the same either way.

A mapping that shares its content with another one is the same as a plain dict to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.plan import changes
from aigateway_operator.plan.changes import LEAST_OWN, OWN_SHARE, Renewed, changed_keys

VALUES = [object() for _ in range(3)]
MAPPINGS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(VALUES))


def renewed(before: Mapping[str, object], content: Mapping[str, object]) -> Renewed[str, object]:
    """Return `content` as made from `before`."""
    return Renewed(before, {key: content.get(key) for key in changed_keys(dict(before), content)})


@given(st.lists(MAPPINGS, min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5), st.integers(0, 8))
def test_what_a_chain_of_mappings_says_is_what_a_look_finds(
    contents: list[dict[str, object]], first: int, last: int, least_own: int
) -> None:
    """Also between mappings that do not follow each other, and back: then nobody believes what was said of another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "LEAST_OWN", least_own)
        chain: list[Renewed[str, object]] = []
        for content in contents:
            chain.append(renewed(chain[-1] if chain else {}, content))
    before, now = chain[first % len(chain)], chain[last % len(chain)]
    assert changed_keys(before, now) == changed_keys(dict(before), dict(now))
    for mapping, content in zip(chain, contents, strict=True):
        assert mapping == content
        assert len(mapping) == len(content)
        assert set(mapping) == mapping.keys() == content.keys()
        assert dict(mapping.items()) == content
        assert sorted(map(id, mapping.values())) == sorted(map(id, content.values()))
        assert [(key in mapping, mapping.get(key)) for key in "abcdef"] == [
            (key in content, content.get(key)) for key in "abcdef"
        ]


def test_a_key_that_is_gone_is_not_there() -> None:
    """Whether it was in the content that is shared or had come since."""
    now = Renewed(Renewed(Renewed({"a": 1}, {}), {"b": 2}), {"a": None, "b": None})
    for key in "ab":
        assert now.get(key, "nothing") == "nothing"
        with pytest.raises(KeyError):
            now[key]
    assert not now


def test_a_mapping_is_believed_about_the_one_it_was_made_from() -> None:
    """That is the point of it: nothing is looked at."""
    base = Renewed({"a": 1, "b": 2}, {})
    assert changed_keys(base, Renewed(base, {"a": 1})) == {"a"}


def test_a_mapping_is_not_believed_about_an_equal_one() -> None:
    """Another mapping with the same content may have come to it another way."""
    base, twin = Renewed({"a": 1}, {}), Renewed({"a": 1}, {})
    now = Renewed(base, {"b": 2})
    assert changed_keys(twin, now) == {"b"}
    assert changed_keys({"a": 1}, now) == {"b"}
    assert changed_keys({}, Renewed({"a": 1}, {})) == {"a"}
    assert changed_keys(now, base) == {"b"}


def test_what_a_mapping_was_made_from_may_change_if_it_is_a_plain_dict() -> None:
    """The store's own dict does; only mappings that never change are shared."""
    plain = {"a": 1}
    now = Renewed(plain, {})
    plain["b"] = 2
    assert dict(now.items()) == {"a": 1}


def test_ten_thousand_keys_are_copied_once_in_a_hundred_and_fifty_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a change costs at most that many keys, and what nobody has any more is not kept for long."""
    size, copies, real = 10_000, list[int](), Renewed._merged
    now = Renewed({str(number): number for number in range(size)}, {})

    def merged(mapping: Renewed[str, int]) -> dict[str, int]:
        copies.append(len(mapping))
        return real(mapping)

    monkeypatch.setattr(Renewed, "_merged", merged)
    for number in range(1000):
        now = Renewed(now, {str(number): -1})
    assert copies == [size] * (1000 // (size // OWN_SHARE + 1))
    small = Renewed({"a": 0}, {})
    for number in range(3 * (LEAST_OWN + 1)):
        small = Renewed(small, {str(number): number})
    assert len(copies) == 6 + 1 + 3
