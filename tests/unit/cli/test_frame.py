"""The frame: commands, exit codes, what is imported when, and that no fault of a user ends in a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aigateway_operator.cli import COMMANDS, exit_of, main
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.remedies import remedy_of
from aigateway_operator.errors import AigatewayError, Forbidden, RenderError, SettingsError, SpecError, Unavailable
from aigateway_operator.settings import Settings
from tests.cli_suite import model, run_cli, write_manifests

ROOT = Path(__file__).resolve().parents[3]


def run_program(*argv: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run `python -m aigateway_operator` (or some code) as a program of its own."""
    program = ["-c", code] if code else ["-m", "aigateway_operator"]
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, *program, *argv], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_that_names_exit_codes(command: str) -> None:
    """`--help` of each works without a cluster and without settings."""
    shown = run_cli(command, "--help")
    assert shown.code == 0
    assert f"usage: aigateway {command}" in shown.out
    assert all(re.search(rf"(?:exit codes:|;)\s+{code.value} ", shown.out) for code in Exit)


def test_help_lists_every_command() -> None:
    """A command that is missing in the list is not found."""
    shown = run_cli("--help").out
    for command, (_, text) in COMMANDS.items():
        assert f"    {command} " in shown
        assert text[:30] in " ".join(shown.split())


def test_kubectl_plugin_is_called_so_in_its_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of `kubectl aigateway` is told what to type."""
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-aigateway"])
    assert "usage: kubectl aigateway [-h]" in run_cli("--help").out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'. Commands: run, webhook, "),
        (["stauts"], "Did you mean 'status'?"),
        (["check"], "required: FILE"),
        (["check", "x", "--colour"], "unrecognized arguments: --colour"),
        (["status", "main", "--wacth"], "aigateway status: error: unrecognized arguments: --wacth. Did you mean --watch?"),
        (["status", "main", "other"], "aigateway status: error: unrecognized arguments: other"),
        (["check", "x", "-o", "xml"], "invalid choice: 'xml'"),
        (["wait", "vmodel/x", "--timeout", "soon"], "'soon' is not a duration such as 60s"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_what_is_wrong(argv: list[str], words: str) -> None:
    """argparse's own code, and its own words."""
    done = run_cli(*argv)
    assert done.code == Exit.USAGE
    assert words in done.err


def test_errors_have_the_exit_codes_of_their_kind() -> None:
    """Scripts tell a refusal from a mistake in the call and from a cluster that is away."""
    errors = [SettingsError("x"), SpecError("x"), Unavailable("x"), Forbidden("x", status=403), RenderError("x")]
    assert [exit_of(error) for error in errors] == [2, 2, 3, 3, 1]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["check", "gone.yaml"], Exit.REFUSED),
        (["apply", "gone.yaml"], Exit.REFUSED),
        (["render", "gone.yaml"], Exit.REFUSED),
        (["import", "gone.yml"], Exit.USAGE),
        (["mount", "main", "-f", "gone.yaml"], Exit.USAGE),
        (["local", "gone"], Exit.USAGE),
    ],
)
def test_an_unreadable_file_is_a_finding_among_manifests_and_else_a_usage_error(
    argv: list[str], code: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/cli.md says: where each manifest is judged, the others are told with it; else there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    done = run_cli(*argv)
    assert (done.code, "gone" in done.out + done.err) == (code, True)


def test_a_kubeconfig_that_cannot_be_used_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, no YAML, or no mapping: the file is named with the remedy, and what it holds is not quoted."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/b")
    absent = run_cli("status")
    assert absent.code == Exit.USAGE
    assert f"kubeconfig {tmp_path}/a:{tmp_path}/b is not readable; name another" in absent.err
    for content in ("token: [hunter2", "[hunter2]", "hunter2"):
        (tmp_path / "broken").write_text(content)
        done = run_cli("status", "--kubeconfig", str(tmp_path / "broken"))
        assert done.code == Exit.USAGE, content
        assert f"cannot load credentials for the cluster from {tmp_path}/broken" in done.err
        assert "--kubeconfig" in done.err
        assert "hunter2" not in done.err


def test_a_credential_plugin_that_hangs_is_named(tmp_path: Path) -> None:
    """It may wait for a login that nobody sees; no command waits for ever. Run as a program: the plugin outlives it."""
    code = (
        "import sys; from aigateway_operator.kube import access; access.LOAD_SECONDS = 0.2;"
        "from aigateway_operator.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    plugin = "{apiVersion: client.authentication.k8s.io/v1, command: sleep, args: ['30'], interactiveMode: Never}"
    (tmp_path / "config").write_text(
        '{clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], current-context: c, '
        f"contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{exec: {plugin}}}}}]}}"
    )
    done = run_program("status", "--kubeconfig", str(tmp_path / "config"), code=code)
    assert done.returncode == Exit.USAGE
    assert f"the credential plugin of {tmp_path}/config did not answer within 0.2 s; run its command" in done.stderr


def test_an_api_server_that_does_not_answer_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    """The wrong context is the usual cause; nothing listens on port 1."""
    cluster = '{name: c, cluster: {server: "http://127.0.0.1:1"}}'
    (tmp_path / "config").write_text(
        f"clusters: [{cluster}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        "users: [{name: u, user: {}}]\ncurrent-context: c\n"
    )
    done = run_cli("status", "--kubeconfig", str(tmp_path / "config"))
    assert done.code == Exit.CLUSTER
    assert "gatewayconfigs failed: cannot connect to 127.0.0.1:1: Connection refused\n" in done.err
    assert "--kubeconfig and --context name another" in done.err


def test_a_context_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """A typing error is mended at a glance."""
    (tmp_path / "config").write_text("contexts: [{name: production}, {name: staging}]\n")
    done = run_cli("status", "--kubeconfig", str(tmp_path / "config"), "--context", "prodution")
    assert done.code == Exit.USAGE
    assert f"{tmp_path}/config has no context 'prodution'. There: production, staging." in done.err


def test_help_of_run_says_defaults_and_words_to_choose_from() -> None:
    """Nobody has to look them up in the documentation."""
    shown = " ".join(run_cli("run", "--help").out.split())
    assert "Name of that Lease. Default: aigateway-operator." in shown
    assert "--log-level DEBUG|INFO|WARNING|ERROR Lowest level" in shown
    assert "certainly alone. Default: true." in shown


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("x"), "Is this the right cluster"),
        (Forbidden("x", status=401), "log in again"),
        (Forbidden("x", status=403), "Ask for that right"),
        (Unavailable("x", status=503), ""),
        (SettingsError("x"), ""),
    ],
)
def test_what_the_cluster_refuses_is_told_with_what_to_do(error: AigatewayError, words: str) -> None:
    """A text that says its own remedy gets no second one."""
    assert words in remedy_of(error)
    assert bool(remedy_of(error)) == bool(words)


