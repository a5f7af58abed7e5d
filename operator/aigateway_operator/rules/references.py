"""Secret references: keys that pass the pattern of the schema but that no Secret can have.

Pure; called by the rules of both kinds for every `…SecretRef`. Names, and everything else that a pattern can say, are
the business of `structure`. Source: apimachinery `validation.IsConfigMapKey`; docs/rules.md#r24.
"""

from __future__ import annotations

from collections.abc import Iterator

from aigateway_operator.rules.violation import FieldReason, Violation


def check_secret_ref(ref: object, path: str) -> Iterator[Violation]:
    """Refuse a key that is `.` or begins with `..`. Other shapes are left to `structure`."""
    key = ref.get("key") if isinstance(ref, dict) else None
    if isinstance(key, str) and (key == "." or key.startswith("..")):
        message = "must not be '.' or begin with '..': no Secret can have such a key. Name a key of the Secret's data."
        yield Violation(f"{path}.key", FieldReason.INVALID, message, "R24")
