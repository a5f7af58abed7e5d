"""The leader's loop around the webhook's certificates, in virtual time: who writes, when, how often, and what after errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isnan

from aigateway_operator.admission.certificate_keeper import CertificateKeeper
from aigateway_operator.admission.certificate_plan import CertificateSettings
from aigateway_operator.errors import Conflict, Unavailable
from tests.virtual_time import now, virtual

DAY_SECONDS = 86_400.0
SETTINGS = CertificateSettings(
    ("webhook.ns.svc",), leaf_life=timedelta(hours=6), authority_life=timedelta(days=3), settle=timedelta(minutes=5)
)
"""Short lives: the virtual clock loses its precision after months."""


def wall_clock() -> datetime:
    """Return the wall clock of the virtual loop."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=now())


@dataclass
class Objects:
    """Secret and configuration as every replica sees them. Changes by anybody wake all keepers."""

    secret: Mapping[str, bytes] | None = None
    bundles: Mapping[str, bytes] | None = field(default_factory=lambda: {"validate": b""})
    listed: bool = True
    writes: list[tuple[float, str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    keepers: list[CertificateKeeper] = field(default_factory=list)
    running: int = 0
    stubborn: bool = False

    def start(self) -> None:
        self.running += 1

    async def stop(self) -> None:
        self.running -= 1

    async def write_secret(self, content: Mapping[str, bytes]) -> None:
        await self._write("secret")
        self.secret = dict(content)
        self.changed()

    async def write_bundle(self, bundle: bytes) -> None:
        await self._write("bundle")
        if not self.stubborn:
            self.bundles = dict.fromkeys(self.bundles or {}, bundle)
        self.changed()

    async def _write(self, what: str) -> None:
        await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop(0)
        self.writes.append((now(), what))

    def delete_secret(self) -> None:
        self.secret = None
        self.changed()

    def changed(self) -> None:
        for keeper in self.keepers:
            keeper.wake()

    @property
    def kinds(self) -> list[str]:
        return [what for _, what in self.writes]


@dataclass
class Replica:
    keeper: CertificateKeeper
    leads: bool

    def lead(self, leads: bool) -> None:
        self.leads = leads
        self.keeper.wake()


@asynccontextmanager
async def replica(objects: Objects, *, leads: bool = True) -> AsyncIterator[Replica]:
    """A running keeper."""
    keeper = CertificateKeeper(objects, lambda: made.leads, SETTINGS, clock=wall_clock, monotonic=now)
    made = Replica(keeper, leads)
    objects.keepers.append(keeper)
    task = asyncio.create_task(keeper.run())
    try:
        yield made
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        objects.keepers.remove(keeper)
    assert objects.running == len(objects.keepers), "what was started was not stopped"


@virtual
async def test_first_start_fills_both_and_quiet_hours_write_nothing_more() -> None:
    """Secret first: what is trusted must have its key stored."""
    objects = Objects()
    async with replica(objects) as one:
        await asyncio.sleep(0.1)
        assert objects.kinds == ["secret", "bundle"]
        assert objects.bundles == {"validate": (objects.secret or {})["ca.crt"]}
        await asyncio.sleep(3.9 * 3600)
        assert objects.kinds == ["secret", "bundle"]
        assert 2 * 3600 < one.keeper.expiry("leaf") - wall_clock().timestamp() < 2.2 * 3600


@virtual
async def test_renewals_of_an_authoritys_life_come_at_their_times() -> None:
    """The loop's own pauses lead to what the plan demands: 18 leaves, a new authority and the old one's end."""
    objects = Objects()
    async with replica(objects):
        await asyncio.sleep(3 * DAY_SECONDS)
    assert 18 <= objects.kinds.count("secret") <= 22
    assert objects.kinds.count("bundle") == 3


@virtual
async def test_only_the_leader_writes_and_its_successor_knows_since_when_an_authority_is_trusted() -> None:
    """A standby writes nothing for as long as it stands by; it need not wait the settle time again when it takes over."""
    objects = Objects()
    async with replica(objects, leads=False) as first, replica(objects, leads=False) as second:
        await asyncio.sleep(100)
        assert objects.writes == []
        assert isnan(first.keeper.expiry("leaf"))
        first.lead(True)
        await asyncio.sleep(1)
        assert objects.kinds == ["secret", "bundle"]
        assert (first.keeper.writes, second.keeper.writes) == (2, 0)
        # Into the middle of the settle time of the next authority.
        await asyncio.sleep(2 * DAY_SECONDS + 120 - now() + 1100)
        assert "next-ca.key" in (objects.secret or {})
        first.lead(False)
        second.lead(True)
        await asyncio.sleep(300)
        assert "next-ca.key" not in (objects.secret or {})
        assert second.keeper.writes == 1


@virtual
async def test_a_deleted_secret_and_an_overwritten_bundle_heal_within_seconds() -> None:
    """Each as soon as its change is told."""
    objects = Objects()
    async with replica(objects):
        await asyncio.sleep(100)
        objects.bundles = {"validate": b"overwritten", "second": b""}
        objects.changed()
        await asyncio.sleep(0.1)
        bundle = (objects.secret or {})["ca.crt"]
        assert objects.bundles == {"validate": bundle, "second": bundle}
        objects.delete_secret()
        await asyncio.sleep(4)
        healed = objects.secret or {}
        assert healed["tls.crt"]
        assert objects.bundles == dict.fromkeys(("validate", "second"), healed["ca.crt"])


@virtual
async def test_whoever_insists_on_another_bundle_is_answered_once_a_second_and_no_more() -> None:
    """Two controllers that fight must not load the API server."""
    objects = Objects(stubborn=True)
    async with replica(objects):
        await asyncio.sleep(60)
    assert 55 <= objects.kinds.count("bundle") <= 61


@virtual
async def test_nothing_is_written_before_both_have_been_looked_for() -> None:
    """What is not known yet is not missing."""
    objects = Objects(listed=False)
    async with replica(objects):
        await asyncio.sleep(1000)
        assert objects.writes == []
        objects.listed = True
        objects.changed()
        await asyncio.sleep(0.1)
        assert objects.kinds == ["secret", "bundle"]


@virtual
async def test_an_absent_configuration_is_waited_for() -> None:
    """The Secret is there before, so that replicas are ready when the configuration comes."""
    objects = Objects(bundles=None)
    async with replica(objects):
        await asyncio.sleep(1000)
        assert objects.kinds == ["secret"]
        objects.bundles = {"validate": b""}
        objects.changed()
        await asyncio.sleep(0.1)
        assert objects.kinds == ["secret", "bundle"]


@virtual
async def test_failed_writes_are_tried_again_with_growing_pauses_and_a_fault_ends_nothing() -> None:
    """An outage, a lost race, a broken adapter: all are survived."""
    outage = [Unavailable("down")] * 8
    objects = Objects(failures=[*outage, Conflict("raced"), ValueError("broken"), *outage[:1]])
    async with replica(objects):
        await asyncio.sleep(20)
        assert objects.writes == []
        assert len(objects.failures) < 6
        await asyncio.sleep(60)
        assert objects.kinds == ["secret", "bundle"]
