"""The store: what it holds after any order of events and lists, and whom a change concerns."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway_operator.api.meta import GatewayKey, ObjectKey
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS
from aigateway_operator.plan.changes import changed_keys
from aigateway_operator.plan.snapshot import Stored
from aigateway_operator.reconcile.store import Store, parse_stored
from tests.unit.reconcile.objects import gateway, model, stored

CHAT = ObjectKey("ai", "chat")
MAIN, OTHER = GatewayKey("ai", "main"), GatewayKey("ai", "other")


def test_an_older_version_is_ignored() -> None:
    """Events and list pages arrive in any order; the newest stays."""
    store = Store()
    new = stored(model(current="big"), version=20, generation=2)
    assert store.put(VIRTUAL_MODELS, new) == {MAIN}
    assert store.put(VIRTUAL_MODELS, stored(model(), version=9)) == frozenset(), "9 is older than 20, though not as text"
    assert store.put(VIRTUAL_MODELS, new) == frozenset()
    assert store.get(VIRTUAL_MODELS, CHAT) == new


def test_a_model_that_moves_concerns_both_gateways() -> None:
    """The one it leaves and the one it comes to."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model(), version=1))
    assert store.put(VIRTUAL_MODELS, stored(model(gateway="other"), version=2, generation=2)) == {MAIN, OTHER}
    assert list(store.models(MAIN)) == []
    assert list(store.models(OTHER)) == ["chat"]
    assert store.gateway_keys() == {OTHER}


def test_a_change_of_labels_alone_concerns_nobody_but_is_kept() -> None:
    """Its resourceVersion is what the next status write is fenced by."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model(), version=1))
    store.put(GATEWAY_CONFIGS, stored(gateway(), version=1))
    changes = store.changes
    relabelled = stored(model(), version=2)
    assert store.put(VIRTUAL_MODELS, relabelled) == frozenset()
    assert store.put(GATEWAY_CONFIGS, stored(gateway(), version=2)) == frozenset()
    assert store.models(MAIN)["chat"] is store.get(VIRTUAL_MODELS, CHAT)
    assert store.models(MAIN)["chat"].resource_version == "2"
    assert store.changes == changes


def test_a_change_of_status_or_deletion_concerns_the_gateway() -> None:
    """Somebody else's status is put right; an object being deleted is treated so."""
    store = Store()
    first = stored(gateway(), version=1)
    store.put(GATEWAY_CONFIGS, first)
    assert store.put(GATEWAY_CONFIGS, stored(gateway(), version=2, status={"revision": 7})) == {MAIN}
    assert store.put(GATEWAY_CONFIGS, replace(first, resource_version="3", deleting=True)) == {MAIN}


def test_an_object_made_again_under_its_name_is_another_one() -> None:
    """The deletion of the former that is told late removes nothing."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model(), version=5, uid="u1"))
    assert store.put(VIRTUAL_MODELS, stored(model(), version=9, uid="u2")) == {MAIN}
    assert store.remove(VIRTUAL_MODELS, CHAT, "8") == frozenset()
    assert store.models(MAIN)["chat"].uid == "u2"
    assert store.remove(VIRTUAL_MODELS, CHAT, "10") == {MAIN}
    assert store.remove(VIRTUAL_MODELS, CHAT, "10") == frozenset()


def test_what_was_deleted_does_not_come_back_with_an_older_answer() -> None:
    """A list page or the answer of our own status write may be older than the deletion that arrived first."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model(), version=5))
    store.remove(VIRTUAL_MODELS, CHAT, "8")
    assert store.put(VIRTUAL_MODELS, stored(model(), version=7)) == frozenset()
    assert store.get(VIRTUAL_MODELS, CHAT) is None
    assert store.has_seen(VIRTUAL_MODELS, CHAT, "7")
    assert not store.has_seen(VIRTUAL_MODELS, CHAT, "9")
    assert store.put(VIRTUAL_MODELS, stored(model(), version=9, uid="u2")) == {MAIN}


