"""What should be in the webhook's Secret and `caBundle` now: make, renew, hand over, retire. Pure; `now` is an argument.

    two thirds of the leaf's life     a new leaf of the same authority
    two thirds of the authority's     a new authority, published beside the old one; it signs nothing yet
    published for `settle`            the leaf is signed by the new authority, which takes the old one's place
    the old one's last leaf is over   the old authority leaves the bundle

So a client whose bundle is up to `settle` old accepts the leaf of now, and one with the bundle of now accepts every leaf that
is still valid, as a replica that was cut off may serve. What is lost, expired, garbage or does not fit is made anew; if
replicas may still serve a leaf of an authority whose key is lost, the new one is published first, for `recovery`.
Called by `certificate_keeper.py`. Source: docs/operations.md#certificates-of-the-webhook; cert-manager's renewal at two thirds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from aigateway_operator.admission import certificates
from aigateway_operator.admission.certificates import BACKDATE, Authority, Leaf, fingerprint

LEAF_CERTIFICATE: Final = "tls.crt"
LEAF_KEY: Final = "tls.key"
BUNDLE: Final = "ca.crt"
"""Every authority to be trusted: what `caBundle` holds."""
SIGNING_KEY: Final = "ca.key"
NEXT_KEY: Final = "next-ca.key"
"""Key of the authority that is published and signs nothing yet."""
RETIRING: Final = "retiring.json"
"""Fingerprint → Unix time until which an authority that signs no more stays trusted."""
KEYS: Final = (LEAF_CERTIFICATE, LEAF_KEY, BUNDLE, SIGNING_KEY, NEXT_KEY, RETIRING)
FAR: Final = timedelta(days=1)
_LAST_TIME: Final = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """What is to be made. `names`: DNS names or addresses by which API servers call the webhook; at least one.

    settle: how long a new authority is published before it signs; longer than any API server takes to follow a change.
    recovery: the same where there is nothing left to wait with. ValueError if an authority's last third cannot hold both
    `settle` and a leaf: then rotation would be late.
    """

    names: tuple[str, ...]
    leaf_life: timedelta = timedelta(days=7)
    authority_life: timedelta = timedelta(days=365)
    settle: timedelta = timedelta(minutes=5)
    recovery: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        if self.authority_life / 3 < self.settle + self.leaf_life:
            raise ValueError(
                f"an authority's life ({self.authority_life}) must be at least three times the leaf's ({self.leaf_life}) "
                f"and the time it is published before it signs ({self.settle}) together"
            )


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What is there. stored: content of the Secret, None if there is none. live: `caBundle` of each webhook of the
    configuration, None if there is none. trusted_since: see `note_trust`.
    """

    stored: Mapping[str, bytes] | None = field(repr=False)
    live: Sequence[bytes] | None
    trusted_since: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """What should be there. content: the Secret's whole content, None if it is as it should be. bundle: every `caBundle`.

    reasons: what is done and why, without secrets. check_at: when something is due next if nothing changes before.
    leaf_until: end of the leaf's life, None while there is none. authority_until: the same of the authority that signs.
    """

    content: Mapping[str, bytes] | None = field(repr=False)
    bundle: bytes
    reasons: tuple[str, ...]
    check_at: datetime
    leaf_until: datetime | None
    authority_until: datetime | None


def note_trust(before: Mapping[str, datetime], live: Sequence[bytes] | None, now: datetime) -> dict[str, datetime]:
    """Return since when each authority of ours has been seen in every `caBundle` without interruption."""
    return {one: before.get(one, now) for one in _live(live, now)}


def plan_certificates(state: CertificateState, now: datetime, settings: CertificateSettings) -> CertificatePlan:
    """Return what Secret and bundle should be. Of what is stored, everything that is still good is kept to the byte."""
    draft = _Draft(state, now, settings)
    draft.provide_authority()
    draft.provide_leaf()
    content = draft.content()
    stored = {key: value for key, value in (state.stored or {}).items() if key in KEYS}
    return CertificatePlan(
        content=None if content == stored else content,
        bundle=content[BUNDLE],
        reasons=tuple(draft.reasons),
        check_at=draft.check_at(),
        leaf_until=None if draft.leaf is None else draft.leaf.certificate.not_valid_after_utc,
        authority_until=None if draft.signer is None else draft.signer.certificate.not_valid_after_utc,
    )


