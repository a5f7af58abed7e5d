"""One check of one target, as the prober does it, for the tests of this folder."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from aigateway_operator.datastores.checking import make_checker
from aigateway_operator.datastores.connecting import Connector
from aigateway_operator.datastores.probe import Outcome
from aigateway_operator.datastores.resolving import Lookup, Resolver
from aigateway_operator.plan.health import StoreName, StoreTarget, Target
from aigateway_operator.rules import RuleContext

LOOPBACK = RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),))
SECRET = b"sesame-7f3a"
"""What must never be seen in a message."""


async def check(
    target: Target, *, timeout_seconds: float = 2.0, context: RuleContext = LOOPBACK, lookup: Lookup | None = None
) -> Outcome:
    """Check once; asserts what holds of every outcome."""
    checker = make_checker(target, Connector(context, Resolver(lookup)))
    try:
        outcome = await checker.check(timeout_seconds)
    finally:
        await checker.close()
    assert SECRET.decode() not in repr(outcome), "a secret is in a message"
    assert SECRET.decode() not in repr(target)
    assert outcome.message.endswith("."), outcome.message
    assert outcome.latency_seconds <= timeout_seconds + 0.5, "the time limit is a hard one"
    return outcome


def said(outcome: Outcome) -> tuple[str, str]:
    """Return state and reason."""
    return outcome.state.value, outcome.reason.value


def store(name: StoreName, port: int, **fields: Any) -> StoreTarget:
    """Return a target on this machine."""
    own: dict[str, Any] = {"collection": "knowledge_base"} if name == "qdrant" else {}
    if name == "mongodb":
        own = {"auth_source": "admin", "database": "ai_gateway"}
    return StoreTarget(name, fields.pop("host", "127.0.0.1"), port, **own, **fields)
