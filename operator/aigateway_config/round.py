"""The judging of one reading, on copies of what is known; the state machine keeps the result if it came to its end.

Reads what is new in the reading, sorts it to the lineage it belongs to, and brings into force what may be. Called by
`State.take` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from aigateway_config import documents
from aigateway_config.credentials import Taken, take_listed, take_unlisted
from aigateway_config.era import Era
from aigateway_config.errors import Fault, ReadingMoved, Reason, Refused
from aigateway_config.source import Reading
from aigateway_config.verification import (
    CREDENTIALS_MANIFESTS,
    MANIFESTS,
    CredentialSet,
    Head,
    Loaded,
    document_of,
    expected_files,
    manifest_of,
    parse_credentials_manifest,
    parse_document,
    parse_manifest,
    read_file,
)


class Round:
    """One judging. `active`, `next`, `retired` and `mounted` are the result; `changed`: readers would see a difference.

    mounted: the volume has brought documents before, so that it is a fault when it does no more. heads: the manifests of the
    reading that were understood, by document.
    """

    def __init__(
        self, gateway: str | None, active: Era | None, following: Era | None, retired: frozenset[str], *, mounted: bool
    ) -> None:
        self.active = None if active is None else active.copy()
        self.next = None if following is None else following.copy()
        self.retired = retired
        self.mounted = mounted
        self.faults: list[Fault] = []
        self.heads: Mapping[str, Head] = {}
        self.changed = False
        self._gateway = gateway
        self._ignored: list[Reason] = []

    def rejected(self) -> Iterator[Reason]:
        """Yield the reason of everything that the reading brought in vain."""
        yield from (fault.reason for fault in self.faults)
        yield from self._ignored

    def judge(self, reading: Reading) -> None:
        """Judge a reading. Raises ReadingMoved from it; everything else that is wrong becomes a fault."""
        decides = reading.credentials is not None
        self.heads = heads = self._heads(reading)
        sets = [] if reading.credentials is None else self._credential_sets(reading.credentials)
        if decides:
            self._choose_lineage(reading, heads, sets)
            self._expect(reading)
        listed = self._listed(reading, sets)
        candidates = self._documents(reading, heads, decides=decides)
        if reading.credentials is not None:
            for era in self._eras():
                offered = candidates.get(era.lineage, [])
                prune = era.lineage in listed
                self._note(era, take_unlisted(era, sets, reading.credentials, offered, prune=prune))
        self._advance(candidates)

    def _listed(self, reading: Reading, sets: Sequence[CredentialSet]) -> set[str]:
        """Take up credentials that manifests list; return the lineages of which some changed."""
        if reading.credentials is None:
            return set()
        taken = {era.lineage: take_listed(era, sets, reading.credentials) for era in self._eras()}
        for era in self._eras():
            self._note(era, taken[era.lineage])
        return {lineage for lineage, one in taken.items() if one.changed}

    def _note(self, era: Era, taken: Taken) -> None:
        self.faults += taken.faults
        self.changed |= taken.changed and era is self.active

    def judge_again(self, reading: Reading) -> None:
        """Judge once more what a source brought before the lineage changed; its faults were told then."""
        faults, ignored = list(self.faults), list(self._ignored)
        with suppress(ReadingMoved):
            self._advance(self._documents(reading, self._heads(reading), decides=False))
        self.faults, self._ignored = faults, ignored

    def _eras(self) -> list[Era]:
        return [era for era in (self.active, self.next) if era is not None]

    def _heads(self, reading: Reading) -> dict[str, Head]:
        """Return the manifests of the reading by document; those that are known come as they are known."""
        found, eras = {}, self._eras()
        for name in _present(MANIFESTS, reading):
            file = document_of(name)
            try:
                content = read_file(reading, name)
                known = next((head for era in eras if (head := era.head(file, content)) is not None), None)
                found[file] = known or parse_manifest(name, content)
            except Refused as refused:
                self.faults.append(refused.fault)
        return found

    def _credential_sets(self, reading: Reading) -> list[CredentialSet]:
        found, eras = [], self._eras()
        for name in _present(CREDENTIALS_MANIFESTS, reading):
            try:
                content = read_file(reading, name)
                key = sha256(content).digest()
                known = next((era.sets[name] for era in eras if name in era.sets and era.sets[name].key == key), None)
                found.append(known or parse_credentials_manifest(name, content, key))
            except Refused as refused:
                self.faults.append(refused.fault)
        return found

    def _choose_lineage(self, reading: Reading, heads: dict[str, Head], sets: Sequence[CredentialSet]) -> None:
        """Let config.yml decide which lineage is to be in force; the credentials do where documents come another way."""
        said: Head | CredentialSet | None = heads.get(documents.CONFIG_FILE)
        if said is None and documents.CONFIG_MANIFEST not in reading.names():
            said = next((known for known in sets if known.file == documents.CREDENTIALS_MANIFEST), None)
        if said is None:
            return
        if said.gateway != (self._gateway or said.gateway):
            text = f"it belongs to gateway {said.gateway}, not to {self._gateway}; mount the ConfigMap and Secret of that one"
            self.faults.append(Fault(said.file, Reason.OTHER_GATEWAY, text))
        elif self.active is not None and said.lineage == self.active.lineage:
            self.next = None
        elif said.lineage in self.retired:
            text = f"lineage {said.lineage} was replaced before: an old view of the cluster; the one in force stays"
            self.faults.append(Fault(said.file, Reason.OTHER_LINEAGE, text))
        elif self.next is None or (said.lineage, said.gateway) != (self.next.lineage, self.next.gateway):
            self.next = Era(said.lineage, said.gateway)

    def _expect(self, reading: Reading) -> None:
        """Find a fault with a volume that holds not all documents of the lineage in force, or none at the start.

        One that never held any is none: documents come from another source then.
        """
        names = reading.names()
        self.mounted |= documents.CONFIG_MANIFEST in names
        if not self._eras() and not self.faults:
            remedy = "mount ConfigMap <gateway>-config, or read a plain config.yml by PlainFile"
            text = f"{documents.CONFIG_MANIFEST} is not there; {remedy}"
            self.faults.append(Fault(documents.CONFIG_FILE, Reason.MISSING, text))
        if self.active is None or not (self.mounted or _present(MANIFESTS, reading)):
            return
        for file in expected_files(self.active.shards):
            if manifest_of(file) not in names:
                text = f"{manifest_of(file)} is no longer in the mounted volume; what was last good stays"
                self.faults.append(Fault(file, Reason.MISSING, text))

    def _documents(self, reading: Reading, heads: dict[str, Head], *, decides: bool) -> dict[str, list[Loaded]]:
        """Return, by lineage, the documents that are newer than those in force, verified."""
        found: dict[str, list[Loaded]] = {}
        for file, head in heads.items():
            if self.active is not None and self.active.runs(head):
                continue
            era = next((era for era in self._eras() if era.lineage == head.lineage), None)
            fault = _unfit(era, head)
            if era is None or fault is not None:
                if fault is not None:
                    self._refuse(fault, decides=decides)
            elif not era.renew(head):
                known = era.newest(file)
                try:
                    content = read_file(reading, file, head.revision)
                    loaded = parse_document(head, content, known.models if known else {}, era.values)
                    found.setdefault(era.lineage, []).append(loaded)
                except Refused as refused:
                    self.faults.append(refused.fault)
        return found

    def _refuse(self, fault: Fault, *, decides: bool) -> None:
        """Gather a fault; what is old, or of another lineage, is of no account where the volume decides otherwise."""
        if fault.reason == Reason.STALE:
            self._ignored += [] if decides else [fault.reason]  # a volume lags behind faster sources by its nature
        elif not decides and fault.reason in (Reason.OTHER_LINEAGE, Reason.SAME_REVISION):
            self._ignored.append(fault.reason)
        else:
            self.faults.append(fault)

    def _advance(self, candidates: dict[str, list[Loaded]]) -> None:
        if self.active is not None:
            self.changed |= self.active.advance(candidates.get(self.active.lineage, []))
        if self.next is not None and self.next.gather(candidates.get(self.next.lineage, [])):
            if self.active is not None:
                self.retired |= {self.active.lineage}
            self.active, self.next, self.changed = self.next, None, True


def _present(names: Sequence[str], reading: Reading) -> list[str]:
    there = reading.names()
    return [name for name in names if name in there]


def _unfit(era: Era | None, head: Head) -> Fault | None:
    """Say why a document cannot come into force, from its manifest alone; None if it may."""
    if era is None:
        text = f"revision {head.revision} is of lineage {head.lineage}, which is not that of the mounted config.yml"
        return Fault(head.file, Reason.OTHER_LINEAGE, text)
    if head.gateway != era.gateway:
        return Fault(head.file, Reason.OTHER_GATEWAY, f"it belongs to gateway {head.gateway}, not to {era.gateway}")
    if era.in_force and head.shards != era.shards:
        text = f"it states {head.shards} shards, the gateway has {era.shards}"
        return Fault(head.file, Reason.OTHER_SHARD, text, head.revision)
    if head.revision < era.revision(head.file):
        return Fault(head.file, Reason.STALE, f"revision {head.revision} is below the one in force")
    known = era.of_revision(head.file, head.revision)
    if known is not None and known.head.sha256 != head.sha256:
        text = f"revision {head.revision} is known with another content; it takes a higher revision to replace it"
        return Fault(head.file, Reason.SAME_REVISION, text)
    return None
