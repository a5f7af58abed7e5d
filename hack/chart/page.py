"""docs/chart-values.md: every value of the chart with its default and what it is for. Made from values.yaml."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any, Final

from hack.chart.values import Value

_HEAD: Final = """<!-- Made by `python -m hack.chart` from charts/aigateway/values.yaml. Do not edit. -->
# Values of the chart
[install.md](install.md) says how the chart is used and which presets there are.
The chart refuses values that are not listed here, and values of another type or out of range, by name (`values.schema.json`).
"""
_TITLES: Final = {"": "General"}


def page(values: list[Value]) -> str:
    """Return the whole page."""
    parts = [_HEAD]
    ordered = sorted(values, key=lambda value: len(value.path) > 1)  # stable: top-level values first
    for section, group in groupby(ordered, key=lambda value: value.path[0] if len(value.path) > 1 else ""):
        rows = "\n".join(f"| `{one.dotted}` | {_shown(one.default)} | {_cell(one.text)} |" for one in group)
        parts.append(f"\n## {_TITLES.get(section, section)}\n| value | default | for |\n|---|---|---|\n{rows}\n")
    return "".join(parts)


def _shown(default: Any) -> str:
    if default in ("", None):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
