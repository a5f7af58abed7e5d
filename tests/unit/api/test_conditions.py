"""Conditions: what moves `lastTransitionTime`, and what is kept as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aigateway_operator.api.conditions import MAX_MESSAGE, ConditionType, Reason, Status, Verdict, merge_conditions

FIRST = datetime(2026, 11, 20, 12, 0, 0, 999_999, tzinfo=UTC)
LATER = datetime(2026, 11, 21, 8, 30, 0, tzinfo=UTC)


def verdict(status: Status = "True", reason: Reason = Reason.READY, message: str = "All is well.") -> Verdict:
    """Return a verdict on Ready."""
    return Verdict(ConditionType.READY, status, reason, message)


def test_first_condition_has_every_field_of_metav1_condition() -> None:
    """Time has a resolution of one second, cut and not rounded: a time in the future would puzzle readers."""
    assert merge_conditions([], [verdict()], 3, FIRST) == [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-11-20T12:00:00Z",
            "reason": "Ready",
            "message": "All is well.",
        }
    ]


def test_a_message_is_cut_to_what_the_api_server_takes_and_says_so() -> None:
    """A status with a longer one would be refused as a whole, and the object would say nothing at all."""
    [whole, cut] = (merge_conditions([], [verdict(message="é" * size)], 1, FIRST)[0] for size in (MAX_MESSAGE, MAX_MESSAGE + 1))
    assert whole["message"] == "é" * MAX_MESSAGE
    assert len(cut["message"]) == MAX_MESSAGE
    assert cut["message"].endswith("é… (32,769 characters in all: `aigateway check` shows them)")


def test_time_stays_while_status_does() -> None:
    """A new reason, message or generation is no transition."""
    before = merge_conditions([], [verdict()], 1, FIRST)
    [after] = merge_conditions(before, [verdict(reason=Reason.ACCEPTED, message="Other.")], 2, LATER)
    assert after["lastTransitionTime"] == "2026-11-20T12:00:00Z"
    assert (after["reason"], after["message"], after["observedGeneration"]) == ("Accepted", "Other.", 2)


def test_time_moves_when_status_does() -> None:
    """`kubectl wait` and people read it as the moment of the change."""
    before = merge_conditions([], [verdict()], 1, FIRST)
    [after] = merge_conditions(before, [verdict("False", Reason.INVALID)], 1, LATER)
    assert after["lastTransitionTime"] == "2026-11-21T08:30:00Z"


def test_default_status_of_the_crd_is_replaced_with_a_real_time() -> None:
    """The fixed time of a fresh object vanishes with the first verdict that moves status."""
    fresh = [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:00Z"}]
    [after] = merge_conditions(fresh, [verdict()], 1, LATER)
    assert after["lastTransitionTime"] == "2026-11-21T08:30:00Z"


def test_stored_condition_without_a_time_gets_one() -> None:
    """Somebody else may have written it."""
    [after] = merge_conditions([{"type": "Ready", "status": "True"}], [verdict()], 1, LATER)
    assert after["lastTransitionTime"] == "2026-11-21T08:30:00Z"


def test_condition_that_no_verdict_names_is_dropped() -> None:
    """BackendsReachable vanishes when nobody asks for it any more."""
    old: list[dict[str, Any]] = [{"type": "BackendsReachable", "status": "False"}]
    assert [condition["type"] for condition in merge_conditions(old, [verdict()], 1, LATER)] == ["Ready"]


VERDICTS = st.lists(
    st.builds(
        Verdict,
        st.sampled_from(ConditionType),
        st.sampled_from(["True", "False", "Unknown"]),
        st.sampled_from(Reason),
        st.text(max_size=8),
    ),
    unique_by=lambda item: item.type,
)


@given(VERDICTS, st.permutations(range(7)))
def test_same_verdicts_again_change_nothing_whatever_the_stored_order(verdicts: list[Verdict], order: list[int]) -> None:
    """Equal content is what saves a write."""
    before = merge_conditions([], verdicts, 1, FIRST)
    stored = [before[index] for index in order if index < len(before)]
    assert merge_conditions(stored, verdicts, 1, LATER) == before
