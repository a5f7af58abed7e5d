"""What is planned for the webhook's certificates: when what is renewed, and who trusts whom at every instant of years."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from aigateway_operator.admission.certificate_plan import (
    CertificatePlan,
    CertificateSettings,
    CertificateState,
    note_trust,
    plan_certificates,
)
from aigateway_operator.admission.certificates import (
    BACKDATE,
    Authority,
    issue_leaf,
    make_authority,
    parse_authorities,
    parse_certificates,
    parse_key,
    render_certificates,
    render_key,
)

START = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
NAME = "aigateway-webhook.aigateway-system.svc"
SETTINGS = CertificateSettings((NAME, f"{NAME}.cluster.local"))
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def accepts(bundle: bytes, leaf: x509.Certificate, now: datetime) -> bool:
    """Tell whether a client that trusts `bundle` accepts `leaf` for NAME, by a verifier that is not ours."""
    roots = parse_certificates(bundle)
    if not roots:
        return False
    verifier = PolicyBuilder().store(Store(roots)).time(now).build_server_verifier(x509.DNSName(NAME))
    try:
        verifier.verify(leaf, [])
    except VerificationError:
        return False
    return True


@dataclass
class Cluster:
    """A Secret, one `caBundle`, a clock, and the keeper's memory; `step` does what the keeper does, write by write."""

    now: datetime = START
    stored: dict[str, bytes] | None = None
    live: list[bytes] | None = field(default_factory=lambda: [b""])
    trusted_since: Mapping[str, datetime] = field(default_factory=dict)
    settings: CertificateSettings = SETTINGS
    bundles: list[tuple[datetime, bytes]] = field(default_factory=list)
    leaves: list[x509.Certificate] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    writes: int = 0
    frozen_bundle: bool = False

    def plan(self) -> CertificatePlan:
        self.trusted_since = note_trust(self.trusted_since, self.live, self.now)
        return plan_certificates(CertificateState(self.stored, self.live, self.trusted_since), self.now, self.settings)

    def step(self) -> datetime:
        """Do all that is due; return when to look again."""
        for _ in range(6):
            plan = self.plan()
            if plan.content is not None:
                self.stored = dict(plan.content)
                self.reasons += plan.reasons
                if self.leaf is not None and (not self.leaves or self.leaves[-1] != self.leaf):
                    self.leaves.append(self.leaf)
            elif self.live is not None and any(bundle != plan.bundle for bundle in self.live) and not self.frozen_bundle:
                self.live = [plan.bundle for _ in self.live]
                self.bundles.append((self.now, plan.bundle))
            else:
                return plan.check_at
            self.writes += 1
        raise AssertionError(f"the plan never comes to rest: {self.reasons}")

    def run(self, until: datetime) -> None:
        """Let time pass, doing what is due when it is due."""
        while self.now < until:
            due = self.step()
            assert due > self.now, "a due time that is not in the future would spin"
            self.now = min(due, until)
        self.step()

    @property
    def leaf(self) -> x509.Certificate | None:
        return next(iter(parse_certificates((self.stored or {})["tls.crt"])), None)

    @property
    def must_leaf(self) -> x509.Certificate:
        leaf = self.leaf
        assert leaf is not None, "there is no leaf"
        return leaf

    def bundle_at(self, when: datetime) -> bytes:
        return [bundle for time, bundle in self.bundles if time <= when][-1]

    @property
    def authorities(self) -> int:
        assert self.live is not None
        return len(parse_certificates(self.live[0]))


def started(**changes: object) -> Cluster:
    """Return a cluster after its first start."""
    cluster = Cluster(**changes)  # type: ignore[arg-type]  # fields of the dataclass, as tests name them
    cluster.step()
    return cluster


