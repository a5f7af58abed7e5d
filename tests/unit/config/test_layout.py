"""Documents cut into pieces: whatever the layout, what is read is what a JSON parser reads, and nothing else is accepted."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.errors import Refused
from aigateway_config.layout import cut_json, cut_lines
from aigateway_config.model import Model, parse_models
from aigateway_config.tree import ModelsTree
from aigateway_config.verification import Head, Loaded, parse_document
from aigateway_operator.render.canonical import encode
from aigateway_operator.render.entries import Entry
from aigateway_operator.render.files import render_models

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
ENTRIES = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "use": st.booleans(),
            "current": st.just("small"),
            "base_url": st.none(),
            "proxy_key_ref": NAMES,
            "small": st.fixed_dictionaries(
                {
                    "model": NAMES,
                    "base_url": NAMES,
                    "api_key_ref": st.one_of(st.none(), NAMES),
                    "parameters": st.dictionaries(NAMES, VALUES, max_size=3),
                }
            ),
        }
    ),
    max_size=4,
)
TWO: dict[str, Any] = {
    name: {
        "use": True,
        "current": "small",
        "base_url": None,
        "proxy_key_ref": "keys.proxy",
        "small": {"model": name, "base_url": "https://a.example", "api_key_ref": None, "parameters": {"x": [{}]}},
    }
    for name in ("a", "b")
}


def canonical(entries: dict[str, Any]) -> bytes:
    """Return the document as the operator writes it."""
    return render_models(0, [Entry(name, encode(entry), True, {}) for name, entry in entries.items()]).content


def loaded(content: bytes, known: dict[str, Model] | None = None) -> Loaded:
    """Return a document of the first of two shards. Raises Refused."""
    head = Head("models-00.yml", b"", "ai/main", "l", 2, 1, sha256(content).hexdigest())
    return parse_document(head, content, known or {}, {})


def tree(models: Any) -> dict[str, Any]:
    """Return models as the document has them."""
    return dict(ModelsTree(models))


def by_parser(content: bytes) -> dict[str, Any] | None:
    """Return what the same document gives without lines being looked at; None: it is refused."""
    try:
        return tree(parse_models(cut_json(content).models, {}, {}))
    except (ValueError, TypeError):
        return None


@given(ENTRIES)
def test_every_layout_of_a_document_means_the_same(entries: dict[str, Any]) -> None:
    """A model a line, as the operator writes it, compact, and indented."""
    whole = {"ai-gateway": {"virtual_models": entries}}
    layouts = canonical(entries), json.dumps(whole).encode(), json.dumps(whole, indent=1, ensure_ascii=False).encode()
    expected = tree(loaded(layouts[1]).models)
    assert expected.keys() == entries.keys()
    for content in layouts:
        assert tree(loaded(content).models) == expected
        assert json.dumps(tree(loaded(content).models), sort_keys=True) == json.dumps(entries, sort_keys=True)


def test_the_operators_layout_is_cut_at_its_lines() -> None:
    """Or every reload would parse all models again."""
    parts = cut_lines(canonical(TWO))
    assert parts is not None
    assert [piece[:5] for piece in parts.models] == [b'"a":{', b'"b":{']
    config = canonical(TWO).replace(b"}}}\n", b'}},\n"app":{"port":1}}\n')
    parts = cut_lines(config)
    assert parts is not None
    assert parts.sections == {"app": {"port": 1}}
    assert len(parts.models) == 2


@given(st.data())
def test_a_damaged_document_is_read_as_a_parser_reads_it(data: st.DataObject) -> None:
    """Bytes taken out, put in or doubled where lines and braces are: accepted and refused alike, although pieces are known."""
    content = canonical(TWO)
    if data.draw(st.booleans(), "with other sections"):
        content = content.replace(b"}}}\n", b'}},\n"app":{"port":1},\n"ai-gatewaz":{}}\n')
    known = dict(loaded(content).models)
    for _ in range(data.draw(st.integers(1, 3), "damages")):
        at, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2), "place"))
        end = min(end, at + data.draw(st.integers(0, 6), "length"))
        put = data.draw(
            st.sampled_from([b"", b"\n", b"}", b"{", b",", b",\n", b'"', b"}}", b'"b":{', b"\n}}", content[at : at + 40]])
        )
        content = content[:at] + put + content[end:]
    try:
        found = tree(loaded(content, known).models)
    except Refused:
        found = None
    assert found == by_parser(content)


@pytest.mark.parametrize(
    "damage",
    [
        (b"}}}\n", b'}},"ai-gateway":{"virtual_models":{}}}\n'),
        (b"}}}\n", b'}},"ai-gat\\u0065way":{"virtual_models":{}}}\n'),
        (b"}}}\n", b'},"virtual_models":{}}}\n'),
        (b"}}}\n", b"}},}\n"),
        (b"}}}\n", b'}}"app":{}}\n'),
        (b",\n", b"},\n"),
        (b",\n", b",\n,\n"),
        (b"\n}}}\n", b",\n}}}\n"),
        (b'"b":{"base_url"', b'"b":{"b":{}},"c":{"base_url"'),
        (b'"b":', b'"a":'),
        (b'"b":', b'"a":1,\n"b":'),
        (b"null", b"NaN"),
    ],
)
def test_what_only_looks_like_lines_is_read_as_a_parser_reads_it(damage: tuple[bytes, bytes]) -> None:
    """Doubled keys take the last, and what is no JSON as a whole is refused although every line of it is."""
    content = canonical(TWO)
    assert damage[0] in content
    damaged = content.replace(*damage)
    try:
        found = tree(loaded(damaged, dict(loaded(content).models)).models)
    except Refused:
        found = None
    assert found == by_parser(damaged)


def test_a_fault_in_a_line_is_named_as_of_the_whole_document() -> None:
    """A person looks for the place in the file."""
    with pytest.raises(Refused, match=r"small.model: Input should be a valid string"):
        loaded(canonical(TWO | {"c": TWO["a"] | {"small": {**TWO["a"]["small"], "model": 1}}}))
    with pytest.raises(Refused, match="line 3 column"):
        loaded(canonical(TWO).replace(b'"b":', b'"b";'))


def test_known_models_are_taken_over_by_their_text() -> None:
    """The one that changed is new, with no credential in place yet."""
    before = {name: model.bound({"keys.proxy": SecretStr("x")}) for name, model in loaded(canonical(TWO)).models.items()}
    after = loaded(canonical({"a": TWO["a"] | {"use": False}, "b": TWO["b"], "c": TWO["b"]}), before).models
    assert after["b"] is before["b"]
    assert after["a"] is not before["a"]
    assert not after["a"].use
    assert after["a"].proxy_key is None
    assert after["c"].name == "c", "the name belongs to what makes a model the same"


def test_the_name_of_a_document_decides_what_it_holds() -> None:
    """Sections of a shard are of no account; config.yml is nothing without them."""
    content = canonical(TWO).replace(b"}}}\n", b'}},\n"app":{"port":1}}\n')
    assert loaded(content).settings is None
    head = Head(documents.CONFIG_FILE, b"", "ai/main", "l", 1, 1, sha256(content).hexdigest())
    with pytest.raises(Refused, match=r"app.host: Field required"):
        parse_document(head, content, {}, {})
