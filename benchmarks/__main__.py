"""`python -m benchmarks [names] [--quick|--full] [--repeat 5] [-o json]`: measure, judge, and print one table.

Each run prints machine, versions and load, measures its floors, writes `build/bench/<time>.json` and a page beside it, and ends
with 0 unless a suite failed; goals that are missed are printed as MISSED and do not change the exit code. `--publish` makes a
result the committed one. A suite with a report of its own has options of its own: `python -m benchmarks admission --edits 100`.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import machine, page
from benchmarks.book import Book, Result
from benchmarks.goals import GOALS, Row, rows
from benchmarks.suite import Depth, Plan, Suite
from benchmarks.suites import OWN, SUITES

OUTPUT: Final = page.ROOT / "build" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    chosen, others = parser.parse_known_args(given)
    if others:
        if len(chosen.names) == 1 and chosen.names[0] in OWN:
            return OWN[chosen.names[0]]([one for one in given if one != chosen.names[0]])
        parser.error(f"unknown options {' '.join(others)}; suites with options of their own: {', '.join(OWN)}, one at a time")
    if chosen.list:
        return _list()
    if chosen.publish is not None:
        return _publish([Path(file) for file in chosen.publish] or [_latest()])
    if len(chosen.names) == 1 and chosen.names[0] in OWN.keys() - {suite.name for suite in SUITES}:
        return OWN[chosen.names[0]]([])
    known = {suite.name: suite for suite in SUITES}
    if unknown := [name for name in chosen.names if name not in known]:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(known)}; --list says what they show")
    suites = [known[name] for name in chosen.names] or list(SUITES)
    depth: Depth = "quick" if chosen.quick else "full" if chosen.full else "default"
    result = _run(suites, Plan(depth, chosen.repeat or (1 if chosen.quick else 5)), " ".join(["python -m benchmarks", *given]))
    _show(result, chosen.output, whole=not chosen.names)
    return 1 if result.book.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", help="suites to run (default: all; --list names them)")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: shows that all works, about 6 minutes")
    parser.add_argument("--full", action="store_true", help="every repeat and size, about an hour and a half")
    parser.add_argument("--repeat", type=int, help="repeats of what is cheap to repeat (default: 5; quick: 1)")
    parser.add_argument("--list", action="store_true", help="name the suites, what they show, and how long they take")
    parser.add_argument(
        "--publish", nargs="*", metavar="RESULT", help="write docs/performance.md; several are joined (default: the newest)"
    )
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser


def _list() -> int:
    for suite in SUITES:
        minutes = " / ".join(f"{value:g}" for value in suite.minutes)
        print(f"{suite.name:<10} {suite.shows}; {minutes} minutes (quick / default / full)")
    print(f"each with a report of its own: {', '.join(OWN)}")
    return 0


def _publish(files: Sequence[Path]) -> int:
    for written in page.publish(Result.merged([Result.load(file) for file in files])):
        print(written)
    return 0


def _latest() -> Path:
    found = sorted(OUTPUT.glob("*.json"))
    if not found:
        raise SystemExit(f"no result in {OUTPUT}: run `python -m benchmarks` first, or name a file")
    return found[-1]


def _run(suites: Sequence[Suite], plan: Plan, command: str) -> Result:
    book, started = Book(), datetime.now(UTC)
    about = {"started": started.strftime("%Y-%m-%d %H:%M UTC"), "command": command, "depth": plan.depth, **machine.describe()}
    for name, value in about.items():
        _say(f"{name}: {value}")
    compileall.compile_dir(page.ROOT / "operator", quiet=1)  # as in images: else each start compiles what was edited last
    _say(f"about {sum(suite.about(plan.depth) for suite in suites):.0f} minutes on 2 quiet cores")
    for suite in suites:
        _say(f"{suite.name}: {suite.shows}, about {suite.about(plan.depth):g} minutes …")
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="aigateway-bench-") as folder:
                asyncio.run(suite.measure(book, plan, Path(folder)))
        except Exception as error:  # noqa: BLE001 - one suite that breaks must not take the figures of the others with it
            traceback.print_exc()
            book.fault(suite.name, f"broke: {type(error).__name__}: {error}")
        book.seconds[suite.name] = time.monotonic() - began
        _say(f"{suite.name} took {book.seconds[suite.name]:.0f} s")
    result = Result({**about, "load after": machine.load()}, book)
    file = OUTPUT / f"{started.strftime('%Y%m%d-%H%M%S')}.json"
    result.save(file)
    file.with_suffix(".md").write_text(page.markdown(result))
    _say(f"written: {file} and {file.with_suffix('.md').name}")
    return result


def _show(result: Result, output: str, *, whole: bool) -> None:
    book = result.book
    if output == "json":
        print(json.dumps(result.as_json(), indent=2))
        return
    for name, figure in book.figures.items():
        print(f"  {name:<46} {figure}")
    judged = [row for row in rows(book.figures) if whole or row.verdict != "not measured"]
    if judged:
        print(table(judged))
    for suite, faults in book.faults.items():
        for text in faults:
            print(f"NOT COUNTED {suite}: {text}")
    verdicts = [row.verdict for row in rows(book.figures)]
    print(f"{verdicts.count('pass')} of {len(GOALS)} goals met, {verdicts.count('MISSED')} MISSED")


def table(judged: Sequence[Row]) -> str:
    """Return the goals in columns."""
    heads = ("goal", "limit", "measured", "floor", "peers", "")
    cells = [heads, *((row.goal, row.limit, row.measured, row.floor, row.peers, row.verdict) for row in judged)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
