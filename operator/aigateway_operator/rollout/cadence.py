"""How often pods are asked and poked, and how long they may take. Pure arithmetic; every figure has its reason.

Source: docs/measured.md#when-a-kubelet-syncs-a-volume (35 to 225 ms after a poke, again only after its next relist, one a
second, else every 30 to 75 s).
"""

from __future__ import annotations

from typing import Final

ASK_SECONDS: Final = (0.03, 0.06, 0.06, 0.08, 0.12, 0.25, 0.25, 0.5)
"""Pauses before the first questions after a write or poke; a swapped volume is seen within a few hundredths of a second."""
SLOW_ASK_SECONDS: Final = 1.0
"""Pause while a pod is behind and the time it may take is not over."""
SLOWEST_ASK_SECONDS: Final = 5.0
"""Pause for a pod that stays behind: recovery is seen soon enough, and a hundred broken pods cost little."""
SLOW_ASKS: Final = 12
CROWD_SECONDS: Final = 0.0015
"""What each pod that is still behind adds to the shortest pause: two hundred are asked once they can have it, not six times."""

ASK_AGAIN_SECONDS: Final = (45.0, 60.0)
"""A pod that matches is asked again after a random time in this range, so that many are spread over the minute."""

LONGEST_POKE_GAP_SECONDS: Final = 1.0
"""Between pokes of a pod that is one of many. A kubelet syncs a pod once a second at most, so that more would be in vain."""
SHORTEST_POKE_GAP_SECONDS: Final = 0.25
"""The same for a pod that is one of few. Nobody knows when a kubelet relists: a poke that comes before it is taken up by it,
while one that is held back for a second has missed it. Shorter gains nothing: the relist is half a second away, on average."""
POKE_PAUSE_SECONDS: Final = 0.02
"""How long after a write a pod is poked that was poked less than the longest gap ago. Its kubelet waits for a relist anyway,
half a second on average, while pods that have documents another way take them up right now, from the same API server."""
POKES_A_SECOND: Final = 20
"""Of one gateway whose pods are few, in a burst."""
REPOKE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Pauses before pokes are repeated. After the last the kubelet's own sync has had its turn, so that more would be in vain."""

PATIENCE_SECONDS: Final = 4.5
"""Time that poked pods may take after a write or a first wrong answer: stragglers are named within five seconds."""
PATIENCE_UNPOKED_SECONDS: Final = 90.0
"""The same without pokes: a kubelet takes up to 75 s."""
PATIENCE_REPEATED_SECONDS: Final = 2.0
"""The least time for documents that got new numbers only: pods had most of theirs before, and whoever lies is named soon."""
FIRST_ANSWER_SECONDS: Final = 3.0
"""A pod that has just turned ready is not counted as unknown before it had time to answer once."""

BLIND_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether pods can be watched again; the end of such trouble is not told."""


def ask_pause(attempt: int, behind: int) -> float:
    """Return the seconds before question number `attempt` (from 0) to a pod; `behind`: pods that do not match yet."""
    if attempt < len(ASK_SECONDS):
        return max(ASK_SECONDS[attempt], behind * CROWD_SECONDS)
    slow = attempt - len(ASK_SECONDS)
    return SLOW_ASK_SECONDS if slow < SLOW_ASKS else SLOWEST_ASK_SECONDS


def next_poke(now: float, poked_at: float, pods: int) -> float:
    """Return when a pod that was poked at `poked_at` may be poked for another target; `pods`: all that are poked with it."""
    if now - poked_at >= LONGEST_POKE_GAP_SECONDS:
        return now
    gap = min(LONGEST_POKE_GAP_SECONDS, max(SHORTEST_POKE_GAP_SECONDS, pods / POKES_A_SECOND))
    return max(now + POKE_PAUSE_SECONDS, poked_at + gap)


def repoke_pause(pokes: int) -> float | None:
    """Return the seconds between poke number `pokes` (from 1) and the next; None: another would be in vain."""
    return REPOKE_SECONDS[pokes - 1] if pokes <= len(REPOKE_SECONDS) else None


def patience(poke: bool) -> float:
    """Return how long pods may take before those that are behind are named."""
    return PATIENCE_SECONDS if poke else PATIENCE_UNPOKED_SECONDS
