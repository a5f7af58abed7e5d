"""The revisions of one round: what changes in it gets the next number, and what must move for a pod's sake moves with it.

A reader never goes back within a lineage, so numbers are seeded beyond all that was ever heard of: live objects, status, and
what pods report. A pod that reports more than is live (documents and status were lost and written anew) would stay behind for
ever; what it claims to have a higher number of is written again under one that is higher still. Claims are bounded, and the
pauses between such moves grow, so that a pod that lies costs a write a minute at first and one an hour in the end.
Pure; used by the planner alone.
"""

from __future__ import annotations

from aigateway_config import documents
from aigateway_operator.plan.proof import Target
from aigateway_operator.plan.snapshot import Snapshot, Stored


class Numbers:
    """Counters of one round: everything that changes in it gets the same next number.

    highest: as `highest_live` says. credentials: shard → revision of its credentials Secret after the writes. outrun: files
    that get a new number although their content stays, since a pod claims a higher one. wake_after_seconds: when they may get
    it; None: now, or there are none.
    """

    def __init__(self, snapshot: Snapshot, gateway: Stored, highest: tuple[int, int]) -> None:
        told = gateway.told("rollout", "credentialsRevision")
        rendered, credentials = highest
        seen = (snapshot.proof.highest_revision, snapshot.proof.highest_credentials_revision) if snapshot.proof else (0, 0)
        self.next_revision = 1 + max([gateway.told("revision"), seen[0], rendered])
        self.next_credentials = 1 + max([told, seen[1], credentials])
        self.credentials_revision = credentials
        self.credentials: dict[int | None, int] = {}
        self.outrun = _outrun(snapshot, gateway)
        self.wake_after_seconds: float | None = None
        if self.outrun and snapshot.renumber_after_seconds > 0:
            self.outrun, self.wake_after_seconds = frozenset(), snapshot.renumber_after_seconds

    def must_move(self, file: str) -> bool:
        """Tell whether a document or credentials manifest gets a new number although its content stays."""
        return file in self.outrun

    def take_credentials(self) -> int:
        """Return the number for a credentials Secret that changes in this round."""
        self.credentials_revision = self.next_credentials
        return self.next_credentials


def highest_live(snapshot: Snapshot) -> tuple[int, int]:
    """Return the highest revision of a live document of ours and of a live credentials Secret; 0 where there is none."""
    rendered = [live.manifest.revision for live in snapshot.config_maps.values() if live.ours and live.manifest]
    credentials = [live.credentials.revision for live in snapshot.secrets_live.values() if live.ours and live.credentials]
    return max(rendered, default=0), max(credentials, default=0)


def _outrun(snapshot: Snapshot, gateway: Stored) -> frozenset[str]:
    """Return what pods claim to have a higher number of; only where they were asked about exactly what is live now."""
    proof = snapshot.proof
    if proof is None or not proof.ahead or proof.target.lineage != gateway.uid:
        return frozenset()
    live = _live(snapshot)
    return frozenset(file for file in proof.ahead if file in live and live[file] == _asked(proof.target, file))


def _live(snapshot: Snapshot) -> dict[str, tuple[int, str]]:
    """Return file → (revision, SHA-256) of what is live and ours; the digest is "" for credentials manifests."""
    found: dict[str, tuple[int, str]] = {}
    for live in (*snapshot.config_maps.values(), *snapshot.secrets_live.values()):
        if live.ours and live.manifest is not None:
            shard = live.manifest.shard
            file = documents.document_file(shard)
            found[file] = live.manifest.revision, live.manifest.sha256
        if live.ours and live.credentials is not None:
            found[documents.credentials_manifest(live.credentials.shard)] = live.credentials.revision, ""
    return found


def _asked(target: Target, file: str) -> tuple[int, str]:
    return target.documents.get(file) or (target.credentials.get(file, -1), "")
