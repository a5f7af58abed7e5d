"""What is known of one lineage: documents in force, documents that wait, credentials. Pure.

The state machine works on a copy and keeps it when a reading was judged to its end. Decides which document comes into force;
knows nothing of sources and of other lineages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.errors import Fault, Reason
from aigateway_config.model import Backend, Model
from aigateway_config.verification import CredentialSet, Head, Loaded, credentials_of, expected_files


@dataclass(slots=True)
class Era:
    """One lineage of one gateway.

    in_force: what readers see. waiting: verified documents that are newer, of which credentials are lacking, or documents of a
    set that is not complete. values: credentials by file; unusable: files that are there and are no text; unlisted:
    values that no manifest lists and that are kept for documents that name them. Mappings of values are replaced, never
    changed, since configurations share them.
    """

    lineage: str
    gateway: str
    in_force: dict[str, Loaded] = field(default_factory=dict)
    waiting: dict[str, Loaded] = field(default_factory=dict)
    sets: dict[str, CredentialSet] = field(default_factory=dict)
    values: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    unusable: frozenset[str] = frozenset()
    unlisted: frozenset[str] = frozenset()

    def copy(self) -> Era:
        """Return a copy whose changes leave this one as it is."""
        return replace(self, in_force=dict(self.in_force), waiting=dict(self.waiting), sets=dict(self.sets), values=self.values)

    def newest(self, file: str) -> Loaded | None:
        """Return the newest verified document of that name, in force or not."""
        return self.waiting.get(file) or self.in_force.get(file)

    def revision(self, file: str) -> int:
        """Return the revision in force, -1 for none."""
        loaded = self.in_force.get(file)
        return -1 if loaded is None else loaded.head.revision

    @property
    def shards(self) -> int:
        """Return the number of shards that the newest config.yml states, 0 without one."""
        config = self.in_force.get(documents.CONFIG_FILE) or self.waiting.get(documents.CONFIG_FILE)
        return 0 if config is None else config.head.shards

    def _known(self, file: str) -> Iterator[Loaded]:
        yield from (known for known in (self.in_force.get(file), self.waiting.get(file)) if known is not None)

    def head(self, file: str, content: bytes) -> Head | None:
        """Return the manifest with this content, if it is that of a known document."""
        for known in (self.in_force.get(file), self.waiting.get(file)):
            if known is not None and known.head.content == content:
                return known.head
        return None

    def runs(self, head: Head) -> bool:
        """Whether this very manifest, as `head` returned it, is that of a document in force."""
        loaded = self.in_force.get(head.file)
        return loaded is not None and loaded.head is head

    def of_revision(self, file: str, revision: int) -> Loaded | None:
        """Return the known document of exactly that revision."""
        return next((known for known in self._known(file) if known.head.revision == revision), None)

    def renew(self, head: Head) -> bool:
        """Whether the document that a manifest describes is known; remembers the manifest if it alone was rewritten."""
        for known in (self.in_force, self.waiting):
            loaded = known.get(head.file)
            if loaded is not None and loaded.head.revision == head.revision:
                if loaded.head is not head:
                    known[head.file] = replace(loaded, head=head)
                return True
        return False

    def lacking(self, loaded: Loaded) -> list[str]:
        """Return the credentials files that the document waits for, sorted: neither there nor known to be missing."""
        known = self.sets.get(credentials_of(loaded.head.file))
        without = self.unusable if known is None else self.unusable | known.missing
        return sorted({ref for ref in loaded.refs() if ref not in self.values and ref not in without})

    def refs(self) -> frozenset[str]:
        """Return every credentials file that a document names, in force or not."""
        return frozenset(ref for loaded in (*self.in_force.values(), *self.waiting.values()) for ref in loaded.refs())

    def bind(self, values: Mapping[str, SecretStr]) -> None:
        """Take up credentials; a model that names none of those that changed stays the same object."""
        changed = {file for file in self.values.keys() | values.keys() if self.values.get(file) is not values.get(file)}
        self.values = values
        for file, loaded in self.in_force.items():
            if any(ref in changed for ref in loaded.refs()):
                self.in_force[file] = self._bound(loaded, {})

    def _bound(self, loaded: Loaded, current: Mapping[str, Model]) -> Loaded:
        """Return the document with the credentials of now; models that are in `current` have them."""
        renewed: dict[int, Mapping[str, Backend]] = {}
        others = ((name, model) for name, model in loaded.models.items() if model is not current.get(name))
        models = {name: model.bound(self.values, renewed) for name, model in others}
        if all(model is loaded.models[name] for name, model in models.items()):
            return loaded
        return replace(loaded, models={**loaded.models, **models})

    def advance(self, candidates: Collection[Loaded]) -> bool:
        """Bring into force, of each document, the newest whose credentials are there; keep the newest that must wait.

        Returns whether anything came into force.
        """
        changed = False
        for loaded in (*candidates, *self.waiting.values()):
            if loaded.head.revision <= self.revision(loaded.head.file):
                continue
            if self.lacking(loaded):
                self._wait(loaded)
            else:
                before = self.in_force.get(loaded.head.file)
                self.in_force[loaded.head.file] = self._bound(loaded, before.models if before else {})
                changed = True
        self.waiting = {file: loaded for file, loaded in self.waiting.items() if loaded.head.revision > self.revision(file)}
        if changed:
            self._forget_unlisted()
        return changed

    def _forget_unlisted(self) -> None:
        """Drop values that were kept for documents of which none names them any more."""
        candidates = self.unlisted - {documents.MIRROR_KEY}
        if dropped := candidates and candidates - self.refs():
            self.unlisted -= dropped
            self.values = {name: value for name, value in self.values.items() if name not in dropped}

    def gather(self, candidates: Collection[Loaded]) -> bool:
        """Collect documents of a lineage that is not in force; True once it is complete and all of it came into force."""
        for loaded in candidates:
            self._wait(loaded)
        if self.absent() or any(self.lacking(loaded) for loaded in self.waiting.values()):
            return False
        files = expected_files(self.waiting[documents.CONFIG_FILE].head.shards)
        self.in_force = {file: self._bound(self.waiting[file], {}) for file in files}
        self.waiting = {}
        self._forget_unlisted()
        return True

    def _wait(self, loaded: Loaded) -> None:
        known = self.waiting.get(loaded.head.file)
        if known is None or known.head.revision < loaded.head.revision:
            self.waiting[loaded.head.file] = loaded

    def absent(self) -> list[str]:
        """Return the documents that a complete set still needs."""
        config = self.newest(documents.CONFIG_FILE)
        if config is None:
            return [documents.CONFIG_FILE]
        found = {file: self.newest(file) for file in expected_files(config.head.shards)}
        return [file for file, loaded in found.items() if loaded is None or loaded.head.shards != config.head.shards]

    def pending(self) -> list[Fault]:
        """Say for each waiting document what it waits for."""
        lacking = {file: self.lacking(loaded) for file, loaded in self.waiting.items()}
        return [_pending(loaded, lacking[file]) for file, loaded in self.waiting.items() if lacking[file]]


def _pending(loaded: Loaded, lacking: list[str]) -> Fault:
    file, revision = loaded.head.file, loaded.head.revision
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    named = ", ".join(lacking[:3])
    text = f"revision {revision} waits for credentials {named}{more}; is Secret <gateway>-credentials mounted beside it?"
    return Fault(file, Reason.CREDENTIALS_PENDING, text, revision)
