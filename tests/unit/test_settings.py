"""Settings: what the environment may say, and errors that name the variable."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from aigateway_operator.cli.run import parse_settings
from aigateway_operator.errors import SettingsError
from aigateway_operator.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that says nothing."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"AIGATEWAY_{name.upper()}", raising=False)


def test_every_setting_has_a_default_and_says_what_it_is_for() -> None:
    """A process starts with no setting at all, and strict: no exception to the address rules."""
    settings = Settings()
    assert settings.allow_addresses == ()
    assert settings.namespaces == ()
    assert settings.leader_election
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces and empty parts do not matter; addresses may be of both families."""
    monkeypatch.setenv("AIGATEWAY_NAMESPACES", "ai, team-b ,")
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "127.0.0.0/8,::1/128")
    settings = Settings()
    assert settings.namespaces == ("ai", "team-b")
    assert settings.allow_addresses == (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def test_flags_stand_above_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """And may be given as the types themselves."""
    monkeypatch.setenv("AIGATEWAY_HEALTH_PORT", "9000")
    monkeypatch.setenv("AIGATEWAY_LEASE_NAME", "from-environment")
    settings = Settings(health_port=0, namespaces=("a",), allow_addresses=(ip_network("10.0.0.0/8"),))
    assert (settings.health_port, settings.lease_name, settings.namespaces) == (0, "from-environment", ("a",))
    assert settings.allow_addresses == (ip_network("10.0.0.0/8"),)


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart writes what it has no value for as an empty string; that is not a kubeconfig named ''."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"AIGATEWAY_{name.upper()}", "")
    assert Settings() == Settings.model_construct(**{name: field.default for name, field in Settings.model_fields.items()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEALTH_PORT", "70000"),
        ("HEALTH_PORT", "http"),
        ("LEADER_ELECTION", "perhaps"),
        ("ALLOW_ADDRESSES", "127.0.0.1/8"),
        ("ALLOW_ADDRESSES", "localhost"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The process ends with a text, not with a guess."""
    monkeypatch.setenv(f"AIGATEWAY_{name}", value)
    with pytest.raises(SettingsError, match=f"AIGATEWAY_{name}"):
        parse_settings({})


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they are mended in one go."""
    monkeypatch.setenv("AIGATEWAY_HEALTH_PORT", "x")
    monkeypatch.setenv("AIGATEWAY_LOG_LEVEL", "x")
    with pytest.raises(SettingsError, match=r"(?s)HEALTH_PORT.*LOG_LEVEL"):
        parse_settings({})


def test_settings_are_printed_as_they_were_written_and_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are logged at start as JSON values."""
    monkeypatch.setenv("AIGATEWAY_KUBECONFIG", "/etc/kubeconfig")
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "127.0.0.0/8")
    settings = Settings()
    assert settings.kubeconfig == Path("/etc/kubeconfig")
    assert settings.model_dump(mode="json")["allow_addresses"] == ["127.0.0.0/8"]
    with pytest.raises(ValidationError):
        settings.health_port = 1  # type: ignore[misc]  # that is what is tested
    with pytest.raises(ValidationError):
        Settings(unknown=1)  # type: ignore[call-arg]  # that is what is tested
