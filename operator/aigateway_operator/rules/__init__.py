"""The rules: what a VirtualModel and a GatewayConfig must satisfy beyond being JSON. Numbered in docs/rules.md.

Pure: no I/O, no clock, no resolved names. Written once and called three times, by admission, plan and the command line.
A broken rule is a value (`Violation`), never an exception; all of them come at once. Knows nothing of `render`.
"""

from aigateway_operator.rules.context import RuleContext
from aigateway_operator.rules.entry import check_entry
from aigateway_operator.rules.gatewayconfig import check_gateway_config
from aigateway_operator.rules.ratchet import Edit, check_edit, split_stored
from aigateway_operator.rules.violation import FieldReason, Violation
from aigateway_operator.rules.virtualmodel import check_virtual_model, effective_model_name

__all__ = [
    "Edit",
    "FieldReason",
    "RuleContext",
    "Violation",
    "check_edit",
    "check_entry",
    "check_gateway_config",
    "check_virtual_model",
    "effective_model_name",
    "split_stored",
]
