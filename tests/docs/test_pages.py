"""What the pages claim about the code is so: reasons, settings, examples of resources, links."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from aigateway_gateway.openai_errors import Kind
from aigateway_gateway.settings import GatewaySettings
from aigateway_operator.api.conditions import ConditionType, Reason
from aigateway_operator.plan.health import HealthReason, HealthState
from aigateway_operator.rules import RuleContext, check_gateway_config, check_virtual_model
from aigateway_operator.settings import Settings
from tests.docs.links import anchor_of, anchors, broken_links, links, prose
from tests.docs.pages import PAGES, ROOT, Block, blocks, given, missing_lines

STATUS = ROOT / "docs" / "status.md"
OPERATIONS = ROOT / "docs" / "operations.md"
GENERATED = {"reference.md", "metrics.md", "chart-values.md", "performance.md"}
WRITTEN_BY_HAND = [page for page in PAGES if page.parent == ROOT / "docs" and page.name not in {*GENERATED, "decisions.md"}]
NAMING_PAGES = ("operator", "hack", "charts", "config", "examples", "benchmarks", "crds")
"""Folders whose texts send people to pages."""
RESOURCES = [*sorted(ROOT.glob("examples/*/*.yaml"))]


def page_id(page: Path) -> str:
    """Name a page in the list of tests."""
    return str(page.relative_to(ROOT))


def violations(text: str) -> list[str]:
    """Check every resource of ours in a YAML text; return what the rules say, with the object's name before it."""
    found: list[str] = []
    for manifest in yaml.safe_load_all(text):
        if not isinstance(manifest, dict) or not str(manifest.get("apiVersion", "")).startswith("ai-gateway.io/"):
            continue
        name = manifest["metadata"]["name"]
        check = {"VirtualModel": check_virtual_model, "GatewayConfig": check_gateway_config}[manifest["kind"]]
        found += [f"{name}: {violation}" for violation in check(manifest["spec"], RuleContext(name=name))]
    return found


@pytest.mark.parametrize("word", [*ConditionType, *Reason])
def test_status_page_explains_every_condition_and_reason(word: str) -> None:
    """A word that a user meets in status stands in docs/status.md."""
    assert f"`{word}`" in STATUS.read_text()


def test_status_page_names_no_reason_that_does_not_exist() -> None:
    """The table of reasons has no row for a word that the code does not know."""
    _, table = STATUS.read_text().split("## Reasons")
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert named
    assert named - {str(reason) for reason in Reason} == set()


