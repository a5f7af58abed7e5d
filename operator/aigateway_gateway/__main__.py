"""`python -m aigateway_gateway`: the gateway with settings from the environment alone; `aigateway gateway` has flags."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from aigateway_gateway.serve import CannotListen
from aigateway_gateway.settings import GatewaySettings
from aigateway_gateway.workers import run_gateway


def main() -> int:
    """Run; returns 0, or 2 when settings are wrong or the address cannot be had."""
    try:
        run_gateway(GatewaySettings())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors())
        print(f"error: {faults}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    except CannotListen as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
