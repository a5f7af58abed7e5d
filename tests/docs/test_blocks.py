"""No code block of any page is only looked at: it runs, or it says why not and what is in it is checked all the same."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from aigateway_operator.cli import COMMANDS
from aigateway_operator.cli import _parser as parser_for
from hack.controlplane import ControlPlane
from tests.conftest import require_binaries
from tests.docs.pages import PAGES, ROOT, WORDS_ONLY, Block, blocks
from tests.docs.shell import arguments_of, commands, paths_in

CHART = ROOT / "charts" / "aigateway"
FOREIGN_GROUPS = ("argoproj.io", "fluxcd.io", "cert-manager.io", "external-secrets.io", "bitnami.com", "monitoring.coreos.com")
"""Kinds of others, which no API server here knows; their own tests check them."""


def page_id(page: Path) -> str:
    """Name a page in the list of tests."""
    return str(page.relative_to(ROOT))


def of_pages(*languages: str) -> list[Block]:
    """Return all blocks of these languages."""
    return [block for page in PAGES for language in languages for block in blocks(page, language)]


def unchecked(block: Block) -> bool:
    """Whether nothing looks at a block and it gives no reason."""
    if block.language in WORDS_ONLY or block.not_run_because:
        return False
    if block.language == "yaml":
        judged = ("# accepted:", "# refused:")  # tests/unit/rules judges these
        return not (block.is_values or "\nkind:" in "\n" + block.text or block.text.startswith(judged))
    return block.language not in {"bash", "python", "json"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_is_checked_or_says_why_not(page: Path) -> None:
    """Nobody copies from a page what nothing has looked at: see tests/docs/pages.py for what a block may be."""
    indented = re.findall(r"^[ >]+```.*", page.read_text(), re.MULTILINE)
    assert indented == [], "a fence that does not begin its line is not looked at"
    found = [f"{block} ({block.language or 'no language'})" for block in blocks(page) if unchecked(block)]
    assert found == [], "put `<!-- not run: reason -->` above, or make it a block that is run"


def problem_with(arguments: list[str]) -> str | None:
    """Return what the command line would say against these arguments; None: it takes them. Runs nothing."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser_for(arguments).parse_args(arguments)
        except SystemExit as end:
            return said.getvalue().strip().splitlines()[-1] if end.code else None
    return None


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_aigateway_takes_the_arguments_on_a_page(page: Path) -> None:
    """Also where a command is not run, its name, flags and number of arguments are those of the command line."""
    problems = []
    for block in (*blocks(page, "bash"), *blocks(page, "console")):
        for arguments in arguments_of("aigateway", block):
            if problem := problem_with(arguments):
                problems.append(f"{block}: aigateway {' '.join(arguments)}: {problem}")
    assert problems == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_commands_name_are_there(page: Path) -> None:
    """A path below one of the repository's folders leads somewhere, run or not."""
    named = [(str(block), path) for kind in ("bash", "console") for block in blocks(page, kind) for path in paths_in(block)]
    assert [
        (where, str(path.relative_to(ROOT))) for where, path in named if not path.exists() and "build" not in path.parts
    ] == []


