"""The state machine: every swap a kubelet can make and cannot, with real documents rendered by the operator's code."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from aigateway_config import documents
from aigateway_config.configuration import Configuration
from aigateway_config.errors import ReadingMoved, Reason, Refused
from aigateway_config.source import MemoryReading, Reading
from aigateway_config.state import Outcome, State
from aigateway_config.verification import parse_manifest
from tests.unit.config.writer import Files, Writer, keyed_backend, make_writer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def take(state: State, reading: Reading, source: str = "volume") -> Outcome:
    """Judge a reading now."""
    return state.take(source, reading, NOW)


def started(writer: Writer) -> tuple[State, Configuration]:
    """Return a state that has taken all of `writer`, and its configuration."""
    state = State()
    outcome = take(state, writer.reading())
    assert outcome.faults == ()
    assert outcome.configuration is not None
    return state, outcome.configuration


def reasons(outcome: Outcome) -> set[str]:
    """Return the reasons of the faults."""
    return {fault.reason.value for fault in outcome.faults}


def mounted(writer: Writer, files: Files | None = None, credentials: Files | None = None) -> MemoryReading:
    """Return a reading of the mounted volume, with some of it replaced."""
    return MemoryReading(
        writer.files if files is None else files, MemoryReading(writer.credentials if credentials is None else credentials)
    )


def edited(writer: Writer, **changes: Any) -> Files:
    """Return a next revision of config.yml with top-level keys replaced, its manifest fitting."""
    document = json.dumps({**json.loads(writer.files["config.yml"]), **changes}).encode()
    return manifested(writer, document)


def manifested(writer: Writer, document: bytes, **changes: Any) -> Files:
    """Return `document` as the next revision of config.yml."""
    fields = {"sha256": sha256(document).hexdigest(), "revision": writer.revision + 1, **changes}
    return {**writer.changed_manifest(**fields), "config.yml": document}


# -- the good way


def test_a_complete_volume_comes_into_force() -> None:
    """Models of every shard, settings and credentials are there after one reading."""
    writer = make_writer("a", "b", "c", shards=4)
    _, configuration = started(writer)
    assert set(configuration.models) == {"a", "b", "c"}
    assert set(configuration.documents) == {"config.yml", *(f"models-0{shard}.yml" for shard in range(4))}
    assert configuration.documents["config.yml"].digest == sha256(writer.files["config.yml"]).hexdigest()
    key = configuration.models["a"].proxy_key
    assert key is not None
    assert key.get_secret_value() == "caller-key"
    assert (configuration.lineage, configuration.gateway) == ("lineage-a", "ai/main")


def test_an_edit_replaces_its_model_and_no_other() -> None:
    """Models that did not change are the same objects in the next configuration; the old configuration stays as it was."""
    writer = make_writer("a", "b")
    state, old = started(writer)
    writer.put("a", current="big")
    new = take(state, writer.write().reading()).configuration
    assert new is not None
    assert new.models["a"].current == "big"
    assert new.models["b"] is old.models["b"]
    assert old.models["a"].current == "small"


def test_the_same_reading_again_gives_the_same_configuration() -> None:
    """Nothing changed: subscribers would hear of nothing."""
    writer = make_writer(shards=2)
    state, configuration = started(writer)
    assert take(state, writer.reading()).configuration is configuration


def test_a_deleted_model_is_gone() -> None:
    """A revision without the model is obeyed."""
    writer = make_writer("a", "b")
    state, _ = started(writer)
    del writer.models["b"]
    configuration = take(state, writer.write().reading()).configuration
    assert configuration is not None
    assert set(configuration.models) == {"a"}


def test_a_changed_number_type_of_a_parameter_is_a_change() -> None:
    """1, 1.0 and true are equal to Python and not to an upstream."""
    for before, after in ((1, True), (1, 1.0), (0, False)):
        writer = Writer()
        writer.put("a", backends=[keyed_backend("openai", parameters={"seed": before})])
        state, _ = started(writer.write())
        writer.put("a", backends=[keyed_backend("openai", parameters={"seed": after})])
        configuration = take(state, writer.write().reading()).configuration
        assert configuration is not None
        assert type(configuration.models["a"].live.parameters["seed"]) is type(after)


# -- documents that must not come into force: (what is in the volume, the reason that is given)

BROKEN: dict[str, tuple[Callable[[Writer], Files], Reason]] = {
    "torn document": (lambda w: w.files | {"config.yml": w.files["config.yml"][:-20]}, Reason.DIGEST_MISMATCH),
    "half a manifest": (
        lambda w: w.files | {"config.manifest.json": w.files["config.manifest.json"][:40]},
        Reason.MANIFEST_INVALID,
    ),
    "empty document": (lambda w: w.files | {"config.yml": b""}, Reason.DIGEST_MISMATCH),
    "empty manifest": (lambda w: w.files | {"config.manifest.json": b""}, Reason.MANIFEST_INVALID),
    "document gone": (lambda w: {n: c for n, c in w.files.items() if n != "config.yml"}, Reason.MISSING),
    "manifest gone": (
        lambda w: {n: c for n, c in w.files.items() if n != "config.manifest.json"} | {"models-00.manifest.json": b"{}"},
        Reason.MISSING,
    ),
    "not JSON": (lambda w: manifested(w, b"app: {port: 8000}\n"), Reason.DOCUMENT_INVALID),
    "not an object": (lambda w: manifested(w, b"[1]"), Reason.DOCUMENT_INVALID),
    "empty with fitting digest": (lambda w: manifested(w, b""), Reason.DOCUMENT_INVALID),
    "NaN": (lambda w: manifested(w, b'{"app": NaN}'), Reason.DOCUMENT_INVALID),
    "deeply nested": (lambda w: manifested(w, b"[" * 100_000 + b"]" * 100_000), Reason.DOCUMENT_INVALID),
    "not UTF-8": (lambda w: manifested(w, b'{"app": "\xff"}'), Reason.DOCUMENT_INVALID),
    "a section missing": (lambda w: manifested(w, b'{"ai-gateway":{"virtual_models":{}}}'), Reason.DOCUMENT_INVALID),
    "a wrong type": (lambda w: edited(w, app={"host": "x", "port": "8000", "debug": False}), Reason.DOCUMENT_INVALID),
    "models no mapping": (lambda w: edited(w, **{"ai-gateway": {"virtual_models": []}}), Reason.DOCUMENT_INVALID),
    "one bad model": (
        lambda w: edited(w, **{"ai-gateway": {"virtual_models": {"bad": {"use": True, "current": "gone"}}}}),
        Reason.DOCUMENT_INVALID,
    ),
    "huge": (lambda w: manifested(w, b'{"a":"' + b"x" * 1024 * 1024 + b'"}'), Reason.TOO_LARGE),
    "another major": (lambda w: w.changed_manifest(schema="2.0", revision=9), Reason.UNSUPPORTED_SCHEMA),
    "another major and shape": (lambda w: w.changed_manifest(schema="2.0", sha256=...), Reason.UNSUPPORTED_SCHEMA),
    "no schema": (lambda w: w.changed_manifest(schema=...), Reason.MANIFEST_INVALID),
    "schema is no version": (lambda w: w.changed_manifest(schema="new"), Reason.UNSUPPORTED_SCHEMA),
    "revision is no number": (lambda w: w.changed_manifest(revision="9"), Reason.MANIFEST_INVALID),
    "another gateway": (lambda w: w.changed_manifest(gateway="ai/other", revision=9), Reason.OTHER_GATEWAY),
    "another number of shards": (lambda w: w.changed_manifest(shards=2, revision=9), Reason.OTHER_SHARD),
    "another shard": (lambda w: w.changed_manifest(shard=0, revision=9), Reason.OTHER_SHARD),
    "no number of shards": (lambda w: w.changed_manifest(shards=0, revision=9), Reason.OTHER_SHARD),
    "other content, same revision": (
        lambda w: (
            edited(w, app={"host": "x", "port": 1, "debug": False})
            | {
                "config.manifest.json": manifested(
                    w, edited(w, app={"host": "x", "port": 1, "debug": False})["config.yml"], revision=w.revision
                )["config.manifest.json"]
            }
        ),
        Reason.SAME_REVISION,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_and_the_last_good_stays(name: str) -> None:
    """Whatever is wrong with a newer config.yml, readers keep what they have, with the reason, and recover with the next."""
    make, reason = BROKEN[name]
    writer = make_writer()
    state, configuration = started(writer)
    if reason in (Reason.DIGEST_MISMATCH, Reason.MISSING):
        writer.put("chat", current="big")
        writer.write()  # an edit of which half arrives
    outcome = take(state, mounted(writer, make(writer)))
    assert reason.value in reasons(outcome), outcome.faults
    assert reason in outcome.rejected
    assert outcome.configuration is configuration
    writer.revision += 1  # whatever broke it may have used up a number
    writer.put("chat", current="big", use=False)
    mended = take(state, writer.write().reading())
    assert mended.faults == ()
    assert mended.configuration is not None
    assert mended.configuration.models["chat"].use is False


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_at_the_start_is_not_served(name: str) -> None:
    """Without a last good one there is no configuration rather than half of one."""
    make, reason = BROKEN[name]
    if name in ("other content, same revision", "another gateway", "document gone"):
        return  # nothing to compare with at the start, or said in other words
    outcome = take(State(), mounted(writer := make_writer(), make(writer)))
    assert outcome.configuration is None
    assert outcome.faults, reason


def test_a_fault_of_an_old_document_is_forgotten_when_a_newer_one_is_in_force() -> None:
    """The error says why the newest is not in force; a torn revision 2 is of no interest once 3 is."""
    writer = make_writer()
    state, _ = started(writer)
    writer.put("chat", current="big")
    writer.write()
    torn = writer.files | {"config.yml": b"torn"}
    assert reasons(take(state, MemoryReading(torn), "api")) == {"DigestMismatch"}
    writer.put("chat", use=False)
    outcome = take(state, writer.write().reading())
    assert outcome.faults == ()


def test_a_minor_version_with_extra_keys_is_read() -> None:
    """An old reader and a newer operator of the same major: keys it does not know are ignored at every level."""
    writer = make_writer()
    state, _ = started(writer)
    document = json.loads(writer.files["config.yml"])
    document["app"] |= {"port": 9000, "workers": 4}
    document["new_section"] = {"a": 1}
    document["ai-gateway"]["routes"] = []
    document["ai-gateway"]["virtual_models"]["chat"]["weight"] = 5
    document["ai-gateway"]["virtual_models"]["chat"]["small"]["region"] = "eu"
    content = json.dumps(document).encode()
    outcome = take(state, mounted(writer, manifested(writer, content, schema="1.7", later="x")))
    assert outcome.faults == ()
    assert outcome.configuration is not None
    assert outcome.configuration.app.port == 9000
    assert set(outcome.configuration.models["chat"].backends) == {"small", "big"}


def test_duplicate_keys_of_a_verified_document_take_the_last() -> None:
    """As every JSON parser does; the digest says that the operator wrote it so."""
    writer = make_writer()
    state, _ = started(writer)
    content = writer.files["config.yml"].rstrip()[:-1] + b',"app":{"host":"h","port":7,"debug":false}}'
    outcome = take(state, mounted(writer, manifested(writer, content)))
    assert outcome.configuration is not None
    assert outcome.configuration.app.port == 7


def test_a_text_of_a_fault_holds_no_value_of_the_document() -> None:
    """Parameters may hold what nobody should read in a log."""
    writer = make_writer()
    state, _ = started(writer)
    outcome = take(state, mounted(writer, edited(writer, app={"host": "canary-value", "port": "canary-value", "debug": 1})))
    assert reasons(outcome) == {"DocumentInvalid"}
    assert "canary-value" not in " ".join(map(str, outcome.faults))
    assert "app.port" in " ".join(map(str, outcome.faults))


# -- revisions and shards


def test_a_stale_shard_is_passed_over_and_is_no_error_of_the_volume() -> None:
    """A volume lags behind a faster source: what is older is not taken, and nothing is wrong."""
    writer = make_writer("a", "b", shards=2)
    state, _ = started(writer)
    old = writer.reading()
    writer.put("a", current="big")
    fast = take(state, writer.write().reading(documents_only=True), "api")
    assert fast.configuration is not None
    assert fast.configuration.models["a"].current == "big"
    behind = take(state, old)
    assert behind.configuration is fast.configuration
    assert behind.faults == ()
    assert behind.rejected == ()


def test_an_older_document_of_a_fast_source_is_counted() -> None:
    """A replay is ignored, counted, and no error."""
    writer = make_writer()
    state, _ = started(writer)
    old = writer.reading(documents_only=True)
    writer.put("chat", current="big")
    now = take(state, writer.write().reading()).configuration
    outcome = take(state, old, "redis")
    assert outcome.configuration is now
    assert outcome.faults == ()
    assert outcome.rejected == (Reason.STALE,)


def test_one_torn_shard_leaves_the_others_current() -> None:
    """Shards are independent: the torn one stays as it was, the others go on."""
    writer = make_writer("a", "b", shards=2)  # a is 97 → shard 1, b is 98 → shard 0
    state, before = started(writer)
    writer.put("a", current="big")
    writer.put("b", current="big")
    writer.write()
    outcome = take(state, mounted(writer, writer.files | {"models-01.yml": b"torn"}))
    assert outcome.configuration is not None
    assert outcome.configuration.models["a"] is before.models["a"]
    assert outcome.configuration.models["b"].current == "big"
    assert [fault.file for fault in outcome.faults] == ["models-01.yml"]


def test_a_shard_that_vanishes_stays_and_is_named() -> None:
    """A ConfigMap that was deleted by hand costs no model."""
    writer = make_writer("a", "b", shards=2)
    state, before = started(writer)
    files = {name: content for name, content in writer.files.items() if not name.startswith("models-01")}
    outcome = take(state, mounted(writer, files))
    assert outcome.configuration is before
    assert [(fault.file, fault.reason) for fault in outcome.faults] == [("models-01.yml", Reason.MISSING)]


def test_an_emptied_volume_changes_nothing() -> None:
    """An optional ConfigMap that goes away leaves what was last good, credentials too."""
    writer = make_writer()
    state, before = started(writer)
    outcome = take(state, mounted(writer, {}, {}))
    assert outcome.configuration is before
    assert [(fault.file, fault.reason) for fault in outcome.faults] == [("config.yml", Reason.MISSING)], "and says so"


def test_a_volume_without_documents_is_no_fault_where_another_source_brings_them() -> None:
    """Pods that watch the API may mount the credentials alone."""
    writer, state = make_writer(), State()
    take(state, mounted(writer, {}))
    outcome = state.take("api", MemoryReading(writer.files), NOW)
    assert outcome.configuration is not None
    assert take(state, mounted(writer, {})).faults == ()


def test_a_model_in_two_documents_is_taken_from_the_newer() -> None:
    """However it came there: the result depends on revisions, not on the order of arrival."""
    writer = make_writer("a", "b", shards=2)
    both = json.loads(writer.files["models-00.yml"])
    entry = json.loads(writer.files["models-01.yml"])["ai-gateway"]["virtual_models"]["a"]
    both["ai-gateway"]["virtual_models"]["a"] = entry | {"current": "big"}
    content = json.dumps(both).encode()
    manifest = json.loads(writer.files["models-00.manifest.json"])
    for revision, current in ((5, "big"), (1, "small")):  # in both of revision 1 the later file wins: models-01
        manifest |= {"sha256": sha256(content).hexdigest(), "revision": revision}
        files = writer.files | {"models-00.yml": content, "models-00.manifest.json": json.dumps(manifest).encode()}
        configuration = take(State(), mounted(writer, files)).configuration
        assert configuration is not None
        assert configuration.models["a"].current == current


def test_a_rewritten_manifest_of_the_same_document_is_taken_note_of() -> None:
    """A newer operator may write another minor without the document moving; nothing is reloaded, nothing is wrong."""
    writer = make_writer()
    state, before = started(writer)
    outcome = take(state, mounted(writer, writer.changed_manifest(schema="1.1")))
    assert outcome.configuration is before
    assert outcome.faults == ()


# -- credentials


def test_a_document_waits_for_the_credentials_it_names() -> None:
    """Documents before credentials: the old one serves until the key is there, then the new one does."""
    writer = make_writer()
    state, before = started(writer)
    old_credentials = dict(writer.credentials)
    writer.put("chat", backends=[keyed_backend("fresh")])
    writer.values["fresh.api-key"] = "sk-fresh"
    writer.write()
    outcome = take(state, mounted(writer, credentials=old_credentials))
    assert outcome.configuration is before
    assert reasons(outcome) == {"CredentialsPending"}
    assert "fresh.api-key" in str(outcome.faults[0])
    outcome = take(state, writer.reading())
    assert outcome.faults == ()
    assert outcome.configuration is not None
    key = outcome.configuration.models["chat"].live.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-fresh"


def test_a_document_of_a_fast_source_waits_for_the_volumes_credentials() -> None:
    """The API brings a document before the kubelet brings its key: promoted by the volume, without a new offer."""
    writer = make_writer()
    state, before = started(writer)
    old = writer.reading()
    writer.put("chat", backends=[keyed_backend("fresh")])
    writer.values["fresh.api-key"] = "sk-fresh"
    writer.write()
    assert take(state, writer.reading(documents_only=True), "api").configuration is before
    late = MemoryReading(old.files, MemoryReading(dict(writer.credentials)))  # credentials swap first
    outcome = take(state, late)
    assert outcome.configuration is not None
    assert outcome.configuration.models["chat"].live.api_key_ref == "fresh.api-key"
    assert outcome.faults == ()


def test_the_volume_may_pass_a_document_that_waits() -> None:
    """7 waits for its key, 6 does not: 6 comes into force meanwhile."""
    writer = make_writer()
    state, _ = started(writer)
    writer.put("chat", current="big")
    middle = writer.write().reading()
    writer.put("chat", backends=[keyed_backend("fresh")])
    newest = MemoryReading(dict(writer.write().files))
    take(state, newest, "api")
    outcome = take(state, middle)
    assert outcome.configuration is not None
    assert outcome.configuration.models["chat"].current == "big"
    assert reasons(outcome) == {"CredentialsPending"}


def test_what_is_known_to_be_missing_is_not_waited_for() -> None:
    """No Secret: the model is served without its key (503), rather than the whole document held back."""
    writer = make_writer()
    state, _ = started(writer)
    writer.put("chat", backends=[keyed_backend("absent")])
    writer.write()
    manifest = json.loads(writer.credentials["_manifest.json"])
    manifest |= {"missing": ["absent.api-key"], "credentialsRevision": 9}
    credentials = writer.credentials | {"_manifest.json": json.dumps(manifest).encode()}
    configuration = take(state, mounted(writer, credentials=credentials)).configuration
    assert configuration is not None
    assert configuration.models["chat"].live.api_key_ref == "absent.api-key"
    assert configuration.models["chat"].live.api_key is None


def test_a_rotated_secret_reaches_readers_without_a_new_document() -> None:
    """Only the credentials moved: a new configuration, and only the models that name the key are other objects."""
    writer = Writer()
    writer.values["other.api-key"] = "sk-other"
    writer.put("a", backends=[keyed_backend("openai")])
    writer.put("b", backends=[keyed_backend("other")])
    state, before = started(writer.write())
    writer.values["openai.api-key"] = "sk-two"
    after = take(state, writer.write().reading()).configuration
    assert after is not None
    assert after is not before
    key = after.models["a"].live.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-two"
    assert after.models["b"] is before.models["b"]
    assert after.documents == before.documents
    assert after.credentials == {"_manifest.json": 2}


def test_a_revoked_key_is_gone_and_its_model_stays() -> None:
    """The Secret vanished: callers get 401, the model is not lost."""
    writer = make_writer()
    state, _ = started(writer)
    del writer.values["chat-keys.proxy"]
    configuration = take(state, writer.write().reading()).configuration
    assert configuration is not None
    assert configuration.models["chat"].proxy_key is None
    assert configuration.secret("chat-keys.proxy") is None


def test_a_key_that_a_document_in_force_names_outlives_its_manifest_entry() -> None:
    """The operator dropped a key that no new document names; this reader, still on the old document, keeps it."""
    writer = make_writer()
    state, before = started(writer)
    manifest = json.loads(writer.credentials["_manifest.json"])
    manifest |= {"keys": ["chat-keys.proxy"], "missing": [], "credentialsRevision": 7}
    credentials = {"_manifest.json": json.dumps(manifest).encode(), "chat-keys.proxy": b"caller-key"}
    configuration = take(state, mounted(writer, credentials=credentials)).configuration
    assert configuration is not None
    assert configuration.models["chat"] is before.models["chat"]


def test_a_key_that_is_revoked_before_the_first_set_is_complete_is_gone() -> None:
    """Documents that were waiting named it; what came into force in their place does not."""
    writer = Writer(shards=2, values={"one.api-key": "one", "chat-keys.proxy": "p"})
    writer.put("a", backends=[keyed_backend("one")])
    state = State()
    take(state, mounted(writer.write(), writer.files | {"config.yml": b"torn"}))
    del writer.models["a"], writer.values["one.api-key"]
    configuration = take(state, writer.write().reading()).configuration
    assert configuration is not None
    assert configuration.secrets.keys() == {"chat-keys.proxy"}


BAD_CREDENTIALS: dict[str, Callable[[Writer], Files]] = {
    "half a manifest": lambda w: w.credentials | {"_manifest.json": w.credentials["_manifest.json"][:30]},
    "older": lambda w: w.credentials | {"_manifest.json": _credentials_manifest(w, credentialsRevision=0)},
    "same revision, other keys": lambda w: w.credentials | {"_manifest.json": _credentials_manifest(w, keys=[])},
    "another lineage": lambda w: (
        w.credentials
        | {"_manifest.json": _credentials_manifest(w, lineage="x", credentialsRevision=9), "openai.api-key": b"wrong"}
    ),
    "another gateway": lambda w: (
        w.credentials
        | {"_manifest.json": _credentials_manifest(w, gateway="ai/other", credentialsRevision=9), "openai.api-key": b"wrong"}
    ),
    "a listed file is not there": lambda w: {
        "_manifest.json": _credentials_manifest(w, credentialsRevision=9),
        "chat-keys.proxy": b"wrong",
    },
    "all gone": lambda w: {},
}


def _credentials_manifest(writer: Writer, **changes: Any) -> bytes:
    return json.dumps({**json.loads(writer.credentials["_manifest.json"]), **changes}).encode()


@pytest.mark.parametrize("name", BAD_CREDENTIALS)
def test_broken_credentials_leave_those_in_force(name: str) -> None:
    """A Secret is taken as a whole or not at all."""
    writer = make_writer()
    state, before = started(writer)
    assert take(state, mounted(writer, credentials=BAD_CREDENTIALS[name](writer))).configuration is before


def test_a_credential_that_is_no_text_counts_as_missing() -> None:
    """Binary rubbish under one key must not hold back every other model."""
    writer = make_writer()
    credentials = writer.credentials | {"openai.api-key": b"\xff\xfe"}
    outcome = take(State(), mounted(writer, credentials=credentials))
    assert outcome.configuration is not None
    assert outcome.configuration.models["chat"].live.api_key is None
    assert [(fault.file, fault.reason) for fault in outcome.faults] == [("openai.api-key", Reason.UNREADABLE)]


def test_a_credential_that_was_no_text_once_is_waited_for_when_it_is_named_again() -> None:
    """Dropped meanwhile and mended since: a document that comes before its key would answer callers 503 until that is there."""
    writer = make_writer()
    writer.values["fresh.api-key"] = "sk-fresh"
    writer.put("chat", backends=[keyed_backend("fresh")])
    writer.write()
    state = State()
    rubbish = {"fresh.api-key": b"\xff\xfe"}
    broken = take(state, mounted(writer, credentials=writer.credentials | rubbish)).configuration
    assert broken is not None
    assert broken.models["chat"].live.api_key is None
    writer.put("chat")
    writer.write()
    take(state, mounted(writer, credentials=writer.credentials | rubbish))
    del writer.values["fresh.api-key"]  # as the operator does it: once every pod runs the document that names it no more
    without = take(state, writer.write().reading()).configuration
    assert without is not None
    assert without.models["chat"].live.api_key_ref != "fresh.api-key"
    writer.values["fresh.api-key"] = "sk-mended"
    writer.put("chat", backends=[keyed_backend("fresh")])
    writer.write()
    early = take(state, writer.reading(documents_only=True), "api")
    assert early.configuration is without
    assert reasons(early) == {"CredentialsPending"}
    mended = take(state, writer.reading()).configuration
    assert mended is not None
    key = mended.models["chat"].live.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-mended"


def test_the_key_of_the_mirror_is_read_even_if_no_manifest_lists_it() -> None:
    """`_mirror.key` is beside the credentials; the Redis source verifies with it."""
    writer = make_writer()
    configuration = take(State(), mounted(writer, credentials=writer.credentials | {"_mirror.key": b"00ff"})).configuration
    assert configuration is not None
    key = configuration.secret("_mirror.key")
    assert key is not None
    assert key.get_secret_value() == "00ff"


# -- lineages


def test_another_life_of_the_gateway_replaces_the_old_when_it_is_complete() -> None:
    """Deleted and made again: revisions start anew, and the old set serves until the whole new one is there."""
    old = make_writer("a", "b", shards=2, revision=40)
    state, before = started(old)
    new = make_writer("a", "c", shards=2, lineage="lineage-b")
    shards = [file for file in sorted(new.files) if file.startswith("models-01")]
    partial = {**old.files, **{name: content for name, content in new.files.items() if name not in shards}}
    outcome = take(state, mounted(new, partial))
    assert outcome.configuration is before
    assert "Incomplete" in reasons(outcome)
    outcome = take(state, new.reading())
    assert outcome.faults == ()
    assert outcome.configuration is not None
    assert (outcome.configuration.lineage, set(outcome.configuration.models)) == ("lineage-b", {"a", "c"})
    assert outcome.configuration.documents["config.yml"].revision == 1


def test_a_new_lineage_waits_for_its_own_credentials() -> None:
    """The old lineage's Secret does not open the new lineage's documents."""
    old = make_writer()
    state, before = started(old)
    new = make_writer(lineage="lineage-b")
    outcome = take(state, mounted(new, credentials=old.credentials))
    assert outcome.configuration is before
    assert "CredentialsPending" in reasons(outcome)
    configuration = take(state, new.reading()).configuration
    assert configuration is not None
    assert configuration.lineage == "lineage-b"


def test_a_lineage_that_was_replaced_does_not_come_back() -> None:
    """A stale view of the cluster shows the old life again: it stays away."""
    old, new = make_writer(), make_writer(lineage="lineage-b")
    state, _ = started(old)
    now = take(state, new.reading()).configuration
    outcome = take(state, old.reading())
    assert outcome.configuration is now
    assert "OtherLineage" in reasons(outcome)


def test_a_fast_source_cannot_change_the_lineage() -> None:
    """Only the mounted volume decides; what else brings another lineage is ignored and counted."""
    state, before = started(make_writer())
    outcome = take(state, make_writer(lineage="lineage-b", revision=90).reading(documents_only=True), "redis")
    assert outcome.configuration is before
    assert outcome.faults == ()
    assert outcome.rejected == (Reason.OTHER_LINEAGE,)


def test_what_a_fast_source_brought_too_early_is_taken_once_the_volume_names_its_lineage() -> None:
    """The API is ahead of the kubelet over a re-creation: its newer revision serves without a new offer."""
    state, _ = started(make_writer())
    new = make_writer(lineage="lineage-b")
    first = new.reading()
    new.put("chat", current="big")
    take(state, new.write().reading(documents_only=True), "api")
    configuration = take(state, first).configuration
    assert configuration is not None
    assert configuration.models["chat"].current == "big"


def test_documents_of_the_api_alone_with_mounted_credentials_suffice() -> None:
    """No ConfigMap is mounted: the credentials' manifest decides the lineage, in either order of arrival."""
    writer = make_writer("a", shards=2)
    volume, api = mounted(writer, {}), writer.reading(documents_only=True)
    for order in ([("volume", volume), ("api", api)], [("api", api), ("volume", volume)]):
        state = State()
        outcomes = [take(state, reading, source) for source, reading in order]
        assert outcomes[-1].configuration is not None
        assert outcomes[-1].faults == ()