def test_first_start_makes_all_with_one_write_each_and_then_rests() -> None:
    """A Secret of the TLS type with a leaf that the bundle vouches for; nothing more is due at that time."""
    cluster = started()
    assert cluster.writes == 2
    assert cluster.stored is not None
    assert set(cluster.stored) == {"tls.crt", "tls.key", "ca.crt", "ca.key"}
    assert cluster.live == [cluster.stored["ca.crt"]]
    assert accepts(cluster.live[0], cluster.must_leaf, cluster.now)
    assert cluster.plan().content is None
    assert cluster.plan().reasons == ()


def test_certificates_are_what_api_servers_expect() -> None:
    """P-256; the leaf serves only and bears its names; the authority signs leaves only; lives and back-dating as set."""
    cluster = started()
    leaf, authority = cluster.must_leaf, parse_certificates((cluster.stored or {})["ca.crt"])[0]
    for one, life in ((leaf, timedelta(days=7)), (authority, timedelta(days=365))):
        key = one.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert one.not_valid_after_utc == START.replace(microsecond=0) + life
        assert one.not_valid_before_utc == START.replace(microsecond=0) - BACKDATE
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME, f"{NAME}.cluster.local"]
    assert [oid._name for oid in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == ["serverAuth"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert not authority.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature


def test_names_may_be_addresses() -> None:
    """Where API servers call the webhook by URL."""
    cluster = started(settings=CertificateSettings((NAME, "127.0.0.1", "::1")))
    names = cluster.must_leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("skew", [-4.9 * MINUTE, timedelta(0), 4.9 * MINUTE])
def test_a_client_whose_clock_is_minutes_off_accepts_a_fresh_leaf(skew: timedelta) -> None:
    """Clocks of API servers are not ours."""
    cluster = started()
    assert cluster.live is not None
    assert accepts(cluster.live[0], cluster.must_leaf, cluster.now + skew)


def test_leaf_is_renewed_at_two_thirds_of_its_life_and_not_before() -> None:
    """By the same authority, so the bundle stays as it is."""
    cluster = started()
    first, writes = cluster.must_leaf, cluster.writes
    cluster.run(START + 4.66 * DAY)
    assert (cluster.must_leaf, cluster.writes) == (first, writes)
    cluster.run(START + 4.67 * DAY)
    assert cluster.must_leaf != first
    assert cluster.writes == writes + 1
    assert len(cluster.bundles) == 1


def test_over_years_every_client_accepts_every_leaf_it_can_meet() -> None:
    """At every write of six years, and just before: bundles of up to the settle time ago accept the leaf of now, and the
    bundle of now accepts every leaf that has not expired, such as a replica that was cut off may serve.
    """
    cluster = started()
    authorities = set()
    while cluster.now < START + 6 * 365 * DAY:
        before = cluster.now
        due = cluster.step()
        for now in (before, due - timedelta(milliseconds=1)):
            for age in (timedelta(0), SETTINGS.settle / 2, SETTINGS.settle - timedelta(milliseconds=1)):
                assert accepts(cluster.bundle_at(max(START, before - age)), cluster.must_leaf, now), (now, age)
            for old in cluster.leaves[-4:]:
                if old.not_valid_after_utc > now:
                    assert accepts(cluster.bundle_at(now), old, now), (now, old)
        authorities.add(cluster.must_leaf.issuer)
        cluster.now = due
    assert len(authorities) == 9, "six years at two thirds of a year each"
    assert 460 < len(cluster.leaves) < 490
    assert cluster.writes < len(cluster.leaves) + 5 * len(authorities), "writes only where something is due"


def test_new_authority_signs_only_after_it_was_live_for_the_settle_time() -> None:
    """Published, waited, signed, and the old one dropped when its last leaf is over: each at its time, one write each."""
    cluster = started()
    rotation = START.replace(microsecond=0) + 365 * DAY * 2 / 3
    cluster.run(rotation - MINUTE)
    assert cluster.authorities == 1
    old = cluster.must_leaf.issuer
    cluster.run(rotation + MINUTE)
    assert cluster.authorities == 2
    assert cluster.must_leaf.issuer == old
    cluster.run(rotation + SETTINGS.settle - timedelta(seconds=1))
    assert cluster.must_leaf.issuer == old
    last_of_old = cluster.must_leaf
    cluster.run(rotation + SETTINGS.settle + timedelta(seconds=2))
    assert cluster.must_leaf.issuer != old
    assert "next-ca.key" not in (cluster.stored or {})
    cluster.run(last_of_old.not_valid_after_utc - timedelta(seconds=1))
    assert cluster.authorities == 2
    cluster.run(last_of_old.not_valid_after_utc)
    assert cluster.authorities == 1
    assert "retiring.json" not in (cluster.stored or {})
    assert cluster.reasons[-1] == "a former certificate authority is trusted no more, since its last leaf is over"


def test_the_end_of_an_old_authority_is_due_by_itself() -> None:
    """Nothing else would happen on that day, so trust in it would last until something does."""
    cluster = started()
    rotation = START.replace(microsecond=0) + 365 * DAY * 2 / 3
    cluster.run(rotation + SETTINGS.settle - timedelta(seconds=1))
    end = cluster.must_leaf.not_valid_after_utc
    while cluster.now < end:
        cluster.now = cluster.step()
    cluster.step()
    assert cluster.authorities == 1
    assert cluster.now - end < MINUTE


def test_an_authority_that_one_of_two_webhooks_does_not_know_signs_nothing() -> None:
    """Somebody holds on to the old bundle of one: API servers would refuse its calls, and with them every edit."""
    cluster = started(live=[b"", b""])
    rotation = START.replace(microsecond=0) + 365 * DAY * 2 / 3
    cluster.run(rotation + MINUTE)
    assert cluster.live is not None
    old = cluster.must_leaf.issuer
    cluster.live = [cluster.live[0], cluster.bundles[0][1]]
    cluster.frozen_bundle = True
    cluster.run(rotation + 20 * MINUTE)
    assert cluster.must_leaf.issuer == old
    assert all(accepts(bundle, cluster.must_leaf, cluster.now) for bundle in cluster.live)


def test_a_set_of_which_only_the_next_key_is_left_is_made_whole_by_it() -> None:
    """It is published already, so that nothing has to be made and waited for."""
    cluster = started()
    cluster.run(START.replace(microsecond=0) + 365 * DAY * 2 / 3 + MINUTE)
    assert cluster.stored is not None
    bundle = cluster.stored["ca.crt"]
    assert "next-ca.key" in cluster.stored
    cluster.stored |= {"ca.key": b"garbage", "tls.crt": b"", "tls.key": b""}
    cluster.run(cluster.now + timedelta(seconds=5))
    assert cluster.leaf is not None
    assert accepts(bundle, cluster.must_leaf, cluster.now)
    assert _fits(cluster)


def test_an_interrupted_publication_starts_the_settle_time_anew() -> None:
    """Somebody takes the new authority out of caBundle for a moment: the leaf is not signed by it before it is known again."""
    cluster = started()
    rotation = START.replace(microsecond=0) + 365 * DAY * 2 / 3
    cluster.run(rotation + 4 * MINUTE)
    old = cluster.must_leaf.issuer
    cluster.live = [cluster.bundles[0][1]]
    cluster.run(rotation + 8 * MINUTE)
    assert cluster.must_leaf.issuer == old
    cluster.run(rotation + 10 * MINUTE)
    assert cluster.must_leaf.issuer != old


def test_a_bundle_that_nobody_lets_us_write_does_not_break_what_works() -> None:
    """The leaf goes on under the known authority to its very end, without ever more frequent renewals."""
    cluster = started()
    cluster.frozen_bundle = True
    end = parse_certificates((cluster.stored or {})["ca.crt"])[0].not_valid_after_utc
    while cluster.now < end - timedelta(seconds=1):
        due = cluster.step()
        assert accepts(cluster.bundle_at(cluster.now), cluster.must_leaf, cluster.now)
        cluster.now = min(due, end - timedelta(seconds=1))
    assert cluster.writes < 365 / 4.6 + 5


def test_a_new_leader_waits_the_settle_time_again() -> None:
    """It cannot know for how long the bundle was live before it came."""
    cluster = started()
    rotation = START.replace(microsecond=0) + 365 * DAY * 2 / 3
    cluster.run(rotation + 4 * MINUTE)
    old = cluster.must_leaf.issuer
    cluster.trusted_since = {}
    cluster.run(rotation + 6 * MINUTE)
    assert cluster.must_leaf.issuer == old
    cluster.run(rotation + 10 * MINUTE)
    assert cluster.must_leaf.issuer != old


def test_a_lost_secret_is_made_anew_and_published_before_it_is_served() -> None:
    """Replicas go on with the old leaf meanwhile; the bundle vouches for old and new until the old can be valid no more."""
    cluster = started()
    old, bundle = cluster.must_leaf, cluster.bundles[-1][1]
    cluster.now += DAY
    cluster.stored = None
    cluster.step()
    assert cluster.leaf is None
    assert accepts(cluster.bundles[-1][1], old, cluster.now)
    cluster.run(cluster.now + timedelta(seconds=3))
    new = cluster.must_leaf
    assert cluster.bundles[-1][0] <= cluster.now - SETTINGS.recovery
    assert accepts(cluster.bundles[-1][1], new, cluster.now)
    assert not accepts(bundle, new, cluster.now)
    cluster.run(old.not_valid_after_utc - timedelta(seconds=1))
    assert accepts(cluster.bundles[-1][1], old, cluster.now)
    cluster.run(cluster.now + 8 * DAY)
    assert cluster.authorities == 1


def test_without_a_configuration_nothing_is_waited_for() -> None:
    """Nobody asks, so a lost Secret is made whole at once; the configuration gets its bundle when it comes."""
    cluster = started(live=None)
    assert cluster.leaf is not None
    cluster.stored = None
    cluster.step()
    assert cluster.leaf is not None
    cluster.live = [b"", b""]
    cluster.step()
    assert cluster.live is not None
    assert [accepts(bundle, cluster.must_leaf, cluster.now) for bundle in cluster.live] == [True, True]


def test_an_overwritten_bundle_is_restored_and_nothing_else_is_done() -> None:
    """By garbage, by nothing, by somebody else's authority, or by half of ours."""
    foreign = render_certificates([_foreign_authority()])
    cluster = started()
    good, stored = list(cluster.live or ()), cluster.stored
    for overwritten in (b"", b"garbage", foreign, good[0] + foreign, good[0][:-40]):
        cluster.live = [overwritten]
        cluster.step()
        assert cluster.live == good
    assert cluster.stored == stored


def test_somebody_elses_authority_is_never_taken_over() -> None:
    """Not even while our own set is lost: it would be trusted for days."""
    cluster = started()
    cluster.live = [render_certificates([_foreign_authority()])]
    cluster.stored = None
    cluster.step()
    assert cluster.authorities == 1
    assert cluster.leaf is not None


@pytest.mark.parametrize("lost", [("tls.crt",), ("tls.key",), ("tls.crt", "tls.key")])
@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None])
def test_an_unusable_leaf_is_issued_anew_by_the_same_authority(lost: tuple[str, ...], content: bytes | None) -> None:
    """At once: clients trust that authority already."""
    cluster = started()
    cluster.now += DAY
    assert cluster.stored is not None
    bundle = cluster.stored["ca.crt"]
    for key in lost:
        if content is None:
            del cluster.stored[key]
        else:
            cluster.stored[key] = content
    cluster.step()
    assert cluster.stored["ca.crt"] == bundle
    assert accepts(bundle, cluster.must_leaf, cluster.now)
    assert _fits(cluster)


