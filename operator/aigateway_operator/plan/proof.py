"""What is to be proved of pods, and what has been: the words that plan, rollout and reconcile share.

Pure values. `plan` says the target, `rollout` asks the pods and says the proof, `plan` makes status of it. A proof speaks of
its own target and of no other: whoever reads one compares the targets first.
Source: docs/concepts.md#delivery-and-proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class PodState:
    """A selected pod, reduced to what decides whether it is poked and asked.

    uid: tells it from one made later under the same name. ip: address of the pod, None before it has one. running: its phase;
    ready: its condition. poked: value of the annotation by which it was last poked, "" if never.
    """

    name: str
    uid: str
    ip: str | None
    running: bool
    ready: bool
    terminating: bool
    host_network: bool
    poked: str = field(default="", compare=False)

    @property
    def desired(self) -> bool:
        """Whether it has to run the newest documents for the gateway to have propagated: ready, and not on its way out."""
        return self.ready and self.running and not self.terminating


@dataclass(frozen=True, slots=True)
class Target:
    """What every ready pod should say it runs.

    revision / credentials_revision: of the gateway, the highest of its documents and credentials. documents: file → (revision,
    SHA-256). credentials: manifest file → revision. housekeeping: it differs from the target before by nothing but keys that
    no document names any more. repeats: it differs from the target before by nothing but numbers, which moved for a pod's sake.
    """

    revision: int
    credentials_revision: int
    lineage: str
    documents: Mapping[str, tuple[int, str]]
    credentials: Mapping[str, int]
    housekeeping: bool = field(default=False, compare=False)
    repeats: bool = field(default=False, compare=False)


class Phase(StrEnum):
    """How far asking has come."""

    PROGRESSING = "Progressing"  # pods are still given the time that taking up documents needs
    SETTLED = "Settled"  # every pod matches, or that time is over


@dataclass(frozen=True, slots=True)
class Proof:
    """What pods say of `target`.

    desired: pods that are ready and not terminating; updated: of them, that said they run the target; unknown: of them, that
    could not be asked. stragglers / unreachable: all names of those that said something else, and of the unknown, sorted.
    reasons: pod → why it is one of these. restart_required: changed values that some pod cannot take up.
    last_duration_milliseconds: from the write to the last pod's answer; None where this process did not see that.
    highest_revision / highest_credentials_revision: the highest numbers that pods report in the target's lineage; 0 if none.
    ahead: documents and credentials manifests of which a ready pod claims a number that keeps it from ever taking up ours.
    blind: why it is not known which pods there are, in words of ours; "" if it is known.
    everyone: no running pod is outside the proof, such as one that is not ready or on its way out and uses what it has.
    stands_for: a newer target, another only by housekeeping, for whose proof this one still stands; None as a rule.
    """

    target: Target
    desired: int
    updated: int
    unknown: int = 0
    stragglers: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    restart_required: tuple[str, ...] = ()
    last_duration_milliseconds: int | None = None
    phase: Phase = Phase.SETTLED
    highest_revision: int = 0
    highest_credentials_revision: int = 0
    ahead: tuple[str, ...] = ()
    blind: str = ""
    everyone: bool = True
    stands_for: Target | None = None

    @property
    def complete(self) -> bool:
        """Whether there are pods, and every one of them said that it runs the target."""
        return not self.blind and 0 < self.desired == self.updated

    def speaks_of(self, target: Target) -> bool:
        """Tell whether this is what is known of `target`."""
        return target in (self.target, self.stands_for)
