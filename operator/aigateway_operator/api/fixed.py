"""Fixed structure over time: which keys of the fixed sections may be removed, and what to write instead of removing one.

Pure; reads models, never values. Called by the webhook's rule on removal and by the generator of the CRD's transition
rules, so that both refuse the same keys in the same words.

Source: docs/concepts.md#two-resources; docs/rules.md#r2.
"""

from __future__ import annotations

import json
from typing import Final

from aigateway_operator.api.declared import fields_of, model_below
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.gatewayconfig import Storage

MAY_GO: Final = frozenset({"username", "tls"})
"""Keys that may be removed, beside every `…SecretRef`."""


def may_go(key: str) -> bool:
    """Tell whether `key` of a fixed section may be removed, with all below it."""
    return key in MAY_GO or key.endswith("SecretRef")


def deletion_remedy(model: type[SpecModel], key: str) -> str:
    """Return the sentence that says what to write instead of removing `key` (as on the wire) from a `model` object."""
    if model is Storage:
        return "To do without it, keep its keys and set enabled: false."
    if key == "storage":
        return "Keep it, and set enabled: false in the stores to do without."
    info = fields_of(model)[key]
    if info.is_required() or model_below(model, key) is not None:
        return "Keep it; what it holds may change."
    default = json.dumps(info.get_default(call_default_factory=True, validated_data={})).replace('"', "")
    return f"To go back, set it to its default {default}."