def test_a_pair_that_does_not_fit_is_replaced() -> None:
    """A key of another leaf, and a whole pair signed by an authority that nobody knows."""
    cluster = started()
    assert cluster.stored is not None
    cluster.stored["tls.key"] = render_key(ec.generate_private_key(ec.SECP256R1()))
    cluster.step()
    assert _fits(cluster)
    stranger = make_authority(cluster.now, 365 * DAY)
    leaf = issue_leaf(stranger, SETTINGS.names, cluster.now, 7 * DAY)
    cluster.stored |= {"tls.crt": render_certificates([leaf.certificate]), "tls.key": render_key(leaf.key)}
    cluster.step()
    assert accepts(cluster.bundles[-1][1], cluster.must_leaf, cluster.now)


def test_a_leaf_that_only_names_our_authority_is_replaced() -> None:
    """Signed by somebody else in its name: no API server would accept it, so that every edit would be refused."""
    cluster = started()
    assert cluster.stored is not None
    bundle = cluster.stored["ca.crt"]
    forged = Authority(parse_certificates(bundle)[0], ec.generate_private_key(ec.SECP256R1()))
    leaf = issue_leaf(forged, SETTINGS.names, cluster.now, 7 * DAY)
    cluster.stored |= {"tls.crt": render_certificates([leaf.certificate]), "tls.key": render_key(leaf.key)}
    cluster.step()
    assert cluster.must_leaf != leaf.certificate
    assert accepts(bundle, cluster.must_leaf, cluster.now)


