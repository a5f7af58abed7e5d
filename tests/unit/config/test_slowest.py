"""The answer of a pod with several workers: never one that equals a target some worker does not run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigateway_config.documents import DocumentState, StatusAnswer
from aigateway_config.slowest import NOTHING_YET, slowest

UID = "uid"
Target = tuple[str, dict[str, DocumentState], dict[str, int]]


def state(revision: int, digest: str | None = None) -> DocumentState:
    """A document of this revision."""
    return DocumentState(revision=revision, digest=digest or f"d{revision}")


def answer(
    files: dict[str, DocumentState],
    credentials: dict[str, int] | None = None,
    *,
    lineage: str = UID,
    second: int = 0,
    error: str | None = None,
    restart: tuple[str, ...] = (),
) -> StatusAnswer:
    """A worker that has loaded something."""
    revisions = credentials or {}
    return StatusAnswer(
        lineage=lineage,
        documents=files,
        credentials=revisions,
        credentials_revision=max(revisions.values(), default=None),
        loaded_at=f"2026-01-01T00:00:{second:02d}.000+00:00",
        restart_required=list(restart),
        error=error,
    )


def equals(given: StatusAnswer, target: Target) -> bool:
    """Whether the operator would believe that this target is in force."""
    return (given.lineage, given.documents, given.credentials) == target


def test_a_single_worker_answers_for_itself() -> None:
    """Nothing is added, not even a name to its error."""
    only = answer({"config.yml": state(3)}, error="torn")
    assert slowest({"7": only}) is only


def test_the_lowest_revision_of_each_document_and_manifest_is_named() -> None:
    """Two workers that are behind in different documents are behind in both together."""
    one = answer({"config.yml": state(5), "models-00.yml": state(3)}, {"_manifest.json": 4})
    two = answer({"config.yml": state(4), "models-00.yml": state(6)}, {"_manifest.json": 2})
    joined = slowest({"1": one, "2": two})
    assert joined.documents == {"config.yml": state(4), "models-00.yml": state(3)}
    assert (joined.credentials, joined.credentials_revision) == ({"_manifest.json": 2}, 2)


def test_a_worker_that_has_loaded_nothing_leaves_nothing_proven() -> None:
    """It may serve in a moment, with nothing."""
    joined = slowest({"1": answer({"config.yml": state(5)}, {"_manifest.json": 1}), "2": NOTHING_YET})
    assert (joined.lineage, joined.loaded_at, joined.credentials_revision) == (None, None, None)
    assert joined.documents["config.yml"].revision == 0


def test_a_document_that_only_some_workers_run_equals_no_target() -> None:
    """Neither the target that has it nor the target that has not."""
    one = answer({"config.yml": state(5), "models-01.yml": state(2)})
    two = answer({"config.yml": state(5)})
    joined = slowest({"1": one, "2": two})
    assert not equals(joined, (UID, one.documents, {}))
    assert not equals(joined, (UID, two.documents, {}))


def test_two_contents_under_one_revision_equal_no_target() -> None:
    """It cannot be; if it is, none of the two digests is named."""
    joined = slowest({"1": answer({"config.yml": state(5, "a")}), "2": answer({"config.yml": state(5, "b")})})
    assert joined.documents == {"config.yml": DocumentState(revision=5, digest="")}


def test_the_lineage_of_who_loaded_first_is_named_without_any_document() -> None:
    """A GatewayConfig was made anew, and one worker has not noticed."""
    old = answer({"config.yml": state(9)}, lineage="old", second=1)
    new = answer({"config.yml": state(9)}, lineage="new", second=2)
    joined = slowest({"1": new, "2": old})
    assert joined.lineage == "old"
    assert joined.documents == {"config.yml": DocumentState(revision=0, digest="")}


def test_errors_name_their_workers_and_restarts_are_joined() -> None:
    """Whoever reads the answer knows where to look."""
    files = {"config.yml": state(5)}
    joined = slowest(
        {
            "12": answer(files, error="half a file", restart=("app.port",)),
            "11": answer(files, restart=("app.host",)),
            "10": answer(files, error="e" * 9_000),
        }
    )
    assert joined.error is not None
    assert joined.error.startswith("worker 10: eee")
    assert len(joined.error) == 2_000
    assert joined.restart_required == ["app.host", "app.port"]


def test_no_answer_at_all_is_refused() -> None:
    """An empty pod has no answer."""
    with pytest.raises(ValueError, match="empty"):
        slowest({})


STATES = st.builds(state, st.integers(1, 3), st.sampled_from(["x", "y"]))
WORKERS = st.one_of(
    st.just(NOTHING_YET),
    st.builds(
        answer,
        st.dictionaries(st.sampled_from(["config.yml", "models-00.yml"]), STATES, min_size=1),
        st.dictionaries(st.sampled_from(["_manifest.json", "_manifest-00.json"]), st.integers(1, 3)),
        lineage=st.sampled_from(["a", "b"]),
        second=st.integers(0, 3),
    ),
)


def covers(worker: StatusAnswer, target: Target) -> bool:
    """Whether a worker runs the target, or something later in the same lineage; the first of these is the usual one."""
    lineage, files, credentials = target
    if (worker.lineage, worker.documents.keys(), worker.credentials.keys()) != (lineage, files.keys(), credentials.keys()):
        return False
    later = [worker.documents[name] == file or worker.documents[name].revision > file.revision for name, file in files.items()]
    return all(later) and all(worker.credentials[name] >= revision for name, revision in credentials.items())


@given(st.lists(WORKERS, min_size=1, max_size=4))
def test_whatever_is_believed_every_worker_runs_or_is_beyond(workers: list[StatusAnswer]) -> None:
    """If the joined answer equals what any worker runs, no other worker is behind it; equal workers are always believed."""
    joined = slowest({str(number): worker for number, worker in enumerate(workers)})
    for worker in workers:
        if worker.lineage is None:
            continue
        target = (worker.lineage, worker.documents, worker.credentials)
        if equals(joined, target):
            assert all(covers(other, target) for other in workers)
        if all(equals(other, target) for other in workers):
            assert equals(joined, target)
