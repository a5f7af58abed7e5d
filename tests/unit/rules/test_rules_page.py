"""docs/rules.md is true: every rule of the code has a section, and every example is judged as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.rules import RuleContext, Violation, check_gateway_config, check_virtual_model
from tests.unit.rules.specs import make_gateway_config, make_virtual_model

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
SECTIONS = {match[1]: match[2] for match in re.finditer(r"^### (R\d+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)}
EXAMPLES = [
    (rule, verdict, kind, text)
    for rule, section in SECTIONS.items()
    for verdict, kind, text in re.findall(r"```yaml\n# (accepted|refused): (\w+)\n(.*?)```", section, re.DOTALL)
]


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396), as `kubectl patch --type merge` does."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def judge(kind: str, patch: dict[str, Any]) -> list[Violation]:
    """Apply `patch` to a valid object of `kind` and check it as an update of that object."""
    context = RuleContext(patch.get("metadata", {}).get("name", "main"))
    old = make_virtual_model() if kind == "VirtualModel" else make_gateway_config()
    new = merged(old, patch.get("spec", {}))
    return check_virtual_model(new, context) if kind == "VirtualModel" else check_gateway_config(new, context, old_spec=old)


@pytest.mark.parametrize(("rule", "verdict", "kind", "text"), EXAMPLES)
def test_example_is_judged_as_the_page_says(rule: str, verdict: str, kind: str, text: str) -> None:
    """An accepted example breaks no rule at all, a refused one breaks the rule it stands under and no other."""
    found = judge(kind, yaml.safe_load(text))
    assert {violation.rule for violation in found} == (set() if verdict == "accepted" else {rule})


def test_every_rule_has_a_section_with_both_examples() -> None:
    """R0 only counts, and R23 is too long to print."""
    folder = ROOT / "operator" / "aigateway_operator" / "rules"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    assert set(re.findall(r'"(R\d+)"', code)) - {"R0"} == set(SECTIONS)
    shown = {(rule, verdict) for rule, verdict, _, _ in EXAMPLES}
    assert shown == {(rule, verdict) for rule in SECTIONS if rule != "R23" for verdict in ("accepted", "refused")}