def test_a_name_that_is_added_renews_the_leaf() -> None:
    """One of several that it bears is not enough: API servers call the webhook by the new one too."""
    cluster = started()
    first = cluster.must_leaf
    cluster.settings = CertificateSettings((*SETTINGS.names, "webhook.example.com"))
    cluster.step()
    assert cluster.must_leaf != first
    cluster.settings = SETTINGS
    renewed = cluster.must_leaf
    cluster.step()
    assert cluster.must_leaf == renewed, "one that is for more than is asked for is good"


def test_a_leaf_never_outlives_its_authority() -> None:
    """Replicas would go on serving what nobody accepts, and tell of a certificate that is good for days."""
    authority = make_authority(START, 2 * DAY)
    leaf = issue_leaf(authority, SETTINGS.names, START, 7 * DAY)
    assert leaf.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_a_bundle_is_the_same_bytes_in_whatever_order_its_authorities_are_found() -> None:
    """Two leaders in turn must not write it back and forth."""
    first, second = (make_authority(now, 365 * DAY).certificate for now in (START, START + DAY))
    assert render_certificates([first, second]) == render_certificates([second, first])


def test_a_lost_authority_key_is_replaced_without_a_moment_of_distrust() -> None:
    """The leaf serves on; a new authority is published, settles, and takes over."""
    cluster = started()
    assert cluster.stored is not None
    old = cluster.must_leaf
    cluster.stored["ca.key"] = b"garbage"
    cluster.run(cluster.now + MINUTE)
    assert cluster.must_leaf == old
    assert cluster.authorities == 2
    cluster.run(cluster.now + SETTINGS.settle)
    assert cluster.must_leaf.issuer != old.issuer
    assert accepts(cluster.bundles[-1][1], old, cluster.now)


