"""Content of a credentials Secret: what to put in, what to carry over, what is known to be missing.

Union before removal: a key that no document names any more stays until every running pod has proved that it runs those
documents, at most for two minutes, so that no running pod loses a key it still uses. A Secret that vanished revokes after
five seconds, since controllers delete and recreate them. All of it within the limit of a Secret: a value that grew too large
does not take the others along.
Source: docs/concepts.md#secrets, #delivery-and-proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from aigateway_operator.plan import names
from aigateway_operator.plan.fitting import MANIFEST_OVERHEAD_BYTES
from aigateway_operator.plan.snapshot import LiveObject, Snapshot
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.files import LIMIT_BYTES
from aigateway_operator.render.references import SecretRef

REVOKE_AFTER_SECONDS: Final = 5.0
DROP_AFTER_SECONDS: Final = 120.0
_NONE: Final[Mapping[str, bytes | None]] = MappingProxyType({})
_NAME_BYTES: Final = 3
"""What a file's line in the manifest has beside its name."""


@dataclass(slots=True)
class CredentialSet:
    """What the credentials Secret of one unit should hold.

    values: files to write. keep: files to carry over from the live Secret unread. missing: named by documents, no value.
    too_large: files whose value does not fit; they keep the one they had, or are missing. unreferenced_since: files kept only
    for pods that may still use them. wake_after_seconds: when something here falls due.
    """

    values: dict[str, bytes] = field(default_factory=dict, repr=False)
    keep: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    too_large: set[str] = field(default_factory=set)
    unreferenced_since: dict[str, float] = field(default_factory=dict)
    wake_after_seconds: float | None = None

    @property
    def files(self) -> list[str]:
        """Names of all files that will be there, sorted."""
        return sorted({*self.values, *self.keep})

    def digests(self, live: LiveObject | None) -> dict[str, str]:
        """Return file → SHA-256 of its content as it will be."""
        digests = {name: sha256(value).hexdigest() for name, value in self.values.items()}
        digests.update({name: live.digests[name] for name in self.keep if live is not None})
        return digests

    def only_drops(self, live: LiveObject | None) -> bool:
        """Tell whether this differs from what is live by nothing but files that are not there any more."""
        if live is None or live.credentials is None:
            return False
        same = self.digests(live).items() <= live.digests.items()
        return same and sorted(self.missing) == live.credentials.missing

    def wake(self, seconds: float) -> None:
        """Ask for a round in `seconds`, at the latest."""
        self.wake_after_seconds = seconds if self.wake_after_seconds is None else min(self.wake_after_seconds, seconds)


def credentials_of(
    unit: Unit,
    snapshot: Snapshot,
    live: LiveObject | None,
    secret_name: str,
    now: float,
    *,
    proved: Callable[[], bool] = lambda: False,
    own: Mapping[str, bytes | None] = _NONE,
) -> CredentialSet:
    """Return the content of the credentials Secret `secret_name` of `unit`. `now`: seconds, same clock as the snapshot's.

    `proved`: whether every running pod has said that it runs the documents as they are after this round, so that no other key
    is in use; asked only where it matters.
    `own`: further files that no document names, with their content; None: the one that is there, if any.
    """
    wanted = CredentialSet()
    held = _held(live)
    named = unit.credentials
    for file, ref in named.items():
        _resolve(wanted, file, ref, snapshot, held.keys(), now)
    for file, value in own.items():
        if value is not None:
            wanted.values[file] = value
        elif file in held:
            wanted.keep.add(file)
    room = _make_room(wanted, held)
    unnamed = held.keys() - named.keys() - own.keys()
    since = {file: snapshot.unreferenced_since.get((secret_name, file), now) for file in unnamed}
    for file in sorted(since, key=lambda file: (-since[file], file)):
        left = 0.0 if proved() else DROP_AFTER_SECONDS - (now - since[file])
        room -= _file_bytes(file, held[file])
        if left > 0 and room >= 0:
            wanted.keep.add(file)
            wanted.unreferenced_since[file] = since[file]
            wanted.wake(left)
    return wanted


def file_bytes(snapshot: Snapshot, shard: int | None, file: str, ref: SecretRef | None) -> int:
    """Return about what a credentials file takes of the limit, at the least: its value or the live one, and its name.

    The smaller of the two, since a value that grew too large is put back (`_make_room`) and must keep out no other model.
    """
    live = snapshot.secrets_live.get(names.credentials_name(snapshot.key.name, shard))
    sizes = [live.sizes[file]] if live is not None and file in live.sizes else []
    value = snapshot.secret(ref).values.get(ref.key) if ref is not None else None
    if value is not None:
        sizes.append(len(value))
    return _file_bytes(file, min(sizes, default=0))


def _file_bytes(file: str, size: int) -> int:
    return len(file) + _NAME_BYTES + size


def _held(live: LiveObject | None) -> dict[str, int]:
    """Return the files that we put into the live Secret, with their sizes; what others added is not among them and goes."""
    if live is None or live.credentials is None:
        return {}
    return {file: live.sizes[file] for file in live.credentials.keys if file in live.sizes}


def _resolve(wanted: CredentialSet, file: str, ref: SecretRef | None, snapshot: Snapshot, held: Set[str], now: float) -> None:
    if ref is None:
        (wanted.keep if file in held else wanted.missing).add(file)
        return
    state = snapshot.secret(ref)
    if ref.key in state.values:
        wanted.values[file] = state.values[ref.key]
    elif file in held and not state.known:
        wanted.keep.add(file)
    elif file in held and state.gone_since is not None and now - state.gone_since < REVOKE_AFTER_SECONDS:
        wanted.keep.add(file)
        wanted.wake(REVOKE_AFTER_SECONDS - (now - state.gone_since))
    else:
        wanted.missing.add(file)


def _make_room(wanted: CredentialSet, held: Mapping[str, int]) -> int:
    """Put back the values that grew most until the rest fits; return the bytes that are left."""
    sizes = {file: len(value) for file, value in wanted.values.items()} | {file: held[file] for file in wanted.keep}
    total = MANIFEST_OVERHEAD_BYTES + sum(_file_bytes(file, size) for file, size in sizes.items())
    total += sum(_file_bytes(file, 0) for file in wanted.missing)
    growth = {file: len(value) - held.get(file, 0) for file, value in wanted.values.items()}
    for file in sorted(growth, key=lambda file: (-growth[file], file)):
        if total <= LIMIT_BYTES or growth[file] <= 0:
            break
        total -= growth[file]
        del wanted.values[file]
        (wanted.keep if file in held else wanted.missing).add(file)
        wanted.too_large.add(file)
    return LIMIT_BYTES - total
