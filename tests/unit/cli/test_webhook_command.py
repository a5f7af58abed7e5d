"""`aigateway webhook`: the configuration for people without Helm, and settings that are wrong, told before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration
from aigateway_operator.cli import main
from aigateway_operator.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that says nothing."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"AIGATEWAY_{name.upper()}", raising=False)


def test_printed_configuration_is_the_one_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """YAML by default, JSON on demand; namespace, Service and name are those of the settings."""
    assert main(["webhook", "--print-configuration", "--lease-namespace", "aigateway-system"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == webhook_configuration(Endpoint())
    arguments = ["--url", "https://10.0.0.1:8443", "--namespaces", "a,b", "--failure-policy", "Ignore", "-o", "json"]
    assert main(["webhook", "--print-configuration", "--webhook-configuration", "mine", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = webhook_configuration(
        Endpoint(url="https://10.0.0.1:8443"), name="mine", failure_policy="Ignore", namespaces=["a", "b"]
    )
    assert printed == expected
    assert main(["webhook", "--print-configuration", "--namespace-selector", "team in (a, b)"]) == 0
    (webhook,) = yaml.safe_load(capsys.readouterr().out)["webhooks"]
    assert webhook["namespaceSelector"] == {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--webhook-port", "70000"], "--webhook-port (AIGATEWAY_WEBHOOK_PORT)"),
        (["--webhook-certificates", "none"], "--webhook-certificates (AIGATEWAY_WEBHOOK_CERTIFICATES)"),
        (["--namespace-selector", "team in a"], "--namespace-selector (AIGATEWAY_NAMESPACE_SELECTOR)"),
        (["--webhook-certificates", "off"], "AIGATEWAY_WEBHOOK_CERTIFICATES is off"),
        (["--url", "https://a"], "--url is only for --print-configuration"),
        (["--webhook-certificates", "files", "--webhook-client-ca", "/nowhere/ca.pem"], "AIGATEWAY_WEBHOOK_CLIENT_CA"),
    ],
)
def test_wrong_setting_is_named_and_nothing_starts(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the variable's name."""
    assert main(["webhook", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_webhook_with_certificates_from_files_loads_neither_kopf_nor_the_kubernetes_client() -> None:
    """What a replica does not import it does not carry: memory and start."""
    program = (
        "import sys, aigateway_operator.webhook; print([m for m in ('kopf', 'kubernetes', 'pymongo') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
