"""A folder of manifests as a cluster would hold them: what an edit breaks is refused, and what was there before stays.

A file that cannot be read keeps the objects it held; an edit that breaks a rule keeps the object as it was, as admission would.
An object that is broken from the first is handed on all the same: the planner says so and keeps what is rendered of it.
Reads files; nothing is concluded from what could not be read. Called by `local_rounds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aigateway_operator.cli.check import check_manifests, edit_of
from aigateway_operator.cli.findings import ERROR, Finding, in_order
from aigateway_operator.cli.manifests import OURS, SUFFIXES, Manifest, Reading, read_manifests
from aigateway_operator.cli.stored import ObjectId, identity
from aigateway_operator.local.watch import manifest_files
from aigateway_operator.rules import RuleContext

_DOUBLE: Final = "FieldValueDuplicate"


@dataclass(frozen=True, slots=True)
class FolderState:
    """What is in force of a folder.

    manifests: in the order in which they were first seen, which decides who came first. findings: everything wrong with the
    files as they are. kept: what stays as it was, in words. complete: no object can be missing; if not, nothing is deleted.
    """

    manifests: tuple[Manifest, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    kept: tuple[str, ...]
    complete: bool


class ManifestFolder:
    """Remembers the last good of each file and of each object. `namespace`: for objects that name none."""

    def __init__(self, folder: Path, namespace: str, context: RuleContext, *, recursive: bool) -> None:
        self._folder = folder
        self._namespace = namespace
        self._context = context
        self._recursive = recursive
        self._files: dict[str, list[Manifest]] = {}
        self._accepted: dict[ObjectId, Manifest] = {}
        self._order: dict[ObjectId, None] = {}

    def read(self) -> FolderState:
        """Read every file anew and return what is in force."""
        try:
            files = manifest_files(self._folder, SUFFIXES, recursive=self._recursive)
        except OSError as error:
            return self._unreadable(f"cannot be read: {error.strerror}.")
        if not files:
            return self._unreadable(f"holds no manifest ({', '.join(SUFFIXES)}).")
        reading = read_manifests(files, self._namespace)
        kept: list[str] = []
        complete = self._take_files(files, reading, kept)
        manifests = self._without_doubles()
        before = {key: manifest.spec for key, manifest in self._accepted.items() if manifest.kind in OURS}
        checked = check_manifests(manifests, self._context, strict=True, before=before)
        in_force = self._accept(manifests, kept)
        return FolderState(tuple(in_force), tuple(in_order({*reading.findings, *checked})), tuple(kept), complete)

    def _unreadable(self, message: str) -> FolderState:
        in_force = self._accept(self._without_doubles(), [])
        finding = Finding(ERROR, str(self._folder), reason="Unreadable", message=message)
        kept = ("everything",) if in_force else ()
        return FolderState(tuple(in_force), (finding,), kept, complete=False)

    def _take_files(self, files: Iterable[str], reading: Reading, kept: list[str]) -> bool:
        """Take over each file that could be read whole; return whether every file has been, now or before."""
        broken = {finding.file for finding in reading.findings if finding.severity == ERROR and finding.reason != _DOUBLE}
        found: dict[str, list[Manifest]] = {file: [] for file in files}
        for manifest in reading.manifests:
            found[manifest.file].append(manifest)
        known, self._files = self._files, found
        complete = True
        for file in sorted(broken):
            if file in known:
                found[file] = known[file]
                kept.append(f"all of {file}")
            else:
                complete = False
        return complete

    def _without_doubles(self) -> list[Manifest]:
        unique: dict[ObjectId, Manifest] = {}
        for manifests in self._files.values():
            for manifest in manifests:
                unique.setdefault(identity(manifest), manifest)
        return list(unique.values())

    def _accept(self, manifests: Iterable[Manifest], kept: list[str]) -> list[Manifest]:
        """Return the objects in force, and remember those that break no rule."""
        in_force: dict[ObjectId, Manifest] = {}
        before = {key: manifest.spec for key, manifest in self._accepted.items()}
        for manifest in manifests:
            key = identity(manifest)
            in_force[key] = manifest
            if not edit_of(manifest, self._context, before).violations:
                self._accepted[key] = manifest
            elif key in self._accepted:
                in_force[key] = self._accepted[key]
                kept.append(f"{manifest.kind}/{manifest.name}")
        for gone in self._accepted.keys() - in_force.keys():
            del self._accepted[gone]
        self._order = dict.fromkeys([*(key for key in self._order if key in in_force), *in_force])
        return [in_force[key] for key in self._order]
