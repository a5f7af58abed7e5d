"""Goals: who passes, who misses, and that the table says all of it."""

import pytest

from benchmarks.__main__ import table
from benchmarks.book import Figure
from benchmarks.goals import GOALS, Goal, missed, rows
from benchmarks.suites import SUITES

LAG = Goal("last served", "lag", 0.3, "bursts", floor="put", peers={"twin": "twin.lag", "other": "other.lag"})
RATE = Goal("records a second", "rate", 10_000, "logs", at_least=True)


@pytest.mark.parametrize(
    ("values", "verdict"), [((0.3,), "pass"), ((0.31,), "MISSED"), ((0.1, 0.2, 9.0), "pass"), ((0.1, 0.4, 0.5), "MISSED")]
)
def test_the_median_decides_and_the_limit_itself_passes(values: tuple[float, ...], verdict: str) -> None:
    """A goal is met up to its limit, by the median of the repeats."""
    assert LAG.judge({"lag": Figure("s", values)}) == verdict


def test_more_is_better_where_a_goal_says_so() -> None:
    """A rate below its limit is missed, one above passes."""
    assert RATE.judge({"rate": Figure("1/s", (9_999,))}) == "MISSED"
    assert RATE.judge({"rate": Figure("1/s", (10_000,))}) == "pass"


def test_a_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    """A part that was left out, or broke, never looks like a success."""
    assert LAG.judge({}) == "not measured"
    assert missed({}) == 0
    assert {row.verdict for row in rows({})} == {"not measured"}


def test_a_row_has_goal_measured_floor_and_the_peers_there_are() -> None:
    """Peers that did not run are left out; the floor is printed with its range."""
    figures = {"lag": Figure("s", (0.2, 0.5, 0.4)), "put": Figure("ms", (7.0,)), "twin.lag": Figure("s", (0.1,))}
    (row,) = rows(figures, (LAG,))
    assert (row.limit, row.measured, row.floor, row.peers, row.verdict) == (
        "≤ 0.30 s",
        "0.40 (0.20–0.50) s",
        "7 ms",
        "twin 0.10",
        "MISSED",
    )
    assert "MISSED" in table([row]).splitlines()[1]


def test_every_goal_has_a_suite_that_is_there_and_a_figure_of_its_own() -> None:
    """A goal whose suite was renamed would never be measured; two of one figure would contradict each other."""
    assert {goal.suite for goal in GOALS} <= {suite.name for suite in SUITES}
    assert len({goal.figure for goal in GOALS}) == len(GOALS)
    assert len({goal.text for goal in GOALS}) == len(GOALS)
