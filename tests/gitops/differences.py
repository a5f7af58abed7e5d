"""How Argo CD tells whether a live object is as Git says: the pure part.

`three_way` is its classic way for custom resources: what Git says is merged over the live object, what Git said last time and
no longer says is taken away, and the result is compared with the live object. Source: gitops-engine/pkg/diff/diff.go
(ThreeWayDiff, threeWayMergePatch). Called by tests.gitops.argocd.
"""

from __future__ import annotations

import copy
import json
from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
Manifest = dict[str, Any]


def last_applied(live: Manifest) -> Manifest | None:
    """Return what a client-side apply left in the annotation, None without one."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    return None if text is None else dict(json.loads(text))


def normalized(obj: Manifest) -> Manifest:
    """Return an object without what Argo CD never compares: status, managers, versions, the annotation of apply."""
    left = copy.deepcopy(obj)
    left.pop("status", None)
    for key in ("managedFields", "resourceVersion"):
        left["metadata"].pop(key, None)
    (left["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    return left


def three_way(before: Manifest, now: Manifest, live: Manifest) -> str:
    """Return in words what would change, "" for nothing. `before`: what was applied last; `now`: what Git says."""
    compared, before, now = normalized(live), normalized(before), normalized(now)
    predicted = copy.deepcopy(compared)
    _merge(predicted, before, now)
    return "" if predicted == compared else f"{json.dumps(compared)} -> {json.dumps(predicted)}"


def _merge(live: Manifest, before: Manifest, now: Manifest) -> None:
    """A JSON merge patch: objects key by key, everything else whole."""
    for key in before.keys() - now.keys():
        live.pop(key, None)
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            was = before.get(key)
            _merge(live[key], was if isinstance(was, dict) else {}, value)
        else:
            live[key] = copy.deepcopy(value)