def test_health_page_explains_every_state_and_reason_and_no_other() -> None:
    """Its table has one row for each reason that a store can have, with a state that exists."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| .+ \| .+ \|$", (ROOT / "docs" / "health.md").read_text(), re.MULTILINE)
    assert sorted(reason for _, reason in rows) == sorted(HealthReason)
    assert {state for state, _ in rows} == set(HealthState)


def test_operations_page_lists_every_setting_with_its_default_and_meaning() -> None:
    """The table is what Settings say, in their order."""
    rows = re.findall(r"^\| `(AIGATEWAY_\w+)` \| (.*?) ?\| (.*) \|$", OPERATIONS.read_text(), re.MULTILINE)
    expected = []
    for name, field in Settings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        shown = "" if field.default in ((), None, "") else f"`{default}`"
        expected.append((f"AIGATEWAY_{name.upper()}", shown, (field.description or "").replace("\n", " ")))
    assert rows == expected


def test_gateway_page_lists_every_setting_and_every_error() -> None:
    """The tables are what the settings and the table of errors say."""
    page = (ROOT / "docs" / "gateway.md").read_text()
    rows = re.findall(r"^\| `(AIGATEWAY_\w+)` \| (.*?) ?\| (.*) \|$", page, re.MULTILINE)
    expected = []
    for name, field in GatewaySettings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        variable = "AIGATEWAY_ALLOW_ADDRESSES" if name == "allow_addresses" else f"AIGATEWAY_GATEWAY_{name.upper()}"
        shown = "" if field.default in ((), None, "") else f"`{default}`"
        expected.append((variable, shown, (field.description or "").replace("\n", " ")))
    assert rows == expected
    assert [kind.name for kind in Kind if f"| {kind.value.status} | {kind.value.code or ''}".rstrip() not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_resources_on_a_page_pass_the_rules(page: Path) -> None:
    """A reader who copies a VirtualModel or GatewayConfig gets one that is accepted."""
    assert [text for block in blocks(page, "yaml") for text in violations(block.text)] == []


@pytest.mark.parametrize("manifest", RESOURCES, ids=page_id)
def test_resources_of_examples_pass_the_rules(manifest: Path) -> None:
    """Every file of an example is accepted as it stands."""
    assert violations(manifest.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_on_a_page_runs(page: Path) -> None:
    """The `python` blocks of a page are one program from top to bottom."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if block.not_run_because:
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            continue
        exec(compile(block.text, str(block), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    """No link of a page names a file, or a heading of a page, that is not there."""
    assert broken_links(page) == []


def test_pages_that_code_and_charts_name_are_there() -> None:
    """Errors, remedies, alerts and comments send people to pages; no file names a page or heading that does not exist."""
    named = re.compile(r"\bdocs/([\w-]+\.md)(?:#([\w-]+))?")
    wrong = set()
    for path in (path for top in NAMING_PAGES for path in (ROOT / top).rglob("*")):
        if path.suffix in {".py", ".yaml", ".yml", ".json", ".tpl", ".go"} and "__pycache__" not in path.parts:
            for page, anchor in named.findall(path.read_text(encoding="utf-8", errors="replace")):
                target = ROOT / "docs" / page
                if not target.exists() or (anchor and anchor not in anchors(target)):
                    wrong.add(f"{path.relative_to(ROOT)}: docs/{page}{'#' if anchor else ''}{anchor}")
    assert sorted(wrong) == []


def test_headings_that_share_a_page_with_the_one_before_are_there() -> None:
    """`docs/rules.md#r1, #r2` is two places of one page: the second is as good a source as the first."""
    wrong: list[str] = []
    for path in (ROOT / "operator").rglob("*.py"):
        for page, rest in re.findall(r"\bdocs/([\w-]+\.md)#[\w-]+((?:(?:,| to| and) #[\w-]+)+)", path.read_text()):
            there = anchors(ROOT / "docs" / page)
            wrong += [f"{path.relative_to(ROOT)}: {page}#{one}" for one in re.findall(r"#([\w-]+)", rest) if one not in there]
    assert wrong == []


def test_tests_that_pages_name_are_there() -> None:
    """A page that says which test holds a claim is believed; a test that was renamed or moved holds nothing."""
    named = {(page, name) for page in PAGES for name in re.findall(r"`((?:tests|hack)/[\w/]+\.py)", page.read_text())}
    assert [f"{page_id(page)}: {name}" for page, name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    """docs/README.md leads to each page of docs/, of the examples and of the root: none is found by chance only."""
    contents = ROOT / "docs" / "README.md"
    named = {(contents.parent / link.partition("#")[0]).resolve() for link in links(contents)} | {contents}
    assert [page_id(page) for page in PAGES if page not in named] == []


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=page_id)
def test_a_page_has_one_title_and_one_sentence_a_line(page: Path) -> None:
    """A change of one sentence is a change of one line; a page opens with its title."""
    text = re.sub(r"^<!--.*-->\n", "", prose(page), flags=re.MULTILINE)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    sentences = [
        line for line in text.splitlines() if not line.startswith(("|", "- ", "* ", "#", ">")) and not line[:1].isdigit()
    ]
    assert [line for line in sentences if re.search(r"[a-z`)\]][.?!] [A-Z]", re.sub(r"\([^)]*\)", "", line))] == []


def test_links_and_headings_are_found_as_on_the_forge(tmp_path: Path) -> None:
    """Anchors keep `-` and `_`, lose other punctuation, and are counted when repeated; links in code are none."""
    assert anchor_of('"Cannot add new key … to fixed structure"') == "cannot-add-new-key--to-fixed-structure"
    assert anchor_of("`NameTaken` and [R4](rules.md#r4)") == "nametaken-and-r4"
    made_up = tmp_path / "made-up.md"
    made_up.write_text("# A b\n## A b\n[x](#a-b-1) [y](#no) `[z](no.md)` [w](no.md)\n```text\n# C\n[v](no.md)\n```\n")
    assert anchors(made_up) == {"a-b", "a-b-1"}
    assert broken_links(made_up) == ["#no", "no.md"]


def test_a_block_is_read_with_its_reason_and_what_it_must_print(tmp_path: Path) -> None:
    """`not run`, language and the `text` block right after are seen; one further down belongs to nothing."""
    text = (
        "# x\n<!-- given: examples/01-quickstart -->\n<!-- not run: why -->\n```bash\na\n```\n\n```bash\nb\nc\n```\n"
        "```text\none … two\n```\nwords\n```text\nno\n```\n<!-- values -->\n```yaml\na: 1\n```\n"
    )
    made_up = tmp_path / "made-up.md"
    made_up.write_text(text)
    assert blocks(made_up, "bash") == [
        Block(made_up, 4, "bash", "a\n", "why", ()),
        Block(made_up, 8, "bash", "b\nc\n", None, ("one … two",)),
    ]
    assert blocks(made_up, "yaml") == [Block(made_up, 20, "yaml", "a: 1\n", None, (), is_values=True)]
    assert given(made_up) == ROOT / "examples" / "01-quickstart"


def test_expected_lines_are_compared_whole_and_with_gaps() -> None:
    """A line that only begins like an expected one does not do; spaces do not count, `…` is anything."""
    assert missing_lines(("NAME READY", "chat …", "exact"), "NAME   READY\nchat main 3s\nexact not\n") == ["exact"]
