"""Property: whatever arrives in whatever order, readers see only complete, verified documents, and nothing goes back.

Random interleavings of edits by an operator (real rendering), of what a kubelet shows (each ConfigMap and the Secrets of their
own moment, files torn, cut, gone, of another gateway, swapped while read), of faster sources that are ahead, behind or of
another lineage, and of re-creations of the gateway. A ledger holds everything that was ever written.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway_config.api_watch import ApiWatch
from aigateway_config.configuration import Configuration
from aigateway_config.errors import ReadingMoved
from aigateway_config.source import MemoryReading
from aigateway_config.state import State
from tests.unit.config.writer import Files, Writer, keyed_backend

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a", "b", "c", "d")  # a and c are in shard 1 of 2, b and d in shard 0
SECRETS = ("one", "two")

EDITS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(SECRETS), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("rotate"), st.sampled_from(SECRETS), st.integers(0, 5)),
    st.tuples(st.just("revoke"), st.sampled_from(SECRETS)),
    st.tuples(st.just("settings"), st.integers(8000, 8003)),
    st.just(("renumber",)),
)
DAMAGE = st.sampled_from(
    ["none", "none", "none", "torn", "cut manifest", "gone", "no manifest", "other gateway", "major", "moved"]
)
ARRIVALS = st.tuples(
    st.sampled_from(["volume", "volume", "api", "redis"]),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),  # how old config, shard 0, shard 1 and the Secrets are
    DAMAGE,
    st.integers(0, 2),  # the document that is damaged
    st.sets(st.integers(0, 2), max_size=2),  # documents that a fast source leaves out
)
STEPS = st.lists(
    st.one_of(
        EDITS.map(lambda step: ("edit", step)),
        ARRIVALS.map(lambda step: ("arrive", step)),
        ARRIVALS.map(lambda step: ("arrive", step)),
        st.just(("recreate", ())),
    ),
    min_size=3,
    max_size=14,
)


class Moved(MemoryReading):
    """A reading whose folder is swapped before its last document is read."""

    def read(self, name: str) -> bytes | None:
        if name == max((name for name in self.files if name.endswith(".yml")), default=None):
            raise ReadingMoved("swapped")
        return super().read(name)


@dataclass
class Run:
    """One run: the operator, everything it ever wrote, the reader, and what the reader was seen to have."""

    shards: int
    writer: Writer = field(init=False)
    state: State = field(default_factory=lambda: State("ai/main"))
    history: list[tuple[Files, Files]] = field(default_factory=list)
    written: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    lives: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)
    starts: dict[str, int] = field(default_factory=dict)
    oldest: int = 0
    last: tuple[Configuration, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.writer = self._life()
        self.write()

    def _life(self) -> Writer:
        self.lives.append(f"lineage-{len(self.lives)}")
        writer = Writer(lineage=self.lives[-1], shards=self.shards, values={"one.api-key": "one-0", "chat-keys.proxy": "p"})
        writer.put("a", backends=[keyed_backend("one")])
        return writer

    def write(self) -> None:
        """Let the operator write, and enter it into the ledger."""
        writer = self.writer.write()
        for name, value in writer.values.items():
            self.values.setdefault(name, set()).add(value)
        for name, content in writer.files.items():
            if name.endswith(".yml"):
                revision = json.loads(writer.files[name.removesuffix(".yml") + ".manifest.json"])["revision"]
                known = self.written.setdefault((writer.lineage, name, revision), content)
                assert known == content, "the tests' own operator wrote one revision twice"
        self.starts.setdefault(writer.lineage, len(self.history))
        self.history.append((dict(writer.files), dict(writer.credentials)))

    def edit(self, what: str, *rest: Any) -> None:
        """Change something, as a user would."""
        if what == "put":
            name, secret, current = rest
            backends = [keyed_backend(secret), keyed_backend(secret, "big")]
            self.writer.put(name, current=("small", "big")[current % 2], use=current < 2, backends=backends)
        elif what == "delete":
            self.writer.models.pop(rest[0], None)
        elif what == "rotate":
            self.writer.values[f"{rest[0]}.api-key"] = f"{rest[0]}-{rest[1]}"
        elif what == "revoke":
            self.writer.values.pop(f"{rest[0]}.api-key", None)
        elif what == "renumber":  # the same contents under numbers beyond those that a pod has reported
            self.writer.files = {}
        else:
            self.writer.spec = {"app": {"port": rest[0]}}
        self.write()

    def arrive(self, source: str, ages: list[int], damage: str, where: int, without: set[int]) -> None:
        """Show the reader something: each part as old as `ages` says, one document damaged."""
        names = ["config", *(f"models-{shard:02d}" for shard in range(self.shards) if self.shards > 1)]
        files: Files = {}
        for name, age in zip(names, ages, strict=False):
            if source == "volume" or names.index(name) not in without:
                then = self._view(age)[0]
                files |= {f"{name}{suffix}": then[f"{name}{suffix}"] for suffix in (".yml", ".manifest.json")}
        credentials = self._view(ages[3])[1]
        name = names[where % len(names)]
        if name + ".yml" in files:
            _damage(files, name, damage)
        if source == "api" and self.state.configuration is not None:
            files = _less_what_is_in_force(files, self.state.configuration)
        reading_type = Moved if damage == "moved" and files else MemoryReading
        reading = reading_type(files, MemoryReading(credentials) if source == "volume" else None)
        with suppress(ReadingMoved):
            self.state.take(source, reading, NOW)
        self.check()

    def _view(self, age: int) -> tuple[Files, Files]:
        """Return what the operator had written some writes ago.

        Not of a life before the first that came into force: that one would look like a new one, and no kubelet shows it.
        """
        return self.history[max(len(self.history) - 1 - age, self.oldest)]

    def recreate(self) -> None:
        """Delete the gateway and make it anew."""
        self.writer = self._life()
        self.write()

    def check(self) -> None:
        """Assert what readers may rely on."""
        configuration = self.state.configuration
        if self.last is not None:
            assert self.last[0].as_dict() == self.last[1], "a configuration changed under its readers"
            assert configuration is not None, "a configuration was lost"
            if configuration.lineage != self.last[0].lineage:
                self.left.add(self.last[0].lineage)
            assert configuration.lineage not in self.left, "an old lineage came back"
        if configuration is None:
            return
        lineage = configuration.lineage
        if self.last is None:
            self.oldest = self.starts[lineage]
        expected: dict[str, Any] = {}
        for file, state in configuration.documents.items():
            content = self.written[lineage, file, state.revision]  # KeyError: a revision that was never written
            assert state.revision >= self.seen.get((lineage, file), 0), f"{file} went back"
            self.seen[lineage, file] = state.revision
            expected |= json.loads(content)["ai-gateway"]["virtual_models"]
        assert len(configuration.documents) == (1 if self.shards == 1 else 1 + self.shards), "a document is lost"
        tree: Any = configuration.as_dict()
        assert tree["ai-gateway"]["virtual_models"] == expected, "models are not those of the documents in force"
        for file, revision in configuration.credentials.items():
            assert revision >= self.seen.get((lineage, file), 0), f"{file} went back"
            self.seen[lineage, file] = revision
        for model in configuration.models.values():
            for ref, key in [
                (model.proxy_key_ref, model.proxy_key),
                *((backend.api_key_ref, backend.api_key) for backend in model.backends.values() if backend.api_key_ref),
            ]:
                assert key is configuration.secret(ref)
                assert key is None or key.get_secret_value() in self.values[ref or ""]
        if self.last is None or configuration is not self.last[0]:
            self.last = configuration, tree

    def finish(self) -> None:
        """In the end all of it arrives, and all of it is in force, with no fault left."""
        for source in ("api", "redis"):  # each source has the last word about its own faults
            self.state.take(source, self.writer.reading(documents_only=True), NOW)
            self.check()
        outcome = self.state.take("volume", self.writer.reading(), NOW)
        self.check()
        assert outcome.configuration is not None
        assert outcome.configuration.lineage == self.writer.lineage
        manifests = {name: json.loads(content) for name, content in self.writer.files.items() if name.endswith(".json")}
        newest = {name.replace(".manifest.json", ".yml"): manifest["revision"] for name, manifest in manifests.items()}
        shown = {file: state.revision for file, state in outcome.configuration.documents.items()}
        assert shown == newest
        assert outcome.faults == ()
        held = {name: value.get_secret_value() for name, value in outcome.configuration.secrets.items()}
        assert held == self.writer.values


def _less_what_is_in_force(files: Files, configuration: Configuration) -> Files:
    """Return what the API source keeps of files that it has shown: no document that is in force as its manifest says."""
    source = ApiWatch("main")
    source.follow(configuration)
    pairs: dict[str, Files] = {}
    for name in sorted(files, reverse=True):  # a document before its manifest, as the source has them
        pairs.setdefault(name.split(".")[0], {})[name] = files[name]
    return {name: content for pair in pairs.values() for name, content in source._needed(pair).items()}


def _damage(files: Files, name: str, damage: str) -> None:
    manifest = json.loads(files[f"{name}.manifest.json"])
    if damage == "torn":
        files[f"{name}.yml"] = files[f"{name}.yml"][:-9]
    elif damage == "cut manifest":
        files[f"{name}.manifest.json"] = files[f"{name}.manifest.json"][:-9]
    elif damage == "gone":
        del files[f"{name}.yml"], files[f"{name}.manifest.json"]
    elif damage == "no manifest":
        del files[f"{name}.manifest.json"]
    elif damage == "other gateway":
        files[f"{name}.manifest.json"] = json.dumps(manifest | {"gateway": "ai/other", "revision": 99}).encode()
    elif damage == "major":
        files[f"{name}.manifest.json"] = json.dumps(manifest | {"schema": "2.0", "revision": 99}).encode()


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, shards=st.sampled_from([1, 2]))
def test_readers_only_ever_see_complete_verified_documents(steps: list[tuple[str, Any]], shards: int) -> None:
    """See the module: verified documents only, no revision back within a lineage, no model lost by a fault, and recovery."""
    run = Run(shards)
    for kind, step in steps:
        if kind == "edit":
            run.edit(*step)
        elif kind == "arrive":
            run.arrive(*step)
        else:
            run.recreate()
    run.finish()
