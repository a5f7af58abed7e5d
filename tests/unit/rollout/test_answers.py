"""What a pod's answer means for a target: rollout/answers.py, selector.py and cadence.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_config.documents import DocumentState
from aigateway_operator.api.gatewayconfig import PodSelector
from aigateway_operator.plan.proof import Target
from aigateway_operator.rollout import cadence
from aigateway_operator.rollout.answers import (
    Answered,
    Misanswered,
    ahead,
    difference,
    highest_revisions,
    parse_answer,
    restart_required,
)
from aigateway_operator.rollout.selector import label_selector
from tests.fake_pods import answer_of

DIGEST, OTHER = "a" * 64, "b" * 64
TARGET = Target(
    revision=4,
    credentials_revision=3,
    lineage="uid-1",
    documents={"config.yml": (4, DIGEST), "models-00.yml": (2, DIGEST)},
    credentials={"_manifest.json": 3, "_manifest-00.json": 1},
)
BODY = (
    b'{"lineage":"uid-1","documents":{"config.yml":{"revision":4,"digest":"%(d)s"},"models-00.yml":{"revision":2,"digest":"%(d)s"}},'
    b'"credentials":{"_manifest.json":3,"_manifest-00.json":1},"credentialsRevision":3,"loadedAt":"2026-11-01T00:00:00Z",'
    b'"restartRequired":[],"error":null}' % {b"d": DIGEST.encode()}
)


def documents(**states: tuple[int, str]) -> dict[str, DocumentState]:
    """Return documents of an answer."""
    names = {"config": "config.yml", "models": "models-00.yml", "more": "models-05.yml"}
    return {names[name]: DocumentState(revision=revision, digest=digest) for name, (revision, digest) in states.items()}


BOTH = {"config": (4, DIGEST), "models": (2, DIGEST)}


def test_answer_as_pods_send_it_matches_its_target() -> None:
    """The agreed form, as a program in another language would write it."""
    parsed = parse_answer(BODY)
    assert isinstance(parsed, Answered)
    assert difference(TARGET, parsed.answer) is None
    assert difference(TARGET, answer_of(TARGET)) is None


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"lineage": None}, "has not loaded a configuration yet"),
        ({"lineage": "uid-2"}, "runs documents of another GatewayConfig"),
        ({"documents": documents(config=(3, OTHER), models=(2, DIGEST))}, "runs revision 3 of config.yml, not 4"),
        ({"documents": documents(**{**BOTH, "config": (4, OTHER)})}, "runs config.yml of revision 4 with another content"),
        (
            {"documents": documents(**{**BOTH, "models": (9, DIGEST)})},
            "claims revision 9 of models-00.yml, which is newer than 2",
        ),
        ({"documents": documents(**{**BOTH, "models": (2**60, DIGEST)})}, "claims a revision beyond all"),
        ({"documents": documents(config=(4, DIGEST))}, "has not loaded models-00.yml"),
        ({"documents": documents(**BOTH, more=(1, DIGEST))}, "runs documents that this gateway does not have"),
        (
            {"credentials": {"_manifest.json": 2, "_manifest-00.json": 1}},
            "runs credentials revision 2 of _manifest.json, not 3",
        ),
        ({"credentials": {"_manifest.json": 3}}, "has not loaded the credentials of _manifest-00.json"),
        ({"credentials": {**TARGET.credentials, "x": 1}}, "runs credentials that this gateway does not have"),
    ],
)
def test_any_difference_is_named(parts: dict[str, Any], text: str) -> None:
    """Less, more, older, newer, another digest or lineage: nothing of it is taken for a match."""
    assert difference(TARGET, answer_of(TARGET, **parts)) == text


def test_error_of_a_pod_matters_only_where_it_differs_and_is_never_repeated_whole() -> None:
    """One CamelCase word is repeated; anything longer could hold a secret, and be another one in every answer."""
    assert difference(TARGET, answer_of(TARGET, error="UnsupportedSchema: 2.0")) is None
    older = documents(**{**BOTH, "config": (3, OTHER)})
    with_reason = difference(TARGET, answer_of(TARGET, documents=older, error="UnsupportedSchema: key sk-12345"))
    assert with_reason == "runs revision 3 of config.yml, not 4 (UnsupportedSchema)"
    for error in ("cannot parse sk-12345", "Sk12345", "\x1b[31mRed: x", "A" * 60, ""):
        assert difference(TARGET, answer_of(TARGET, documents=older, error=error)) == "runs revision 3 of config.yml, not 4"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>",
        b"\xff\xfe",
        b"[" * 60_000,
        BODY[:-1],
        BODY.replace(b'"revision":4', b'"revision":"4"'),
        BODY.replace(b'"revision":4', b'"revision":4.5'),
        BODY.replace(b'"revision":4', b'"revision":NaN'),
        BODY.replace(b'"revision":4', b'"revision":true'),
        BODY.replace(b'"restartRequired":[]', b'"restartRequired":[1]'),
    ],
)
def test_garbage_is_no_answer(body: bytes) -> None:
    """Whatever is not the agreed form is named as such, and raises nothing."""
    assert isinstance(parse_answer(body), Misanswered)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    """Pods may be anything."""
    assert isinstance(parse_answer(body), (Answered, Misanswered))


def test_unknown_keys_of_a_newer_library_are_ignored() -> None:
    """A newer minor version may say more."""
    assert parse_answer(BODY.replace(b'"error":null', b'"error":null,"more":{"a":1}')) == parse_answer(BODY)


def test_numbers_are_believed_within_the_lineage_and_within_reason() -> None:
    """One lying pod must not drive the counters to their end."""
    newer = answer_of(TARGET, documents=documents(**{**BOTH, "models": (9, DIGEST)}), credentials={"_manifest.json": 8})
    assert highest_revisions(TARGET, newer) == (9, 8)
    assert highest_revisions(TARGET, answer_of(TARGET, lineage="uid-2")) == (0, 0)
    assert highest_revisions(TARGET, answer_of(None, lineage="uid-1")) == (0, 0)
    beyond = answer_of(TARGET, documents=documents(config=(2**62, DIGEST)), credentials={"_manifest.json": 2**62})
    assert highest_revisions(TARGET, beyond) == (0, 0)


def test_pod_is_ahead_where_no_answer_of_its_will_ever_match() -> None:
    """A higher number, or another content of the same one, which a reader keeps for ever; of this lineage and within reason."""
    higher = documents(**{**BOTH, "models": (9, DIGEST)})
    assert ahead(TARGET, answer_of(TARGET, documents=higher, credentials={"_manifest.json": 8})) == (
        "_manifest.json",
        "models-00.yml",
    )
    assert ahead(TARGET, answer_of(TARGET)) == ()
    assert ahead(TARGET, answer_of(None)) == ()
    assert ahead(TARGET, answer_of(TARGET, documents=documents(config=(0, "f" * 64)))) == (), "it can still take up ours"
    revision = TARGET.documents["config.yml"][0]
    assert ahead(TARGET, answer_of(TARGET, documents=documents(config=(revision, "f" * 64)))) == ("config.yml",)
    assert ahead(TARGET, answer_of(TARGET, lineage="uid-2", documents=higher)) == ()
    assert ahead(TARGET, answer_of(TARGET, documents=documents(config=(2**62, DIGEST)))) == ()


def test_restart_required_is_bounded_and_holds_paths_only() -> None:
    """It goes into a status."""
    said = ["app.port", "app host", "x" * 300, "sk-secret!", *(f"a.b{number}" for number in range(40))]
    paths = restart_required(answer_of(TARGET, restart_required=said))
    assert paths[0] == "app.port"
    assert len(paths) <= 16
    assert all(path == "app.port" or path.startswith("a.b") for path in paths)


def selector(**parts: Any) -> PodSelector:
    """Return a selector as the API has it."""
    return PodSelector.model_validate(parts)


@pytest.mark.parametrize(
    ("given_selector", "text"),
    [
        (selector(matchLabels={"b": "2", "a": "1"}), "a=1,b=2"),
        (selector(matchLabels={"a": ""}), "a="),
        (selector(matchExpressions=[{"key": "a", "operator": "In", "values": ["2", "1", "2"]}]), "a in (1,2)"),
        (selector(matchExpressions=[{"key": "a", "operator": "NotIn", "values": ["1"]}]), "a notin (1)"),
        (
            selector(
                matchLabels={"x.io/y": "1"},
                matchExpressions=[{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}],
            ),
            "!b,a,x.io/y=1",
        ),
    ],
)
def test_selector_becomes_a_query(given_selector: PodSelector, text: str) -> None:
    """Equal selectors give equal texts, so that a watch is not begun anew."""
    assert label_selector(given_selector) == text


def test_pauses_grow_and_pokes_end() -> None:
    """Fast while a kubelet syncs, slow for what stays broken; pokes cease once the kubelet's own sync has had its turn."""
    pauses = [cadence.ask_pause(attempt, 1) for attempt in range(60)]
    assert sum(pauses[:5]) < 0.4
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    assert cadence.ask_pause(0, 200) == pytest.approx(0.3)
    repokes = [cadence.repoke_pause(pokes) for pokes in range(1, 9)]
    assert repokes == [1, 2, 4, 8, 16, 30, None, None]
