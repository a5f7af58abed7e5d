"""Figures: how repeats become one number, and that a result survives its file."""

import json
from pathlib import Path

import pytest

from benchmarks.book import Book, Figure, Result, blocks, percentile, short


def test_the_median_counts_and_the_range_is_shown() -> None:
    """One wild repeat moves neither the median nor the verdict, but a reader sees it."""
    figure = Figure("ms", (3.0, 1.0, 50.0))
    assert (figure.middle, figure.least, figure.most) == (3.0, 1.0, 50.0)
    assert str(figure) == "3 (1–50) ms"
    assert str(Figure("ms", (2.5,))) == "2.50 ms"


def test_percentiles_lie_between_neighbours() -> None:
    """The 99th of a hundred values is next to the largest, and one value is every percentile."""
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.5) == 50.5
    assert percentile(values, 0.99) == pytest.approx(99.01)
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([3.0, 1.0], 1.0) == 3.0


@pytest.mark.parametrize(("count", "wanted"), [(10, [2, 2, 2, 2, 2]), (12, [2, 3, 2, 3, 2]), (3, [1, 1, 1]), (1, [1])])
def test_times_are_cut_into_repeats_that_lose_none(count: int, wanted: list[int]) -> None:
    """Blocks are neighbours of about equal length, all values in order."""
    values = [float(number) for number in range(count)]
    cut = blocks(values)
    assert [len(block) for block in cut] == wanted
    assert [value for block in cut for value in block] == values


def test_times_give_a_median_a_block_and_one_p99() -> None:
    """p99 of each block of ten would be its maximum and say nothing: it is taken over all of them, in milliseconds."""
    book = Book()
    book.times("edit", [number / 1000 for number in range(1, 51)])
    assert book.figures["edit.p50"] == Figure("ms", (5.5, 15.5, 25.5, 35.5, 45.5))
    assert len(book.figures["edit.p99"].values) == 1
    assert book.figures["edit.p99"].middle == pytest.approx(49.51)


def test_a_figure_keeps_its_unit() -> None:
    """Seconds noted as milliseconds would pass unseen: the second note fails and names the figure."""
    book = Book()
    book.note("lag", 1, "s")
    with pytest.raises(AssertionError, match="lag was noted in another unit than ms"):
        book.note("lag", 1, "ms")


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Figures, series, faults and what ran survive the file."""
    book = Book(series={"rss": [(0.0, 80.0), (1.0, 81.5)]}, seconds={"churn": 60.0})
    book.note("lag", 0.25, "s")
    book.fault("bursts", "no")
    Result({"command": "x"}, book).save(tmp_path / "new" / "result.json")
    read = Result.load(tmp_path / "new" / "result.json")
    assert (read.book, read.about) == (book, {"command": "x"})


def test_results_are_joined_and_the_later_run_of_a_suite_stands() -> None:
    """A suite that was run again replaces its figures and its faults; what only one run has is kept."""
    first, second = Book(seconds={"bursts": 1.0, "life": 1.0}), Book(seconds={"bursts": 2.0})
    for book, lag in ((first, 0.5), (second, 0.2)):
        book.note("lag", lag, "s")
    first.note("delete", 1, "s")
    first.fault("bursts", "differs")
    first.fault("life", "late")
    joined = Result.merged([Result({"command": "a", "depth": "default"}, first), Result({"command": "b"}, second)])
    assert {name: figure.middle for name, figure in joined.book.figures.items()} == {"lag": 0.2, "delete": 1}
    assert joined.book.faults == {"life": ["late"]}
    assert joined.about == {"command": "a; b", "depth": "default"}


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    """An old file would be read wrongly: the message says to measure again."""
    (tmp_path / "old.json").write_text(json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="schema 0, not 1: measure again"):
        Result.load(tmp_path / "old.json")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.004, "0.004"), (0.25, "0.25"), (12.34, "12.3"), (1234.5, "1,234"), (10_000, "10,000")]
)
def test_numbers_are_shown_with_the_digits_that_count(value: float, shown: str) -> None:
    """Three of them, and thousands apart."""
    assert short(value) == shown
