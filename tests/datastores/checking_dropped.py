"""Check all three stores at an address whose packets are dropped, and print what was found as JSON.

Run inside a network namespace of its own by test_network_namespace.py; `sys.argv[1]` is the address.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aigateway_operator.plan.health import StoreName
from aigateway_operator.rules import RuleContext
from tests.datastores.checks import check, said, store

STORES: tuple[StoreName, ...] = ("redis", "mongodb", "qdrant")


async def main(address: str) -> None:
    """Check each store once."""
    found = {}
    for name in STORES:
        outcome = await check(store(name, 6379, host=address), timeout_seconds=0.5, context=RuleContext(""))
        found[name] = [*said(outcome), outcome.latency_seconds]
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
