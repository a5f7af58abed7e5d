"""Takes up the credentials of a reading: each Secret as a whole or not at all, revoked only when it is said to be missing.

Pure but for what the reading reads. Called by `Round`. Values never appear in a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from pydantic import SecretStr

from aigateway_config import documents
from aigateway_config.era import Era
from aigateway_config.errors import Fault, Reason, Refused
from aigateway_config.source import Reading
from aigateway_config.verification import CredentialSet, Loaded, read_file


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it. `changed`: a revision or a value is another one than before."""

    changed: bool
    faults: Sequence[Fault]


def take_listed(era: Era, sets: Sequence[CredentialSet], reading: Reading) -> Taken:
    """Take up the credentials manifests of the era's own lineage and the values they list.

    Called before documents are parsed, so that their models are made with credentials in place. `sets` are all manifests of
    the reading. One is taken up when every file that it lists was read; its revision never goes back.
    """
    faults: list[Fault] = []
    found: dict[str, SecretStr | None] = {}
    taken = False
    for known in sets:
        if known.lineage != era.lineage:
            continue
        try:
            if _is_newer(known, era):
                found.update({name: _value(reading, name, era.values) for name in known.keys})
                era.sets[known.file] = known
                taken = True
        except Refused as refused:
            faults.append(refused.fault)
    return Taken(_take_values(era, found) or taken, [*faults, *_no_texts(found)])


def take_unlisted(
    era: Era, sets: Sequence[CredentialSet], reading: Reading, candidates: Collection[Loaded], *, prune: bool
) -> Taken:
    """Take up what documents lack besides; with `prune`, after manifests changed, drop what is revoked or of no use.

    A file that is listed by a manifest which was not taken up is not read at all. A value stays as long as a document names
    it, unless a manifest says that it is missing.
    """
    untaken = {name for known in sets if era.sets.get(known.file) is not known for name in known.keys}
    found = _unlisted(era, reading, candidates, untaken)
    era.unlisted = era.unlisted.union(found)
    changed = _take_values(era, found)
    if prune:
        _prune(era, candidates)
    return Taken(changed, _no_texts(found))


def _take_values(era: Era, found: Mapping[str, SecretStr | None]) -> bool:
    """Put values in place, those that are no text aside; return whether one is another than before."""
    other = {name: value for name, value in found.items() if value is not None and value is not era.values.get(name)}
    era.unusable = era.unusable.difference(found).union(name for name, value in found.items() if value is None)
    if other:
        era.bind({**era.values, **other})
    return bool(other)


def _is_newer(offered: CredentialSet, era: Era) -> bool:
    """Whether to take up a manifest. Raises Refused for another gateway's, or another content of the same revision."""
    known = era.sets.get(offered.file)
    if offered.gateway != era.gateway:
        text = f"it belongs to gateway {offered.gateway}, not to {era.gateway}"
        raise Refused(Fault(offered.file, Reason.OTHER_GATEWAY, text))
    if known is None:
        return True
    if known.revision == offered.revision and (known.keys, known.missing) != (offered.keys, offered.missing):
        text = f"revision {offered.revision} is in force with other keys; it takes a higher revision to replace it"
        raise Refused(Fault(offered.file, Reason.SAME_REVISION, text))
    return offered.revision > known.revision


def _unlisted(era: Era, reading: Reading, candidates: Collection[Loaded], refused: Set[str]) -> dict[str, SecretStr | None]:
    """Return what documents lack and no manifest lists, and the key of the mirror, as far as the files are there."""
    wanted = {name for loaded in (*candidates, *era.waiting.values()) for name in era.lacking(loaded)}
    found: dict[str, SecretStr | None] = {}
    there = reading.names()
    for name in sorted((wanted | {documents.MIRROR_KEY}) - refused):
        if name not in there:
            continue
        try:
            found[name] = _value(reading, name, era.values)
        except Refused:
            continue  # it stays lacking, and the document that waits for it says so
    return found


def _value(reading: Reading, name: str, known: Mapping[str, SecretStr]) -> SecretStr | None:
    """Return a value, the same object if it is the same text; None if it is no text. Raises Refused if it is not there."""
    content = read_file(reading, name)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    before = known.get(name)
    return before if before is not None and before.get_secret_value() == text else SecretStr(text)


def _prune(era: Era, candidates: Collection[Loaded]) -> None:
    """Drop what is revoked, and what neither a manifest lists nor a document names; remember what is kept unlisted."""
    listed = {name for known in era.sets.values() for name in known.keys}
    missing = frozenset().union(*(known.missing for known in era.sets.values())) - listed
    named = era.refs().union(*(loaded.refs() for loaded in candidates)) | {documents.MIRROR_KEY}
    kept = (listed | named) - missing
    era.unlisted = (frozenset(era.values) & kept) - listed
    era.unusable &= kept
    if not era.values.keys() <= kept:
        era.bind({name: value for name, value in era.values.items() if name in kept})


def _no_texts(found: Mapping[str, SecretStr | None]) -> list[Fault]:
    text = "this credentials file is not UTF-8 text; it counts as missing until its Secret is mended"
    return [Fault(name, Reason.UNREADABLE, text) for name, value in found.items() if value is None]