def test_removed_objects_are_not_remembered_for_ever() -> None:
    """Two complete lists later nothing older can be under way: ten thousand deletions cost no memory."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model(), version=5))
    store.remove(VIRTUAL_MODELS, CHAT, "8")
    store.settle(VIRTUAL_MODELS, [], "10")
    assert store.has_seen(VIRTUAL_MODELS, CHAT, "8")
    store.settle(VIRTUAL_MODELS, [], "20")
    assert not store.has_seen(VIRTUAL_MODELS, CHAT, "8")


def test_a_list_removes_only_what_is_older_than_itself() -> None:
    """An object made while the list was on its way is not in it and stays."""
    store = Store()
    store.put(VIRTUAL_MODELS, stored(model("old"), version=5))
    store.put(VIRTUAL_MODELS, stored(model("new", gateway="other"), version=30))
    store.put(VIRTUAL_MODELS, stored(model("listed"), version=6))
    assert store.settle(VIRTUAL_MODELS, [ObjectKey("ai", "listed")], "20") == {MAIN}
    assert sorted(key.name for key in store.objects(VIRTUAL_MODELS)) == ["listed", "new"]


def test_nothing_is_listed_before_both_kinds_are() -> None:
    """One kind alone opens no gate."""
    store = Store()
    store.settle(VIRTUAL_MODELS, [], "1")
    assert (store.listed, store.has_listed(VIRTUAL_MODELS), store.has_listed(GATEWAY_CONFIGS)) == (False, True, False)
    store.settle(GATEWAY_CONFIGS, [], "1")
    assert store.listed


def test_a_spec_of_any_shape_is_taken_in() -> None:
    """A hand-made object may hold anything where the schema allows it; it names no gateway then."""
    specs: tuple[Any, ...] = (None, [], "x", {"gatewayRef": "main"}, {"gatewayRef": {"name": 7}}, {})
    for spec in specs:
        manifest = {**model(), "spec": spec}
        assert stored(manifest).gateway == ""
    without = model()
    del without["spec"]
    assert stored(without).gateway == ""
    assert stored(model(), status=None).parse_status() == {}


def nested(depth: int) -> Any:
    """Return a mapping of that many levels."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param(10**20, 1e20, id="what the API server stores of 1e20"),
        pytest.param(nested(300), nested(300), id="deeper than orjson writes"),
    ],
)
def test_what_got_past_admission_is_taken_in(value: Any, read: Any) -> None:
    """One such object ended the process at its first LIST, and at every start again."""
    manifest = model()
    manifest["spec"]["backends"][0]["parameters"] = {"odd": value}
    assert stored(manifest).parse_spec()["backends"][0]["parameters"] == {"odd": read}
    manifest["spec"]["backends"][0]["parameters"] = nested(5000)
    assert stored(manifest).parse_spec() is None, "rules refuse it, whatever it is"


def test_what_json_writes_and_nobody_reads_is_no_spec() -> None:
    """Since Python 3.12 that writes ten thousand levels, whatever the limit of Python's own recursion is."""
    limit, manifest = sys.getrecursionlimit(), model()
    manifest["spec"]["backends"][0]["parameters"] = nested(2000)
    sys.setrecursionlimit(20_000)
    try:
        assert stored(manifest).parse_spec() is None
    finally:
        sys.setrecursionlimit(limit)


