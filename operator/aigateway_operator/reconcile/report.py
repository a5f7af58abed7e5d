"""What the last round of a gateway said, as one value that may be read in any thread: for metrics.

Made by the controller when somebody asks, out of values that are never changed; costs next to nothing a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.kube.resources import CONFIG_MAPS
from aigateway_operator.plan.news import Standing
from aigateway_operator.plan.result import StatusWrite
from aigateway_operator.reconcile.gateway_state import GatewayState


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """One gateway after its last round.

    status: of the GatewayConfig, as it should be; None if there is none. models: how many VirtualModels name it.
    standings: those of them that are not just Ready, by name. document_bytes: size by file name of what is live.
    mirror_trouble: "" while the Redis mirror works, None where there is none or nothing is known.
    """

    key: GatewayKey
    status: StatusWrite | None
    models: int
    standings: Mapping[str, Standing]
    document_bytes: Mapping[str, int]
    mirror_trouble: str | None


def report(key: GatewayKey, state: GatewayState, mirror_trouble: str | None) -> GatewayReport:
    """Return what a gateway's memory says."""
    sizes = {
        file: size
        for live in state.live[CONFIG_MAPS].values()
        if live.ours
        for file, size in live.sizes.items()
        if file.endswith(".yml")
    }
    told = state.memo.told
    return GatewayReport(key, state.status, told.models, told.standings.copy(), sizes, mirror_trouble)