def test_a_reader_of_one_gateway_refuses_another() -> None:
    """The wrong ConfigMap is mounted: nothing of it is served."""
    outcome = take(State("ai/other"), make_writer().reading())
    assert outcome.configuration is None
    assert "OtherGateway" in reasons(outcome)


# -- reading


class _Swapped:
    """A reading whose folder is swapped before a given file is read."""

    def __init__(self, reading: MemoryReading, at: str) -> None:
        self._reading, self._at = reading, at
        self.credentials = reading.credentials

    def names(self) -> Any:
        return self._reading.names()

    def read(self, name: str) -> bytes | None:
        if name == self._at:
            raise ReadingMoved("swapped")
        return self._reading.read(name)


@pytest.mark.parametrize("at", ["config.manifest.json", "models-00.manifest.json", "models-00.yml", "models-01.yml"])
def test_a_volume_that_is_swapped_while_it_is_read_changes_nothing(at: str) -> None:
    """Half a reading is no reading: the same state takes the next one as if nothing had been."""
    writer = make_writer("a", "b", shards=2)
    state, before = started(writer)
    writer.put("a", current="big")
    writer.put("b", current="big")
    writer.write()
    with pytest.raises(ReadingMoved):
        take(state, _Swapped(writer.reading(), at))
    assert state.configuration is before
    after = take(state, writer.reading()).configuration
    assert after is not None
    assert [after.models[name].current for name in "ab"] == ["big", "big"]