def test_a_lost_bundle_in_the_secret_comes_back_from_the_configuration() -> None:
    """The authority's certificate stands there too, so nothing has to be made anew."""
    cluster = started()
    assert cluster.stored is not None
    before = dict(cluster.stored)
    cluster.stored["ca.crt"] = b"garbage"
    cluster.step()
    assert cluster.stored == before


def test_what_expired_while_nobody_led_is_made_anew_at_once() -> None:
    """A leaf, and after a year the authority too: there is nothing left to wait with."""
    cluster = started()
    cluster.now += 30 * DAY
    cluster.step()
    assert accepts(cluster.bundles[-1][1], cluster.must_leaf, cluster.now)
    assert cluster.authorities == 1
    cluster.now += 400 * DAY
    cluster.step()
    assert accepts(cluster.bundles[-1][1], cluster.must_leaf, cluster.now)
    assert cluster.authorities == 1


def test_other_names_or_a_shorter_life_in_the_settings_renew_the_leaf() -> None:
    """A changed Service name must not wait for days."""
    cluster = started()
    first = cluster.must_leaf
    cluster.settings = CertificateSettings(("other.ns.svc",))
    cluster.step()
    second = cluster.must_leaf
    assert second.issuer == first.issuer
    assert second != first
    cluster.now += 2 * DAY
    cluster.settings = CertificateSettings(("other.ns.svc",), leaf_life=DAY)
    cluster.step()
    assert cluster.must_leaf.not_valid_after_utc - cluster.now <= DAY


