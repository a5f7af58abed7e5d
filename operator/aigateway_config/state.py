"""The state machine: readings in, configurations out. Pure but for what a reading reads; the time is an argument.

Verifies, applies revision rules per document, holds back what lacks credentials, keeps the last good of every document on
any fault, and lets the mounted volume alone decide the lineage. Called by the reader, one reading at a time. It notifies
nobody and starts nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from aigateway_config import documents, joining
from aigateway_config.configuration import Configuration
from aigateway_config.era import Era
from aigateway_config.errors import Fault, Reason
from aigateway_config.round import Round
from aigateway_config.source import MemoryReading, Reading


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reading. `configuration` is the one in force, the same object as before if nothing changed.

    faults: why the newest documents of any source are not in force. rejected: what this reading brought and was refused.
    """

    configuration: Configuration | None
    faults: tuple[Fault, ...]
    rejected: tuple[Reason, ...]
    judged_at: datetime


@dataclass(slots=True)
class _SourceState:
    """The last reading of a source that brings documents only, and what was wrong with each source's files.

    Of a reading in memory only what is not in force is kept: another lineage may come to need it.
    """

    reading: Reading | None = None
    faults: dict[str, Fault] = field(default_factory=dict)


class State:
    """What is in force, and what may come next. Not for several threads at once.

    `gateway` (`namespace/name`) is the only one whose documents are taken; None: that of the first lineage's config.yml.
    """

    def __init__(self, gateway: str | None = None) -> None:
        self._gateway = gateway
        self._active: Era | None = None
        self._next: Era | None = None
        self._retired: frozenset[str] = frozenset()
        self._mounted = False
        self._sources: dict[str, _SourceState] = {}
        self._joined = joining.EMPTY
        self._configuration: Configuration | None = None

    @property
    def configuration(self) -> Configuration | None:
        """What is in force; None before the first complete set."""
        return self._configuration

    def take(self, source: str, reading: Reading, now: datetime) -> Outcome:
        """Judge a reading of the named source; nothing changes if it raises ReadingMoved."""
        judged = Round(self._gateway, self._active, self._next, self._retired, mounted=self._mounted)
        judged.judge(reading)
        lineages = {era.lineage for era in (self._active, self._next) if era is not None}
        if any(era.lineage not in lineages for era in (judged.active, judged.next) if era is not None):
            for other in self._sources.values():
                if other.reading is not None:
                    judged.judge_again(other.reading)
        self._active, self._next, self._retired = judged.active, judged.next, judged.retired
        self._mounted = judged.mounted
        self._remember(source, reading, judged)
        if judged.active is not None and judged.changed:
            self._joined = joining.join(judged.active.in_force, self._joined)
            self._configuration = _configuration(judged.active, self._joined, now)
        return Outcome(self._configuration, self._faults(), tuple(judged.rejected()), now)

    def _remember(self, source: str, reading: Reading, judged: Round) -> None:
        state = self._sources.setdefault(source, _SourceState())
        if reading.credentials is None:
            files = set(reading.names())
            state.reading = _unused(reading, judged)
            state.faults = {file: fault for file, fault in state.faults.items() if file not in files}
        else:
            state.faults = {}
        for fault in judged.faults:  # the first of a file is the cause, others follow from it
            state.faults.setdefault(fault.file, fault)

    def _faults(self) -> tuple[Fault, ...]:
        found = {fault: None for state in self._sources.values() for fault in state.faults.values() if not self._over(fault)}
        found.update(dict.fromkeys(self._active.pending() if self._active else []))
        found.update(dict.fromkeys(self._incomplete({fault.file for fault in found})))
        return tuple(sorted(found, key=lambda fault: (fault.file, fault.reason, fault.message)))

    def _over(self, fault: Fault) -> bool:
        return fault.revision is not None and self._active is not None and self._active.revision(fault.file) >= fault.revision

    def _incomplete(self, told: Collection[str]) -> list[Fault]:
        """Say what a lineage that is to come still needs; of files in `told` it is said already why they are not in force."""
        era = self._next
        if era is None:
            return []
        absent = [file for file in era.absent() if file not in told]
        if not absent:
            return era.pending()
        named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        text = f"of lineage {era.lineage} {named} not there yet; are all ConfigMaps of {era.gateway} mounted?"
        return [Fault(documents.CONFIG_FILE, Reason.INCOMPLETE, text), *era.pending()]


def _unused(reading: Reading, judged: Round) -> Reading:
    """Return a reading without the documents that came into force, if it holds them in memory."""
    if not isinstance(reading, MemoryReading) or judged.active is None:
        return reading
    used = {file for file, head in judged.heads.items() if judged.active.runs(head)}
    return MemoryReading({name: content for name, content in reading.files.items() if name not in used})


def _configuration(era: Era, joined: joining.Joined, now: datetime) -> Configuration:
    config = era.in_force[documents.CONFIG_FILE].settings
    if config is None:
        raise AssertionError("a config.yml in force has settings")
    return Configuration(
        lineage=era.lineage,
        gateway=era.gateway,
        documents=MappingProxyType({file: loaded.state for file, loaded in sorted(era.in_force.items())}),
        credentials=MappingProxyType({file: known.revision for file, known in sorted(era.sets.items())}),
        loaded_at=now,
        app=config.app,
        storage=config.storage,
        web_search=config.web_search,
        log=config.log,
        models=joined.models,
        secrets=MappingProxyType(era.values),
        parts=MappingProxyType(joined.parts),
    )
