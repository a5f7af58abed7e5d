"""Which files are made for the chart, and of what. `aigateway crds` makes the others: CRDs, policies, matchConditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from hack.chart.page import page
from hack.chart.schema import schema
from hack.chart.values import read_values

ROOT: Final = Path(__file__).resolve().parents[2]
MONITORING: Final = ("grafana-dashboard.json", "prometheus-rules.yaml")


def files() -> dict[str, str]:
    """Return the text of every file by its path in the repository."""
    values = read_values()
    made = {
        "charts/aigateway/values.schema.json": json.dumps(schema(values), indent=2, ensure_ascii=False) + "\n",
        "docs/chart-values.md": page(values),
    }
    for name in MONITORING:
        made[f"charts/aigateway/files/monitoring/{name}"] = (ROOT / "config" / "monitoring" / name).read_text(encoding="utf-8")
    return made