def test_keys_of_others_in_the_secret_are_no_reason_to_write() -> None:
    """Whoever adds one is not fought over it."""
    cluster = started()
    assert cluster.stored is not None
    cluster.stored["note"] = b"hello"
    assert cluster.plan().content is None


def test_keys_never_show_in_a_repr() -> None:
    """Plans and states are logged by mistake sooner or later."""
    cluster = started()
    state = CertificateState(cluster.stored, cluster.live, {})
    cluster.stored = None
    assert "PRIVATE" not in repr(cluster.plan()) + repr(state)


def test_lives_that_leave_no_time_to_rotate_are_refused() -> None:
    """The last third of an authority's life must hold the settle time and a leaf."""
    with pytest.raises(ValueError, match="three times"):
        CertificateSettings((NAME,), leaf_life=timedelta(days=200))
    with pytest.raises(ValueError, match="three times"):
        CertificateSettings((NAME,), leaf_life=timedelta(days=100), settle=timedelta(days=50))


GARBAGE = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"{}",
            b'{"x": 1}',
            b'{"x": 1e400}',
            b"[[[[",
            json.dumps({"a": 10**30, "b": -1, "c": True}).encode(),
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ]
    ),
)
PLACES = ("tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.key", "retiring.json")


@settings(max_examples=150, deadline=None)
@given(
    damage=st.dictionaries(st.sampled_from(PLACES), st.one_of(st.none(), GARBAGE, st.sampled_from(PLACES)), min_size=1),
    live=st.one_of(st.none(), GARBAGE, st.just("same")),
    minutes=st.sampled_from([1, 6, 60 * 24 * 3, 60 * 24 * 9]),
    rotating=st.booleans(),
)
def test_whatever_is_damaged_heals_within_the_recovery_time(
    damage: dict[str, bytes | str | None], live: bytes | str | None, minutes: int, rotating: bool
) -> None:
    """Any keys of the Secret replaced by garbage, by each other or by nothing, at any phase: no error, and soon a good set."""
    cluster = started()
    if rotating:
        cluster.run(START + 365 * DAY * 2 / 3 + 2 * MINUTE)
    cluster.run(cluster.now + minutes * MINUTE)
    original = dict(cluster.stored or {})
    assert cluster.stored is not None
    for key, content in damage.items():
        replaced = original.get(content) if isinstance(content, str) else content
        if replaced is None:
            cluster.stored.pop(key, None)
        else:
            cluster.stored[key] = replaced
    if live != "same":
        cluster.live = None if live is None else [live if isinstance(live, bytes) else b""]
    cluster.run(cluster.now + timedelta(seconds=5))
    assert _fits(cluster)
    assert cluster.stored is not None
    assert accepts(cluster.stored["ca.crt"], cluster.must_leaf, cluster.now)
    assert cluster.live is None or cluster.live == [cluster.stored["ca.crt"]]
    assert parse_authorities(cluster.stored["ca.crt"], cluster.now)
    assert cluster.plan().content is None


def _fits(cluster: Cluster) -> bool:
    key = parse_key((cluster.stored or {})["tls.key"])
    return key is not None and key.public_key() == cluster.must_leaf.public_key()


def _foreign_authority() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "someone else")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, START - DAY, START + 999 * DAY)
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
