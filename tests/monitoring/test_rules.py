"""Alerts: they name metrics and labels that exist, lead to a runbook, and fire when they should and only then."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import require_binaries
from tests.monitoring.known import known_metrics
from tests.monitoring.promql import Evaluator, Labels, grouped, parse, selectors

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "config" / "monitoring" / "prometheus-rules.yaml"
CASES = ROOT / "tests" / "monitoring" / "rules.test.yaml"
SPEC = yaml.safe_load(RULES.read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in SPEC["groups"] for rule in group["rules"]}
TESTS = yaml.safe_load(CASES.read_text())["tests"]
STEP_SECONDS = 60.0


@dataclass(frozen=True)
class Case:
    """One question of the test file: who should fire at a moment."""

    number: int
    seconds: float
    alert: str
    expected: tuple[dict[str, str], ...]


def _cases() -> Iterator[Case]:
    """Yield every case of the test file."""
    for number, one in enumerate(TESTS):
        for asked in one["alert_rule_test"]:
            expected = tuple(found["exp_labels"] for found in asked.get("exp_alerts", []))
            yield Case(number, _seconds(asked["eval_time"]), asked["alertname"], expected)


def _seconds(text: str | None) -> float:
    return 0.0 if text is None else float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


CASES_ASKED = tuple(_cases())


def _samples(number: int) -> dict[Labels, list[tuple[float, float]]]:
    """Return the series of one test: `a+bxn` is a, then n times b more."""
    found = {}
    for series in TESTS[number]["input_series"]:
        name, _, inside = series["series"].partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        values: list[float] = []
        for part in series["values"].split():
            first, step, times = (float(text) for text in re.fullmatch(r"(\d+)\+(\d+)x(\d+)", part).groups())  # type: ignore[union-attr]
            values.extend(first + step * index for index in range(int(times) + 1))
        found[frozenset({**labels, "__name__": name}.items())] = [
            (STEP_SECONDS * index, value) for index, value in enumerate(values)
        ]
    return found


def _firing(rule: dict[str, Any], samples: dict[Labels, list[tuple[float, float]]], seconds: float) -> list[dict[str, str]]:
    """Return the labels of what fires at a moment: true at each evaluation for as long as `for` says."""
    since: dict[Labels, float] = {}
    tree, now = parse(rule["expr"]), 0.0
    while now <= seconds:
        found = Evaluator(samples, now).evaluate(tree)
        assert isinstance(found, dict)
        active = {frozenset(one for one in labels if one[0] != "__name__") for labels in found}
        since = {labels: since.get(labels, now) for labels in active}
        now += STEP_SECONDS
    ended = now - STEP_SECONDS
    return [{**dict(labels), **rule["labels"]} for labels, start in since.items() if ended - start >= _seconds(rule.get("for"))]


@pytest.mark.parametrize("case", CASES_ASKED, ids=lambda case: f"{case.alert}-{case.seconds / 60:.0f}m-{len(case.expected)}")
def test_alerts_fire_when_they_should_and_then_only(case: Case) -> None:
    """By our own evaluation; the same file is run by promtool where there is one."""
    firing = _firing(ALERTS[case.alert], _samples(case.number), case.seconds)
    assert sorted(firing, key=str) == sorted(case.expected, key=str)


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    """An alert that nobody has seen fire is a guess."""
    seen = CASES_ASKED
    assert {case.alert for case in seen if case.expected} == set(ALERTS)
    silent = {case.alert for case in seen if not case.expected}
    partly = {case.alert for case in seen if case.expected and len(TESTS[case.number]["input_series"]) > len(case.expected)}
    assert silent | partly == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_expressions_name_metrics_and_labels_that_exist(alert: str) -> None:
    """A renamed metric would leave an alert that is silent for ever."""
    known, tree = known_metrics(), parse(ALERTS[alert]["expr"])
    named = list(selectors(tree))
    assert named
    for selector in named:
        assert selector.metric in known, selector
        assert {label for label, _, _ in selector.matchers} <= known[selector.metric], selector
    for labels, inside in grouped(tree):
        assert all(set(labels) <= known[selector.metric] for selector in inside), (labels, inside)


@pytest.mark.parametrize("alert", ALERTS)
def test_texts_name_labels_that_the_alert_has(alert: str) -> None:
    """`$labels.x` of a label that is aggregated away shows as nothing."""
    rule, known = ALERTS[alert], known_metrics()
    tree = parse(rule["expr"])
    by = [set(labels) for labels, _ in grouped(tree)]
    there = set.intersection(*by) if by else set().union(*(known[selector.metric] for selector in selectors(tree)))
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= there


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_leads_to_a_section_of_the_runbooks(alert: str) -> None:
    """And has a severity."""
    page, _, anchor = ALERTS[alert]["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}


def test_every_section_of_the_runbooks_has_an_alert() -> None:
    """A page for an alert that is no more misleads."""
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    anchors = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS.values()}
    assert {heading.lower().replace(" ", "-") for heading in headings} == anchors


@pytest.mark.parametrize("text", ["nonsense(", "a[5m", 'a{b="c"', "a by", "rate(a[5x])", "a b"])
def test_what_is_not_understood_is_not_taken_for_right(text: str) -> None:
    """The reader of expressions refuses them."""
    with pytest.raises((ValueError, IndexError)):
        parse(text)


def test_promtool_agrees(tmp_path: Path) -> None:
    """Prometheus' own tool accepts the rules, with their templates, and comes to the same answers."""
    promtool = str(require_binaries(["promtool"])["promtool"])
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(SPEC))
    checked = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    bare = [{**group, "rules": [{**rule, "annotations": {}} for rule in group["rules"]]} for group in SPEC["groups"]]
    rules.write_text(yaml.safe_dump({"groups": bare}))
    (tmp_path / "rules.test.yaml").write_text(CASES.read_text())
    run = [promtool, "test", "rules", str(tmp_path / "rules.test.yaml")]
    tested = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