class _Draft:
    """The set as it is read, and as the steps change it."""

    def __init__(self, state: CertificateState, now: datetime, settings: CertificateSettings) -> None:
        self._state, self._now, self._settings = state, now, settings
        self.reasons: list[str] = []
        stored = state.stored or {}
        self._live = _live(state.live, now)
        known = certificates.parse_authorities(stored.get(BUNDLE, b""), now) | self._live
        self.signer = certificates.find_authority(stored.get(SIGNING_KEY, b""), known.values())
        self.next = certificates.find_authority(stored.get(NEXT_KEY, b""), known.values())
        if self.next is not None and self.signer is not None and self.next.certificate == self.signer.certificate:
            self.next = None
        leaf = certificates.parse_leaf(stored.get(LEAF_CERTIFICATE, b""), stored.get(LEAF_KEY, b""), now)
        self.issuer = None if leaf is None else certificates.find_issuer(leaf.certificate, known.values())
        self.leaf: Leaf | None = None if self.issuer is None else leaf
        retiring = _read_retiring(stored)
        if any(until <= now for until in retiring.values()):
            self.reasons.append("a former certificate authority is trusted no more, since its last leaf is over")
        self._retiring = {name: (known[name], until) for name, until in retiring.items() if name in known and until > now}
        if self.signer is None and self.next is None and self.leaf is None:
            # Replicas may serve leaves of what is live, for at most a leaf's life.
            self._retiring = {name: (one, self._until_leaf_is_over()) for name, one in self._live.items()}

    def provide_authority(self) -> None:
        """Make an authority if there is none, or the one that signs is past two thirds of its life."""
        if self.next is not None or (self.signer is not None and self._now < self._due(self.signer.certificate)):
            return
        made = certificates.make_authority(self._now, self._settings.authority_life)
        if self.signer is None and self.leaf is None:
            self.signer = made
            self.reasons.append("made a certificate authority, since none was stored that can be used")
        else:
            self.next = made
            old = "its key is lost" if self.signer is None else "the present one is past two thirds of its life"
            self.reasons.append(f"made a new certificate authority, since {old}; it will sign when all know it")

    def provide_leaf(self) -> None:
        """Issue a leaf if there is none, it is old or for other names, or the next authority may take over."""
        issuer = self._issuer()
        if issuer is None:
            return
        why = self._why_issue(issuer)
        if why is None:
            return
        leaf = certificates.issue_leaf(issuer, self._settings.names, self._now, self._settings.leaf_life)
        self._retire(issuer)
        self.leaf, self.issuer = leaf, issuer.certificate
        if issuer is self.next:
            self.next = None
        self.signer = issuer
        self.reasons.append(f"issued a serving certificate, since {why}")

    def content(self) -> dict[str, bytes]:
        """Return the Secret's content. A Secret of type kubernetes.io/tls must have both leaf keys, if empty."""
        content = {
            LEAF_CERTIFICATE: b"" if self.leaf is None else certificates.render_certificates([self.leaf.certificate]),
            LEAF_KEY: b"" if self.leaf is None else certificates.render_key(self.leaf.key),
            BUNDLE: certificates.render_certificates(self._trusted().values()),
        }
        if self.signer is not None:
            content[SIGNING_KEY] = certificates.render_key(self.signer.key)
        if self.next is not None:
            content[NEXT_KEY] = certificates.render_key(self.next.key)
        if self._retiring:
            untils = {name: int(until.timestamp()) for name, (_, until) in sorted(self._retiring.items())}
            content[RETIRING] = json.dumps(untils).encode()
        return content

    def check_at(self) -> datetime:
        """Return the next time at which something can be due; later than now."""
        times = [until for _, until in self._retiring.values()]
        if self.leaf is not None:
            times += [self._due(self.leaf.certificate), self.leaf.certificate.not_valid_after_utc]
        if self.signer is not None:
            times += [self._due(self.signer.certificate), self.signer.certificate.not_valid_after_utc]
        for authority in (self.signer, self.next):
            since = None if authority is None else self._state.trusted_since.get(fingerprint(authority.certificate))
            if since is not None:
                times += [since + self._settings.recovery, since + self._settings.settle]
        return min((time for time in times if time > self._now), default=self._now + FAR)

    def _issuer(self) -> Authority | None:
        """Return who may sign now; None: nobody, wait until the authority is known."""
        if self.leaf is not None:
            if self.next is not None and self._is_known(self.next, self._settings.settle):
                return self.next
            return self.signer
        issuer = self.signer or self.next
        if issuer is None:
            return None
        others = self._live.keys() - {fingerprint(issuer.certificate)}
        return issuer if not others or self._is_known(issuer, self._settings.recovery) else None

    def _why_issue(self, issuer: Authority) -> str | None:
        if self.leaf is None:
            return "none was stored that can be used"
        if issuer is self.next:
            return "the new certificate authority is known by now"
        if not certificates.covers(self.leaf.certificate, self._settings.names):
            return "the present one is for other names"
        # A leaf that lives as long as its authority gains nothing: it would be renewed ever more often.
        gains = self.leaf.certificate.not_valid_after_utc < issuer.certificate.not_valid_after_utc
        if gains and self._now >= self._due(self.leaf.certificate):
            return "the present one is past two thirds of its life"
        return None

    def _retire(self, issuer: Authority) -> None:
        """Keep trust in whoever signed before, until no leaf of theirs can be valid."""
        chosen = fingerprint(issuer.certificate)
        self._retiring.pop(chosen, None)
        if self.signer is not None and fingerprint(self.signer.certificate) != chosen:
            self._retiring[fingerprint(self.signer.certificate)] = (self.signer.certificate, self._until_leaf_is_over())
        if self.leaf is not None and self.issuer is not None and fingerprint(self.issuer) != chosen:
            self._retiring[fingerprint(self.issuer)] = (self.issuer, self.leaf.certificate.not_valid_after_utc)

    def _trusted(self) -> dict[str, x509.Certificate]:
        trusted = [one.certificate for one in (self.signer, self.next) if one is not None]
        trusted += [one for one, _ in self._retiring.values()] + ([] if self.issuer is None else [self.issuer])
        return {fingerprint(one): one for one in trusted}

    def _is_known(self, authority: Authority, span: timedelta) -> bool:
        """Tell whether API servers have had time to learn of it; without a configuration nobody asks."""
        if self._state.live is None:
            return True
        since = self._state.trusted_since.get(fingerprint(authority.certificate))
        return since is not None and self._now - since >= span

    def _due(self, certificate: x509.Certificate) -> datetime:
        """Return when two thirds of its life are over; of the life in the settings, where that is shorter."""
        is_leaf = self.leaf is not None and certificate == self.leaf.certificate
        wanted = self._settings.leaf_life if is_leaf else self._settings.authority_life
        made = certificate.not_valid_before_utc + BACKDATE
        return made + min(certificate.not_valid_after_utc - made, wanted) * 2 / 3

    def _until_leaf_is_over(self) -> datetime:
        return (self._now + self._settings.leaf_life).replace(microsecond=0) + timedelta(seconds=1)


def _live(live: Sequence[bytes] | None, now: datetime) -> dict[str, x509.Certificate]:
    """Return the authorities of ours that every webhook's bundle holds."""
    found = [certificates.parse_authorities(bundle, now) for bundle in live or ()]
    return {name: one for name, one in found[0].items() if all(name in other for other in found)} if found else {}


def _read_retiring(stored: Mapping[str, bytes]) -> dict[str, datetime]:
    try:
        untils = json.loads(stored.get(RETIRING, b"{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(untils, dict):
        return {}
    return {
        name: datetime.fromtimestamp(until, UTC)
        for name, until in untils.items()
        if type(until) is int and 0 < until < _LAST_TIME
    }