def test_a_file_that_cannot_be_read_is_a_fault_and_the_last_good_stays() -> None:
    """EIO on one shard: named, and the others go on."""

    class Unreadable(_Swapped):
        def read(self, name: str) -> bytes | None:
            if name == self._at:
                raise OSError(5, "Input/output error")
            return self._reading.read(name)

    writer = make_writer("a", "b", shards=2)
    state, before = started(writer)
    writer.put("a", current="big")
    outcome = take(state, Unreadable(writer.write().reading(), "models-01.yml"))
    assert outcome.configuration is before
    assert [(fault.file, fault.reason) for fault in outcome.faults] == [("models-01.yml", Reason.UNREADABLE)]
    assert "Input/output error" in str(outcome.faults[0])


def test_a_shard_beyond_their_number_is_refused() -> None:
    """Left over, or made by somebody: its models are in another shard as well, and it would bring old ones back."""
    writer = make_writer()
    manifest = {**json.loads(writer.files["config.manifest.json"]), "shards": 2}
    for shard, fits in ((1, True), (2, False), (63, False)):
        content = json.dumps({**manifest, "shard": shard}).encode()
        name = documents.document_manifest(shard)
        if fits:
            assert parse_manifest(name, content).shards == 2
            continue
        with pytest.raises(Refused) as refused:
            parse_manifest(name, content)
        assert refused.value.fault.reason is Reason.OTHER_SHARD
