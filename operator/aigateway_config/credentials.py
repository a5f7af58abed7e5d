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


def take_credentials(era: Era, sets: Sequence[CredentialSet], reading: Reading, candidates: Collection[Loaded]) -> Taken:
    """Take up the credentials manifests of the era's own lineage, the values they list, and what documents lack besides.

    `sets` are all manifests of the reading: a file that one lists which is not taken up is not read at all. A manifest is
    taken up when every file that it lists was read; its revision never goes back. A value stays as long as a document
    names it, unless a manifest says that it is missing.
    """
    faults: list[Fault] = []
    found: dict[str, SecretStr | None] = {}
    taken = False
    for known in sets:
        if known.lineage != era.lineage:
            continue
        try:
            if _is_newer(known, era):
                found.update({name: _value(reading, name, era.values) for name in sorted(known.keys)})
                era.sets[known.file] = known
                taken = True
        except Refused as refused:
            faults.append(refused.fault)
    untaken = {name for known in sets if era.sets.get(known.file) is not known for name in known.keys}
    unlisted = _unlisted(era, reading, candidates, untaken)
    era.unlisted |= unlisted.keys()
    found.update(unlisted)
    faults += [_no_text(name) for name, value in found.items() if value is None]
    values = {**era.values, **{name: value for name, value in found.items() if value is not None}}
    unusable = (era.unusable - found.keys()) | {name for name, value in found.items() if value is None}
    if taken:
        values, unusable = _pruned(era, values, unusable, candidates)
    era.unusable = frozenset(unusable)
    changed = taken or values != era.values
    if values != era.values:
        era.bind(values)
    return Taken(changed, faults)


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


def _pruned(
    era: Era, values: Mapping[str, SecretStr], unusable: Collection[str], candidates: Collection[Loaded]
) -> tuple[dict[str, SecretStr], frozenset[str]]:
    """Drop what is revoked, and what neither a manifest lists nor a document names; remember what is kept unlisted."""
    listed = frozenset().union(*(known.keys for known in era.sets.values()))
    missing = frozenset().union(*(known.missing for known in era.sets.values())) - listed
    named = era.refs().union(*(loaded.refs for loaded in candidates)) | {documents.MIRROR_KEY}
    kept = (listed | named) - missing
    era.unlisted = (frozenset(values) & kept) - listed
    return {name: value for name, value in values.items() if name in kept}, frozenset(unusable) & kept


def _no_text(name: str) -> Fault:
    return Fault(
        name, Reason.UNREADABLE, "this credentials file is not UTF-8 text; it counts as missing until its Secret is mended"
    )