def test_every_wrong_setting_of_run_is_named_with_flag_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start tells all of them; nothing is started."""
    monkeypatch.setenv("AIGATEWAY_LOG_LEVEL", "LOUD")
    done = run_cli("run", "--health-port", "high", "--allow-addresses", "everywhere")
    assert done.code == Exit.USAGE
    for words in ("--health-port (AIGATEWAY_HEALTH_PORT)", "AIGATEWAY_LOG_LEVEL", "AIGATEWAY_ALLOW_ADDRESSES"):
        assert words in done.err


def test_flags_of_run_reach_the_settings_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting has a flag, a flag wins over its variable, and what is not given keeps its default."""
    seen: list[Settings] = []

    def run_operator(settings: Settings) -> int:
        seen.append(settings)
        return 7

    monkeypatch.setattr("aigateway_operator.serving.run_operator", run_operator)
    monkeypatch.setenv("AIGATEWAY_LEASE_NAME", "from-environment")
    monkeypatch.setenv("AIGATEWAY_IDENTITY", "me")
    flags = ["--lease-name", "from-flag", "--no-leader-election", "--health-port", "0", "--namespaces", "a,b"]
    assert main(["run", *flags, "--allow-addresses", "127.0.0.0/8"]) == 7
    [settings] = seen
    assert (settings.lease_name, settings.identity, settings.leader_election) == ("from-flag", "me", False)
    assert (settings.health_port, settings.namespaces, settings.log_format) == (0, ("a", "b"), "text")
    assert [str(network) for network in settings.allow_addresses] == ["127.0.0.0/8"]


def test_check_imports_neither_kopf_nor_a_kubernetes_client() -> None:
    """A pre-commit hook runs it on every commit: it must be quick, and needs no cluster."""
    code = (
        "import sys; from aigateway_operator.cli import main; main(['check', sys.argv[1]]);"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'kopf', 'kubernetes', 'aiohttp', 'rich', 'loguru'})"
    )
    done = run_program(str(ROOT / "examples" / "01-quickstart"), code=code)
    assert done.stdout.splitlines()[-1] == "", done.stdout + done.stderr


def test_help_is_there_at_once() -> None:
    """Under 0.3 s on an idle machine; the best of five, since tests run beside each other."""
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert run_program("--help").returncode == 0
        took.append(time.monotonic() - started)
    assert min(took) < 0.3


def test_help_imports_no_command() -> None:
    """Why it is quick: neither pydantic nor YAML is read to list names."""
    code = (
        "import sys; from aigateway_operator.cli import main; main(['--help']);"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'pydantic', 'yaml', 'orjson', 'asyncio_'})"
    )
    assert run_program(code=code).stdout.splitlines()[-1] == ""


def test_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`aigateway render … | head -1` ends without a traceback."""
    file = write_manifests(tmp_path / "m.yaml", *(model(f"m{n}", current="huge") for n in range(1000)))
    command = f"{sys.executable} -m aigateway_operator check {file} | head -1"
    environment = {"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_module_run_is_the_same_program() -> None:
    """`python -m aigateway_operator` for those without the console script."""
    done = run_program("--version")
    assert (done.returncode, done.stdout.strip()) == (0, "aigateway 0.1.0")
    assert run_program("bogus").returncode == Exit.USAGE


def test_page_names_every_command_flag_and_exit_code() -> None:
    """docs/cli.md is complete; flags that are settings stand with these, those of `crds` are for developers."""
    page = (ROOT / "docs" / "cli.md").read_text()
    for command in COMMANDS:
        assert f"`{command}" in page, command
        flags = {word.strip("[],") for word in run_cli(command, "--help").out.split() if word.startswith(("--", "[--"))}
        known = flags - {"--help", "--output"} if command not in ("run", "webhook", "crds", "gateway") else set()
        assert not [flag for flag in known if flag not in page], command
    for code in Exit:
        assert f"| {int(code)} |" in page


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [("local", "yaml", "operator"), ("audit", "orjson", "operator"), ("gateway", "pydantic_settings", "gateway")],
)
def test_a_missing_extra_is_a_sentence_of_the_program(command: str, missing: str, extra: str) -> None:
    """Whoever installed the base alone, as pods do, is told what to install; seen at the program, not at a function of it."""
    code = f"import sys; sys.modules[{missing!r}] = None; from aigateway_operator.cli import main; sys.exit(main(sys.argv[1:]))"
    shown = run_program(command, ".", code=code)
    assert shown.returncode == Exit.USAGE, shown.stderr
    assert "Traceback" not in shown.stderr
    assert f"pip install 'aigateway[{extra}]'" in shown.stderr
    assert missing in shown.stderr
