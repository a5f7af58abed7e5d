"""A result as a page for people: docs/performance.md with its plots, and the tables of docs/sizing.md. Pure but for `publish`.

Everything on the first page comes from the JSON beside it, so nobody edits it; of the second only what stands between two
comments does. A test compares both with what this module makes of the committed result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import plots
from benchmarks.book import Figure, Result
from benchmarks.goals import GOALS, Row, rows
from benchmarks.plots import Bar
from benchmarks.sizing import tables

ROOT: Final = Path(__file__).resolve().parent.parent
DATA: Final = ROOT / "docs" / "data" / "performance.json"
PAGE: Final = ROOT / "docs" / "performance.md"
PICTURES: Final = ROOT / "docs" / "data"
SIZING: Final = ROOT / "docs" / "sizing.md"
BEGIN: Final = "<!-- measured: written by `python -m benchmarks --publish` -->"
END: Final = "<!-- end of measured -->"

Figures = Mapping[str, Figure]


def markdown(result: Result) -> str:
    """Return docs/performance.md."""
    about, figures = result.about, result.book.figures
    judged = rows(figures)
    counts = {verdict: sum(row.verdict == verdict for row in judged) for verdict in ("pass", "MISSED", "not measured")}
    text = [
        "# Performance",
        "",
        "Written by `python -m benchmarks --publish` from [data/performance.json](data/performance.json); do not edit.",
        "`make bench` measures everything anew and prints this table; `python -m benchmarks --list` names the parts.",
        "",
        f"Of {len(judged)} goals {counts['pass']} are met, {counts['MISSED']} missed, {counts['not measured']} not measured.",
        "",
        *_about(result),
        "## Goals",
        "",
        "Measured is the median of the repeats, with the smallest and the largest.",
        "The floor is what nothing here can be faster than, or the control of the same run.",
        "[Peers](../benchmarks/peers) make the same documents, byte for byte, without credentials, proof and rules.",
        "*Quiet* is one edit at a time, *busy* one among 20 a second; *written* ends at the ConfigMap, not at the pod.",
        "",
        "| goal | limit | measured | floor | peers | |",
        "|---|---|---|---|---|---|",
        *map(_line, judged),
        "",
        *_faults(result),
        *_pictures(figures, result),
        "## Every figure",
        "",
        "| figure | measured | repeats |",
        "|---|---|---|",
        *(f"| `{name}` | {figure} | {len(figure.values)} |" for name, figure in sorted(figures.items())),
        "",
        f"Command: `{about.get('command', '')}`.",
    ]
    return "\n".join(text) + "\n"


def _line(row: Row) -> str:
    verdict = "**MISSED**" if row.verdict == "MISSED" else row.verdict
    return f"| {row.goal} | {row.limit} | {row.measured} | {row.floor} | {row.peers} | {verdict} |"


def _about(result: Result) -> list[str]:
    about = result.about
    machine = ", ".join(f"{name} {value}" for name, value in dict(about.get("machine", {})).items())
    versions = ", ".join(f"{name} {value}" for name, value in dict(about.get("versions", {})).items())
    load = " / ".join(str(value) for value in about.get("load before", []))
    return [
        "| | |",
        "|---|---|",
        f"| measured | {about.get('started', '')}, depth `{about.get('depth', '')}` |",
        f"| machine | {machine}; API server, etcd, pods and clients share these cores |",
        f"| load before | {load} |",
        f"| versions | {versions} |",
        "",
    ]


def _faults(result: Result) -> list[str]:
    if not result.book.faults:
        return []
    found = [f"- {suite}: {text}" for suite, texts in result.book.faults.items() for text in texts]
    return ["Runs that do not count:", "", *found, ""]


def _pictures(figures: Figures, result: Result) -> list[str]:
    made = pictures(result)
    titles = {name: text.split('aria-label="')[1].split('"')[0] for name, text in made.items()}
    shown = [f"![{titles[name]}](data/{name})\n" for name in made]
    legend = "Bars are medians; the black line is the range of the repeats, the red one the goal, which is for quiet edits."
    return ["## Plots", "", legend, "", *shown] if shown and figures else []


def pictures(result: Result) -> dict[str, str]:
    """Return the plots of a result: file name → SVG. One whose figures were not measured is left out."""
    figures, made = result.book.figures, {}
    for models in (1_000, 10_000):
        ways = [
            ("floor: a PUT of the same size", f"edit.{models}.floor.p50", 4),
            ("API watch", f"edit.{models}.api.quiet.p50", 0),
            ("Redis", f"edit.{models}.redis.quiet.p50", 1),
            ("API watch, busy", f"edit.{models}.api.busy.p50", 0),
        ]
        if len(shown := _bars(figures, ways)) > 1:
            title = f"One edit until a pod runs it, p50, {models:,} models"
            made[f"edit-{models}.svg"] = plots.bars(title, shown, limit=_limit(f"edit.{models}.api.quiet.p50"))
    volume = [("quiet", "edit.1000.volume.quiet.p50", 2), ("busy", "edit.1000.volume.busy.p50", 2)]
    if shown := _bars(figures, volume):
        title = "One edit by mounted volume, p50, 1,000 models"
        made["edit-volume.svg"] = plots.bars(title, shown, limit=_limit("edit.1000.volume.quiet.p50"))
    for models in (1_000, 10_000):
        subjects = ("operator", "controller-runtime", "plain-kopf", "nobody")
        for what, title in (
            ("served", f"{models:,} models applied until the last is served"),
            ("requests", f"{models:,} models applied: API requests an object"),
            ("cpu", f"{models:,} models applied: CPU an object"),
            ("rss", f"{models:,} models applied: RSS afterwards"),
        ):
            named = [(one, f"burst.{models}.{one}.{what}", number) for number, one in enumerate(subjects)]
            if len(shown := _bars(figures, named)) > 1:
                goal = _limit(f"burst.{models}.operator.{what}")
                made[f"burst-{models}-{what}.svg"] = plots.bars(title, shown, limit=goal)
    if "churn.rss" in result.book.series:
        made["churn-rss.svg"] = plots.lines("RSS while everything changes", {"RSS": result.book.series["churn.rss"]}, "MB")
        beside = {name: result.book.series[f"churn.{name}"] for name in ("descriptors", "tasks")}
        made["churn-open.svg"] = plots.lines("Open files and tasks while everything changes", beside, "count")
    return made


def _limit(figure: str) -> float | None:
    """Return the goal of a figure; None if it has none."""
    return next((goal.limit for goal in GOALS if goal.figure == figure), None)


def _bars(figures: Figures, named: Sequence[tuple[str, str, int]]) -> list[Bar]:
    return [Bar(label, figures[name], kind) for label, name, kind in named if name in figures]


def with_tables(page: str, result: Result) -> str:
    """Return docs/sizing.md with its measured part written anew. ValueError when its two comments are not there."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"docs/sizing.md lacks the comment {BEGIN if not begin else END}: put it back around the measured part"
        )
    return f"{head}{BEGIN}\n{tables(result.book.figures)}{END}{tail}"


def publish(result: Result) -> list[Path]:
    """Make a result the committed one: data, page, plots, sizing tables; returns what was written."""
    result.save(DATA)
    PAGE.write_text(markdown(result))
    for old in PICTURES.glob("*.svg"):
        old.unlink()
    written = [DATA, PAGE, SIZING]
    for name, text in pictures(result).items():
        (PICTURES / name).write_text(text)
        written.append(PICTURES / name)
    SIZING.write_text(with_tables(SIZING.read_text(), result))
    return written