def test_targets_of_make_on_pages_are_there() -> None:
    """A page names no target that the Makefile does not have."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = [
        (str(block), word) for block in of_pages("bash", "console") for words in arguments_of("make", block) for word in words
    ]
    assert [(where, word) for where, word in called if word not in targets and "=" not in word] == []


def test_shell_text_is_shell() -> None:
    """bash reads every block of it, also those that are not run."""
    broken = []
    for block in of_pages("bash"):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            broken.append(f"{block}: {done.stderr.strip()}")
    assert broken == []


def test_json_parses() -> None:
    """JSON on a page is JSON; what is cut short with `…` inside a string still is."""
    for block in of_pages("json"):
        if block.not_run_because is None:
            json.loads(block.text)


def rendered_by(words: list[str]) -> list[str] | None:
    """Return arguments of `helm template` that render what a `helm install` or `upgrade` would; None: it renders nothing."""
    if words[:1] != ["helm"] or not words[1:] or words[1] not in {"install", "upgrade", "template"}:
        return None
    if not any(word.startswith("charts/") for word in words):
        return None
    alone = {
        "--install",
        "--wait",
        "--atomic",
        "--rollback-on-failure",
        "--create-namespace",
        "--dry-run=server",
        "--reuse-values",
    }
    kept: list[str] = []
    following = iter(words[2:])
    for word in following:
        if word in {"-f", "--values", "--kube-version"}:
            value = next(following)
            kept += [word, value] if (ROOT / value).is_file() else []  # a reader's own file, or their version
        elif word not in alone:
            kept.append(word)
    return ["template", *kept]


@pytest.mark.skipif(not CHART.exists(), reason="the chart is not in this tree")
def test_charts_take_the_values_on_pages(tmp_path: Path) -> None:
    """Each `helm install` and each block of values is rendered; the chart's schema refuses keys that it does not know."""
    helm = require_binaries(["helm"])["helm"]
    wanted = []
    for block in of_pages("bash", "console"):
        wanted += [(str(block), arguments) for words in commands(block) if (arguments := rendered_by(words)) is not None]
    for number, block in enumerate(block for block in of_pages("yaml") if block.is_values):
        values = tmp_path / f"{number}.yaml"
        values.write_text(block.text)
        wanted.append((str(block), ["template", "aigateway", str(CHART), "--values", str(values)]))
    problems = []
    for where, arguments in wanted:
        done = subprocess.run(
            [helm, *arguments, "--kube-version=1.36"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            problems.append(f"{where}: helm {' '.join(arguments)}: {done.stderr.strip()}")
    assert problems == []


@pytest.mark.apiserver
def test_manifests_on_pages_are_taken_by_the_api_server(plane: ControlPlane, namespace: str) -> None:
    """Every YAML block with a kind passes schema, CEL and strict decoding of a real API server, as a dry run."""
    manifests = []
    for block in of_pages("yaml"):
        if block.not_run_because is None and not block.is_values and "\nkind:" in "\n" + block.text:
            for manifest in yaml.safe_load_all(block.text):
                if not any(group in manifest["apiVersion"] for group in FOREIGN_GROUPS):
                    manifest["metadata"].pop("namespace", None)
                    manifest["metadata"].setdefault("annotations", {})["from"] = str(block)
                    manifests.append(manifest)
    assert manifests
    done = plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(manifests)
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_on_the_page_of_the_command_line() -> None:
    """docs/cli.md names each command of `aigateway`, and no other in its table."""
    page = (ROOT / "docs" / "cli.md").read_text()
    assert {name for name in COMMANDS if f"\n| `{name}" not in page} == set()


def test_commands_are_found_in_pipes_transcripts_and_pods(tmp_path: Path) -> None:
    """What the checks above look at is what a reader would type."""
    made_up = tmp_path / "made-up.md"
    made_up.write_text(
        "```bash\nA=1 aigateway check a.yaml | grep x && kubectl exec deploy/o -- aigateway doctor -n ai >out\n"
        'kubectl patch x --patch "$(aigateway mount main --patch)"\n```\n'
        "<!-- not run: no cluster -->\n```console\n$ kubectl aigateway status \\\n  -A\nsaid aigateway nonsense\n```\n"
    )
    assert [call for block in blocks(made_up) for call in arguments_of("aigateway", block)] == [
        ["check", "a.yaml"],
        ["doctor", "-n", "ai"],
        ["mount", "main", "--patch"],
        ["status", "-A"],
    ]
    assert problem_with(["status", "--all-namespaces"]) is None
    assert "unrecognized arguments: --al" in str(problem_with(["mount", "main", "--al"]))
