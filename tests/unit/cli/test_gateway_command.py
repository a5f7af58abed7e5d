"""`aigateway gateway`: flags over the environment, faults named together, and what is said when the extra is missing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from aigateway_operator.cli import gateway
from aigateway_operator.cli.exits import Exit
from aigateway_operator.errors import SettingsError
from tests.cli_suite import run_cli


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is no setting is left alone."""
    monkeypatch.setenv("AIGATEWAY_GATEWAY_PORT", "1")
    monkeypatch.setenv("AIGATEWAY_GATEWAY_WORKERS", "3")
    settings = gateway.parse_settings({"port": "9000", "run": print, "connect": None})
    assert (settings.port, settings.workers) == (9000, 3)


def test_all_wrong_settings_are_named_at_once() -> None:
    """Each with its flag and its variable; nothing is started."""
    shown = run_cli("gateway", "--port", "70000", "--workers", "none", "--allow-addresses", "x")
    assert shown.code == Exit.USAGE
    for words in ("--port (AIGATEWAY_GATEWAY_PORT)", "--workers (AIGATEWAY_GATEWAY_WORKERS)", "'x' does not appear to be"):
        assert words in shown.err


def test_the_admin_key_is_no_flag() -> None:
    """Flags are shown by `ps`. Its file is one."""
    flags = set(re.findall(r"--[a-z-]+", run_cli("gateway", "--help").out))
    assert {"--admin-key", "--admin-key-file"} & flags == {"--admin-key-file"}


def test_the_admin_key_may_be_in_a_file(tmp_path: Path) -> None:
    """Without the line end of an editor; while the file is not there, there is no key; the variable decides over it."""
    file = tmp_path / "admin-key"
    settings = gateway.parse_settings({"admin_key_file": str(file)})
    assert settings.read_admin_key() == ""
    file.write_text("secret-1\n")
    assert settings.read_admin_key() == "secret-1"
    assert "secret-1" not in repr(settings)
    assert settings.model_copy(update={"admin_key": SecretStr("secret-2")}).read_admin_key() == "secret-2"


def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""

    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr(gateway, "import_module", missing)
    assert importlib.import_module is not missing
    with pytest.raises(SettingsError, match=r"fastapi is not installed.*pip install 'aigateway\[gateway\]'"):
        gateway.parse_settings({})
