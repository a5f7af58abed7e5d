"""What became of one round: an intermediate value that planner fills and statuses read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from aigateway_operator.plan.assess import GatewayAssessment, ModelAssessment
from aigateway_operator.plan.claims import Claims
from aigateway_operator.plan.health import Probing
from aigateway_operator.plan.proof import Target
from aigateway_operator.plan.snapshot import Served
from aigateway_operator.plan.unit import Unit
from aigateway_operator.render.files import Document

_FITS = attrgetter("fits")


@dataclass(frozen=True, slots=True)
class WrittenDocument:
    """One document with its manifest, as written to the cluster and mirrored to Redis."""

    revision: int
    document: Document = field(repr=False)
    manifest: bytes = field(repr=False)

    @property
    def content(self) -> bytes:
        """The document as bytes."""
        return self.document.content


@dataclass(slots=True)
class Outcome:
    """What became of each unit; the statuses are read from it.

    valid: how many models break no rule; off: how many of those are switched off. blocked: shard → why nothing can be written
    there. revisions: shard → revision its document has after the writes. too_large: shard → credentials files whose value does
    not fit, where there are any. served: what pods are served after the writes. target: what pods are to prove after the
    writes; None without documents. written: shard → document and manifest that are live after the writes, of those that the
    round has its say in. probing: as in `result.Plan`.
    """

    assessments: Mapping[str, ModelAssessment]
    claims: Claims
    valid: int
    off: int
    gateway: GatewayAssessment | None = None
    units: list[Unit] = field(default_factory=list)
    shards: int = 1
    blocked: dict[int | None, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    revisions: dict[int | None, int] = field(default_factory=dict)
    too_large: dict[int | None, frozenset[str]] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    target: Target | None = None
    written: dict[int | None, WrittenDocument] = field(default_factory=dict)
    probing: Probing | None = None

    @property
    def revision(self) -> int | None:
        """Revision of the gateway: the highest of its documents; None without any."""
        return max(self.revisions.values(), default=None)

    @property
    def everything_lands(self) -> bool:
        """Whether pods get the document of every unit."""
        return not self.blocked and all(map(_FITS, self.units))

    def lands(self, unit: Unit) -> bool:
        """Tell whether pods get this unit's document, written now or before."""
        return unit.fits and unit.shard not in self.blocked
