"""The pages that come from a result: what they say, and that the committed ones are those of the committed result."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import page, plots
from benchmarks.book import Book, Figure, Result
from benchmarks.plots import Bar


def measured() -> Result:
    """Return a result with one goal met, one missed, a fault and a series."""
    book = Book(series={name: [(0.0, 80.0), (5.0, 82.0)] for name in ("churn.rss", "churn.descriptors", "churn.tasks")})
    book.note("idle.writes", 0, "writes")
    book.note("cold.10000.seconds", 6.5, "s")
    book.note("rest.operator.rss", 90, "MB")
    book.note("burst.1000.operator.growth", 10, "MB per 1,000")
    for subject, seconds in (("operator", 1.5), ("controller-runtime", 1.2)):
        book.note(f"burst.1000.{subject}.served", seconds, "s")
    book.fault("bursts", "plain-kopf at 1000: config.yml differs")
    return Result({"started": "now", "depth": "quick", "command": "python -m benchmarks", "load before": [0.1, 0.2, 0.3]}, book)


def test_the_page_says_what_is_met_missed_and_not_counted() -> None:
    """A missed goal is written as missed, a run that does not count is named, and the load is there to judge by."""
    text = page.markdown(measured())
    assert "| writes but Lease when idle | ≤ 0 writes | 0 writes |  |  | pass |" in text
    assert "| cold start, 10,000 models, nothing changed | ≤ 5 s | 6.50 s |  |  | **MISSED** |" in text
    assert "- bursts: plain-kopf at 1000: config.yml differs" in text
    assert "0.1 / 0.2 / 0.3" in text
    assert "`cold.10000.seconds` | 6.50 s | 1 |" in text


def test_every_plot_of_the_page_is_a_picture_that_is_made() -> None:
    """The page shows only what there is, and each plot is well-formed and names its subjects."""
    result = measured()
    made = page.pictures(result)
    assert set(made) == {"burst-1000-served.svg", "churn-rss.svg", "churn-open.svg"}
    for name, text in made.items():
        assert f"(data/{name})" in page.markdown(result)
        ET.fromstring(text)
    assert "controller-runtime" in made["burst-1000-served.svg"]


def test_bars_are_as_long_as_their_medians() -> None:
    """Twice the value is twice the bar, and names with marks of XML do no harm."""
    text = plots.bars("a < b", [Bar("x & y", Figure("s", (1.0, 0.5, 4.0))), Bar("z", Figure("s", (2.0,)))], limit=2)
    rects = ET.fromstring(text).findall("{http://www.w3.org/2000/svg}rect")
    short, long = (float(one.get("width", "0")) for one in rects[1:])
    assert long == pytest.approx(2 * short, rel=0.01)


def test_no_value_is_written_across_the_goal() -> None:
    """A bar that ends a little before the goal has its value behind the line; one that ends far before or beyond keeps it."""
    shown = [Bar("near", Figure("ms", (9.0,))), Bar("far", Figure("ms", (1.0,))), Bar("beyond", Figure("ms", (40.0,)))]
    text = plots.bars("t", shown, limit=10)
    goal = plots.LABEL + 10 / 40 * (plots.WIDTH - plots.LABEL - 130)
    texts = ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    places = {one.text: float(one.get("x", "0")) for one in texts}
    assert places["9 ms"] == pytest.approx(goal + 8)
    assert places["1 ms"] == pytest.approx(goal + 8)
    assert places["40 ms"] > goal + 8
    assert plots.bars("t", [Bar("far", Figure("ms", (1.0,)))], limit=100).count(f'x="{plots.LABEL + 3.8 + 8:.1f}"') == 1


def test_sizing_is_written_between_its_comments_and_nowhere_else() -> None:
    """What people wrote around the measured part stays; memory follows rest and slope."""
    text = page.with_tables(f"# Sizing\nby hand\n{page.BEGIN}\nold\n{page.END}\nmore by hand\n", measured())
    assert text.startswith("# Sizing\nby hand\n")
    assert text.endswith("more by hand\n")
    assert "old" not in text
    assert "| 3,000 | 32 | 120 MB | 192 Mi |" in text
    with pytest.raises(ValueError, match="put it back"):
        page.with_tables("# Sizing\n", measured())


def test_committed_pages_are_those_of_the_committed_result() -> None:
    """Nobody edits a figure by hand: page, plots and tables are what the result gives."""
    result = Result.load(page.DATA)
    assert page.PAGE.read_text() == page.markdown(result)
    assert page.SIZING.read_text() == page.with_tables(page.SIZING.read_text(), result)
    made = page.pictures(result)
    assert {file.name: file.read_text() for file in Path(page.PICTURES).glob("*.svg")} == made