def test_a_deleting_object_is_known_as_such() -> None:
    """A deletionTimestamp is all that says so."""
    manifest = gateway()
    manifest["metadata"] |= {
        "uid": "u",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-01T00:00:01Z",
    }
    assert parse_stored(manifest).deleting


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_interleaving_of_events_and_complete_lists_converges_to_the_truth(  # noqa: C901 - one straight story
    data: st.DataObject,
) -> None:
    """Events may be lost, doubled and late as long as each object's come in order, and lists may be old when they arrive.

    After one last complete list, with the events that the watch owes delivered, the store holds exactly what exists.
    """
    truth: dict[ObjectKey, int] = {}
    history: list[tuple[int, ObjectKey, str, int]] = []
    states: list[dict[ObjectKey, int]] = [{}]
    for version in range(1, data.draw(st.integers(1, 25), label="changes") + 1):
        key = ObjectKey("ai", data.draw(st.sampled_from("abc")))
        if key in truth and data.draw(st.booleans()):
            del truth[key]
            history.append((version, key, "DELETED", version))
        else:
            truth[key] = version
            history.append((version, key, "MODIFIED", version))
        states.append(dict(truth))
    store = Store()

    def put(key: ObjectKey, version: int) -> None:
        manifest = model(key.name, gateway=data.draw(st.sampled_from(["main", "other"])) if version % 2 else "main")
        store.put(VIRTUAL_MODELS, stored(manifest, version=version, generation=version, uid=f"u{version}"))

    def take_list(version: int) -> None:
        for key, seen in states[version].items():
            put(key, seen)
        store.settle(VIRTUAL_MODELS, states[version], str(version))

    for version, key, event, _ in history:
        if data.draw(st.integers(0, 3)) == 0:
            take_list(data.draw(st.integers(max(0, version - 3), version)))
        lost = event == "DELETED" and data.draw(st.booleans())
        for _ in range(0 if lost else data.draw(st.integers(1, 2))):
            if event == "DELETED":
                store.remove(VIRTUAL_MODELS, key, str(version))
            else:
                put(key, version)
    take_list(len(history))
    assert {key: int(found.resource_version) for key, found in store.objects(VIRTUAL_MODELS).items()} == truth
    indexed = {
        ObjectKey("ai", name): int(found.resource_version)
        for gateway_key in store.gateway_keys()
        for name, found in store.models(gateway_key).items()
    }
    assert indexed == truth
    for gateway_key in store.gateway_keys():
        assert {found.gateway for found in store.models(gateway_key).values()} == {gateway_key.name}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "relabel", "remove", "now"]), st.sampled_from("abc"), st.sampled_from(["main", "other"])
        )
    )
)
def test_a_copy_knows_what_changed_since_the_copy_before(steps: list[tuple[str, str, str]]) -> None:
    """As somebody finds who compares the two: after edits, moves, deletions, and models that are made again."""
    store = Store()
    copies: dict[GatewayKey, Mapping[str, Stored]] = {MAIN: {}, OTHER: {}}
    for version, (step, name, where) in enumerate(steps, start=1):
        known = store.get(VIRTUAL_MODELS, ObjectKey("ai", name))
        if step == "put":
            store.put(VIRTUAL_MODELS, stored(model(name, gateway=where), version=version, generation=version))
        elif step == "relabel" and known is not None:
            store.put(VIRTUAL_MODELS, replace(known, resource_version=str(version)))
        elif step == "remove":
            store.remove(VIRTUAL_MODELS, ObjectKey("ai", name), str(version))
        elif step == "now":
            key = GatewayKey("ai", where)
            before, now = copies[key], store.models_now(key)
            assert now == dict(store.models(key))
            assert changed_keys(before, now) == changed_keys(dict(before), dict(now))
            copies[key] = now


def test_a_copy_shares_what_did_not_change_with_the_copy_before() -> None:
    """An edit among ten thousand models copies none of the others."""
    store = Store()
    for number in range(100):
        store.put(VIRTUAL_MODELS, stored(model(f"m{number}"), version=number + 1))
    before = store.models_now(MAIN)
    store.put(VIRTUAL_MODELS, stored(model("m7", current="big"), version=200, generation=2))
    now = store.models_now(MAIN)
    assert now.shared is before.shared
    assert (before["m7"].generation, now["m7"].generation) == (1, 2)


def test_an_object_takes_little_more_memory_than_its_text() -> None:
    """What orjson returns keeps the buffer of 4 kB that it was written into: 80 MB at ten thousand models."""
    manifests = [model(f"m{number}") | {"status": {"modelName": f"m{number}"}} for number in range(200)]
    objects = [made.parse_spec() for made in map(stored, manifests)]
    raw = [
        {
            "metadata": {
                "namespace": "ai", "name": f"m{number}", "uid": f"u{number}", "generation": 1,
                "resourceVersion": str(number), "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": spec,
            "status": {"modelName": f"m{number}"},
        }
        for number, spec in enumerate(objects)
    ]  # fmt: skip
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [parse_stored(obj) for obj in raw]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    text = sum(len(one.spec) + len(one.status) for one in kept)
    assert taken < text + len(kept) * 300


def test_new_objects_share_the_status_that_they_begin_with() -> None:
    """The CRD's default, until an own one is written: a thousand creates would keep a thousand copies of it for a while."""
    pending = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending"}]}
    first, second = (stored(model(name), status=dict(pending)) for name in ("a", "b"))
    assert first.status is second.status
    assert first.parse_status() == pending


def test_a_newer_version_shares_what_it_says_alike() -> None:
    """Keys of mappings hold on to name and uid of the first version: each status write would add copies of both."""
    store = Store()
    first = stored(model(), version=1)
    store.put(VIRTUAL_MODELS, first)
    second = stored(model(), version=2, uid="".join(["u", "1"]), status={"revision": 7})
    assert second.uid is not first.uid
    store.put(VIRTUAL_MODELS, second)
    now = store.get(VIRTUAL_MODELS, CHAT)
    assert now is not None
    assert now == second
    assert now.uid is first.uid
    assert now.spec is first.spec
    store.put(VIRTUAL_MODELS, stored(model(current="big"), version=3, generation=2))
    assert store.get(VIRTUAL_MODELS, CHAT) == stored(model(current="big"), version=3, generation=2)
