"""Many models applied at once, by this operator, by peers, and with nobody there: what a burst costs and when it is served.

Each run has a control plane of its own and counts only if the checker finds the documents complete and every status true.
A 201 is what `kubectl apply` waits for; "served" is the watch event of the ConfigMap that has the last model.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from benchmarks.book import Book, Figure
from benchmarks.checker import NotCounted
from benchmarks.edits import PAUSE_SECONDS, Size
from benchmarks.edits import edits as timed_edits
from benchmarks.peers import build_twin
from benchmarks.scene import Scene, config_map_writes, scene, shards_for
from benchmarks.subjects import SubjectName
from benchmarks.suite import Plan
from benchmarks.usage import cpu_seconds, peak_mb, pss_mb, rss_mb
from hack.gobuild import BuildError

SETTLE_SECONDS = 2.0
EDITS = 60
"""Of one model after the other, by each subject once, to compare what they make of a single edit."""


async def measure(book: Book, plan: Plan, folder: Path) -> None:
    """Run every size and subject in turns, so that what drifts meets all alike."""
    left_out = await asyncio.to_thread(_missing)
    for count, runs in plan.choose(
        quick=((200, _turns(1, twin=1, kopf=0)),),
        default=((1000, _turns(plan.repeat, twin=1, kopf=0)), (10_000, ("nobody", "controller-runtime"))),
        full=((1000, _turns(plan.repeat, twin=plan.repeat, kopf=2)), (10_000, _turns(plan.repeat, twin=2, kopf=0))),
    ):
        for number, subject in enumerate(runs):
            if subject in left_out:
                continue
            edits_too = subject not in runs[:number] and subject != "plain-kopf"
            await one(book, subject, count, folder / f"{count}-{number}-{subject}", EDITS if edits_too else 0)
        wall_ratio(book, count)


def _missing() -> set[SubjectName]:
    """Build what has to be built, before anything is timed; return the subjects that cannot be had here."""
    try:
        build_twin()
    except BuildError as error:
        print(f"the twin on controller-runtime is not measured: {error}", file=sys.stderr, flush=True)
        return {"controller-runtime"}
    return set()


def _turns(repeat: int, twin: int, kopf: int) -> tuple[SubjectName, ...]:
    turns: list[SubjectName] = []
    for number in range(repeat):
        turns += ["nobody", "operator"] if number % 2 else ["operator", "nobody"]
        turns += ["controller-runtime"] if number < twin else []
        turns += ["plain-kopf"] if number < kopf else []
    return tuple(turns)


async def one(book: Book, subject: SubjectName, count: int, folder: Path, edits: int = 0) -> None:
    """Run one subject at one size on a control plane of its own; then time `edits` until their ConfigMap is written."""
    async with scene(subject, folder) as stage:
        await stage.furnish(shards_for(count))
        await stage.rest()
        try:
            await burst(book, stage, count)
            if edits and subject != "nobody":
                written, _ = await timed_edits(stage, None, Size(count, shards_for(count), {}), "edit", edits, PAUSE_SECONDS)
                book.times(f"edit.{count}.{subject}.written", written)
                await stage.settled()
        except NotCounted as error:
            book.fault("bursts", f"{subject} at {count}: {error}")


async def burst(book: Book, stage: Scene, count: int) -> None:
    """Apply so many models and note what it took. NotCounted when the end is not right."""
    subject, name = stage.subject, f"burst.{count}.{stage.subject.name}"
    at_work = subject.process is not None
    mark, etcd, told = stage.mark(), stage.etcd_bytes(), stage.seen.expect_models(count)
    used, rest_mb = (cpu_seconds(subject.pid), rss_mb(subject.pid)) if at_work else (0.0, 0.0)
    if at_work:
        book.note(f"rest.{subject.name}.rss", rest_mb, "MB")
    began = time.monotonic()
    created = await stage.create(count)
    book.note(f"{name}.created", created - began, "s")
    if not at_work:
        await asyncio.sleep(SETTLE_SECONDS)
        book.note(f"{name}.etcd", (stage.etcd_bytes() - etcd) / 1e6, "MB")
        return
    served = await asyncio.wait_for(told, 600)
    document_bytes = await stage.settled()
    requests = stage.requests(mark)
    book.note(f"{name}.lag", max(0.0, served - created), "s")
    book.note(f"{name}.served", served - began, "s")
    book.note(f"{name}.requests", sum(requests.values()) / count, "per object")
    book.note(f"{name}.configmaps", config_map_writes(requests) / count, "per object")
    book.note(f"{name}.cpu", (cpu_seconds(subject.pid) - used) * 1000 / count, "ms per object")
    book.note(f"{name}.etcd", (stage.etcd_bytes() - etcd) / 1e6, "MB")
    book.note(f"{name}.amplification", (stage.etcd_bytes() - etcd) / document_bytes, "× documents")
    book.note(f"{name}.rss", rss_mb(subject.pid), "MB")
    book.note(f"{name}.pss", pss_mb(subject.pid), "MB")
    book.note(f"{name}.peak", peak_mb(subject.pid), "MB")
    if count >= 1000:
        book.note(f"{name}.growth", (rss_mb(subject.pid) - rest_mb) * 1000 / count, "MB per 1,000")


def wall_ratio(book: Book, count: int) -> None:
    """Note, for each subject, its time of creating against the median with nobody there."""
    floor = book.figures.get(f"burst.{count}.nobody.created")
    if floor is None:
        return
    for subject in ("operator", "controller-runtime", "plain-kopf"):
        created = book.figures.get(f"burst.{count}.{subject}.created")
        if created is not None:
            ratios = tuple(round(value / floor.middle, 3) for value in created.values)
            book.figures[f"burst.{count}.{subject}.wall"] = Figure("× control", ratios)
