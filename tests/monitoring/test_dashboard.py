"""The dashboard: every panel asks for metrics and labels that exist, and no metric is shown nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator import measures
from tests.monitoring.known import known_metrics
from tests.monitoring.promql import grouped, parse, selectors

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "config" / "monitoring" / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"] for one in DASHBOARD["templating"]["list"]}
ASKED = [(panel["title"], target["expr"], target.get("legendFormat", "")) for panel in PANELS for target in panel["targets"]]
NOT_SHOWN = {
    measures.BUILD,  # names the jobs
    measures.DATASTORE_STATE,  # status and `aigateway status` have the reason
    measures.PROBE_TARGETS,
    measures.KEPT_CERTIFICATE,  # what is served counts
    measures.MODELS_OFF,
    measures.MODEL_NOT_READY_OMITTED,
}


@pytest.mark.parametrize(("title", "text", "legend"), ASKED)
def test_panels_ask_for_what_exists(title: str, text: str, legend: str) -> None:
    """Metrics, labels of matchers, of groups and of legends, and variables."""
    known, tree = known_metrics(), parse(text)
    there: set[str] = set()
    for selector in selectors(tree):
        assert selector.metric in known, (title, selector.metric)
        assert {label for label, _, _ in selector.matchers} <= known[selector.metric], (title, selector)
        there |= known[selector.metric]
    for labels, inside in grouped(tree):
        assert all(set(labels) <= known[selector.metric] for selector in inside), title
        there &= set(labels)
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= there, title
    assert set(re.findall(r"\$(\w+)", text)) <= VARIABLES, title


def test_variables_are_taken_from_metrics_that_exist() -> None:
    """A variable without values leaves every panel empty."""
    for one in DASHBOARD["templating"]["list"]:
        if one["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", one["definition"])
            assert found, one["definition"]
            assert found[2] in known_metrics()[found[1]], one["name"]


def test_every_metric_is_on_a_panel() -> None:
    """Or is left out on purpose."""
    shown = {selector.metric for _, text, _ in ASKED for selector in selectors(parse(text))}
    missing = {measure.name for measure in measures.MEASURES if measure not in NOT_SHOWN and not shown & set(measure.exposed)}
    assert missing == set()


def test_panels_have_an_id_of_their_own_and_lie_beside_each_other() -> None:
    """Grafana drops what has the same id, and moves what overlaps."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
