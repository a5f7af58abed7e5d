"""Findings as workflow commands of GitHub Actions: each shows up beside its line in a pull request. Pure.

Called by `check -o github`. Source: GitHub, "Workflow commands for GitHub Actions" (setting an error message; escaping).
"""

from __future__ import annotations

from typing import Final

from aigateway_operator.cli.findings import ERROR, NOTE, WARNING, Finding

_COMMANDS: Final = {ERROR: "error", WARNING: "warning", NOTE: "notice"}
_IN_MESSAGES: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTIES: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})
_STDIN: Final = "-"


def annotation(finding: Finding) -> str:
    """Return one line such as `::error file=models.yaml,line=7,title=VirtualModel/chat R4::spec.current: 'huge' names …`.

    What came from stdin has no file, so it is shown with the run and not with a line.
    """
    properties: dict[str, str] = {}
    if finding.file != _STDIN:
        properties["file"] = finding.file
        if finding.line:
            properties["line"] = str(finding.line)
    title = " ".join(part for part in (f"{finding.kind}/{finding.name}" if finding.kind else "", finding.rule) if part)
    if title:
        properties["title"] = title
    listed = ",".join(f"{key}={value.translate(_IN_PROPERTIES)}" for key, value in properties.items())
    message = ": ".join(part for part in (finding.path, finding.message) if part).translate(_IN_MESSAGES)
    return f"::{_COMMANDS[finding.severity]}{' ' if listed else ''}{listed}::{message}"
