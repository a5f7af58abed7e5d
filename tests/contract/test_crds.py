"""Generated files say what the models say: CRDs, reference, JSON Schemas. No server is needed; see tests/apiserver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from aigateway_config.documents import PUBLISHED
from aigateway_operator.api.crd import KINDS, Kind, custom_resource_definition
from aigateway_operator.api.crd_schema import MAP_TYPE, PRESERVE, VALIDATIONS, Schema, walk
from aigateway_operator.api.policy import admission_policies
from aigateway_operator.cli import main
from aigateway_operator.cli.crds import CHART_FILES, POLICY_FILE, generated_files

ROOT = Path(__file__).resolve().parents[2]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def committed(kind: Kind) -> Schema:
    """Return the CRD as it lies in crds/."""
    crd: Schema = yaml.safe_load((ROOT / "crds" / f"{kind.plural}.yaml").read_text())
    return crd


def part(kind: Kind, name: str) -> Iterator[tuple[str, Schema]]:
    """Yield (path, schema) of every place in `spec` or `status` of the committed CRD."""
    root = committed(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from walk(root["properties"][name], name)


def everything_in(value: object) -> Iterator[tuple[str, Any]]:
    """Yield every key and value at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from everything_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything_in(inner)


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_committed_file_is_what_the_models_generate(name: str) -> None:
    """A change of a model comes with its generated files."""
    assert (ROOT / name).read_text(encoding="utf-8") == generated_files()[name], "run `aigateway crds`"


def test_nothing_else_lies_beside_generated_files() -> None:
    """A file that is no longer generated would be installed for ever."""
    alone = {"docs/reference.md", "docs/metrics.md", f"{CHART_FILES}/match-conditions.yaml"}
    present = {
        str(path.relative_to(ROOT))
        for folder in ("crds", "config/policy", "docs/schemas", f"{CHART_FILES}/crds", f"{CHART_FILES}/policy")
        for path in (ROOT / folder).iterdir()
        if path.name != "README.md"
    }
    assert present == {name for name in generated_files() if name not in alone}


def test_generation_is_deterministic() -> None:
    """Twice the same, byte for byte; the files are read back as what was written."""
    assert generated_files() == generated_files()
    assert [committed(kind) for kind in KINDS] == [custom_resource_definition(kind) for kind in KINDS]


@EVERY_KIND
def test_spec_has_no_default_of_the_api_server(kind: Kind) -> None:
    """A default on spec would show as drift to GitOps tools."""
    assert [path for path, schema in part(kind, "spec") if "default" in schema] == []


@EVERY_KIND
def test_status_alone_has_a_default(kind: Kind) -> None:
    """A fresh object says Ready=Unknown before anybody has seen it."""
    defaults = {path: schema["default"] for path, schema in part(kind, "status") if "default" in schema}
    assert list(defaults) == ["status"]
    [condition] = defaults["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")


@EVERY_KIND
def test_every_declared_object_of_spec_keeps_unknown_keys(kind: Kind) -> None:
    """One object without would be pruned before admission, and a misspelt key would vanish unnamed."""
    objects = {path: schema for path, schema in part(kind, "spec") if "properties" in schema}
    assert len(objects) > 3
    assert [path for path, schema in objects.items() if schema.get(PRESERVE) is not True] == []
    assert [path for path, schema in part(kind, "status") if PRESERVE in schema] == []


@EVERY_KIND
def test_objects_that_may_be_emptied_have_one_owner(kind: Kind) -> None:
    """Atomic, or emptying one under server-side apply is refused."""
    atomic = {path for path, schema in part(kind, "spec") if schema.get(MAP_TYPE) == "atomic"}
    expected = {
        "VirtualModel": {"spec.backends[].parameters", "spec.probe"},
        "GatewayConfig": {"spec.webSearch.options", "spec.delivery.podSelector", "spec.probes"}
        | {f"spec.storage.{store}.tls" for store in ("mongodb", "redis", "qdrant")},
    }
    assert atomic == expected[kind.name]


@EVERY_KIND
def test_every_field_is_explained(kind: Kind) -> None:
    """`kubectl explain` shows these texts and nothing else."""
    without = [
        path
        for name in ("spec", "status")
        for path, schema in part(kind, name)
        if not path.endswith(("[]", "{}")) and not schema.get("description", "").endswith((".", ")"))
    ]
    assert without == []


@EVERY_KIND
def test_rules_hold_no_open_hole_and_no_line_break(kind: Kind) -> None:
    """A text with an unfilled place, or a message that the API server would refuse at run time."""
    rules = [rule for key, listed in everything_in(committed(kind)) if key == VALIDATIONS for rule in listed]
    assert len(rules) >= 4
    for rule in rules:
        assert "⟦" not in json.dumps(rule, ensure_ascii=False)
        assert "\n" not in rule["message"]
        assert ("messageExpression" in rule) == ("…" in rule["message"])


def test_check_names_a_file_that_differs_and_shows_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`aigateway crds --check` is what CI fails on."""
    assert main(["crds", "--output", str(tmp_path)]) == 0
    assert main(["crds", "--check", "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    edited = tmp_path / "crds" / "virtualmodels.yaml"
    edited.write_text(edited.read_text().replace("shortNames:", "shortnames:"))
    (tmp_path / "docs" / "schemas" / "status.schema.json").unlink()
    assert main(["crds", "--check", "--output", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "-    shortnames:" in told
    assert "+    shortNames:" in told
    assert "crds/virtualmodels.yaml, docs/schemas/status.schema.json. Run `aigateway crds`" in told
    assert "gatewayconfigs" not in told
    assert "shortnames:" in edited.read_text(), "--check must write nothing"


def test_long_difference_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A regenerated schema does not flood the terminal; how much is left out is said."""
    main(["crds", "--output", str(tmp_path)])
    (tmp_path / "docs" / "reference.md").write_text("")
    capsys.readouterr()
    assert main(["crds", "--check", "--output", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) < 30
    assert "more lines" in told


def test_printed_crds_are_those_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """`-o yaml` and `-o json` print what `aigateway crds` writes, for `kubectl apply -f -`."""
    expected = [committed(kind) for kind in KINDS]
    assert main(["crds", "-o", "yaml"]) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == expected
    assert main(["crds", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == expected


def test_printed_policies_are_those_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """`--policy` prints them for `kubectl apply -f -`; they are no part of crds/, which is applied as a whole."""
    expected = admission_policies()
    assert main(["crds", "--policy"]) == 0
    assert capsys.readouterr().out == (ROOT / POLICY_FILE).read_text()
    assert list(yaml.safe_load_all((ROOT / POLICY_FILE).read_text())) == expected
    assert main(["crds", "--policy", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == expected
    assert main(["crds", "--policy", "--check"]) == 2
    assert "leave out --check and --output, or --policy" in capsys.readouterr().err


def test_each_policy_reports_everything_by_one_validation() -> None:
    """The API server reports the first failing validation only; what is bound denies; nothing of it is on by default."""
    policies = [one["spec"] for one in admission_policies() if one["kind"] == "ValidatingAdmissionPolicy"]
    assert [len(spec["validations"]) for spec in policies] == [1, 1]
    assert all("\n" not in spec["validations"][0]["message"] for spec in policies)
    assert not POLICY_FILE.startswith("crds/")


def test_installed_program_prints_the_crds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a source tree there is nothing to write to: `aigateway crds | kubectl apply -f -`; --check says so."""
    monkeypatch.setattr("aigateway_operator.cli.crds.__file__", "/usr/lib/python3/site-packages/aigateway_operator/cli/crds.py")
    assert main(["crds"]) == 0
    assert [crd["kind"] for crd in yaml.safe_load_all(capsys.readouterr().out)] == ["CustomResourceDefinition"] * 2
    assert main(["crds", "--check"]) == 2
    assert "--output DIR" in capsys.readouterr().err


def test_printing_and_writing_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """`-o` with `--check` would silently check nothing."""
    assert main(["crds", "-o", "json", "--check"]) == 2
    assert "leave out" in capsys.readouterr().err


def test_reference_names_every_field_and_default() -> None:
    """What a user looks up is there."""
    page = (ROOT / "docs" / "reference.md").read_text()
    for kind in KINDS:
        for name in ("spec", "status"):
            for path, schema in part(kind, name):
                if "properties" in schema:
                    assert f"### `{path}`" in page
                    assert [key for key in schema["properties"] if f"| `{key}` |" not in page] == []
    assert "| `port` | integer | `27017` |" in page
    assert '| `sinks` | list of `mongodb`, `file` | `["mongodb", "file"]` |' in page
    assert "| `current` | string | required |" in page


VALID: dict[str, Any] = {
    "config": {
        "app": {"host": "0.0.0.0", "port": 8000, "debug": False},
        "storage": {"mongodb": None, "redis": {"host": "r", "port": 1, "password_ref": None, "tls": None}, "qdrant": None},
        "web_search": None,
        "ai-gateway": {
            "virtual_models": {
                "chat": {
                    "use": True,
                    "current": "small",
                    "base_url": None,
                    "proxy_key_ref": "keys.proxy",
                    "small": {"model": "m", "base_url": "https://x", "api_key_ref": None, "parameters": {"a": [None, 1.5]}},
                }
            }
        },
        "log": {
            stream: {"level": "INFO", "storage": {"sinks": ["file"], "path": "logs"}, "retention": 30}
            for stream in ("system", "operation")
        },
    },
    "status": {
        "lineage": None,
        "documents": {"config.yml": {"revision": 1, "digest": "00"}},
        "credentials": {},
        "credentialsRevision": None,
        "loadedAt": None,
        "restartRequired": [],
        "error": None,
    },
}
WRONG: list[tuple[str, list[str], Any]] = [
    ("config", ["app", "port"], "8000"),
    ("config", ["log"], None),
    ("config", ["ai-gateway", "virtual_models", "chat", "small", "model"], 1),
    ("config", ["ai-gateway", "virtual_models", "chat", "proxy_key_ref"], None),
    ("config", ["log", "system", "level"], "TRACE"),
    ("status", ["documents", "config.yml", "revision"], "1"),
]


def published(name: str) -> Any:
    """Return a validator for a committed JSON Schema; the schema itself is checked."""
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_schema_is_valid_and_open_for_more_keys(name: str) -> None:
    """A gateway in another language can use it; readers ignore unknown keys within a major, so the schema allows them."""
    assert published(name).schema["$id"].startswith(f"urn:ai-gateway.io:{name}:")
    assert [
        value for key, value in everything_in(published(name).schema) if key == "additionalProperties" and value is False
    ] == []


@pytest.mark.parametrize("name", sorted(VALID))
def test_published_schema_accepts_what_readers_accept(name: str) -> None:
    """Schema and model agree on a legal document."""
    published(name).validate(VALID[name])
    PUBLISHED[name].validate_python(VALID[name])


@pytest.mark.parametrize(("name", "place", "value"), WRONG)
def test_published_schema_refuses_what_readers_refuse(name: str, place: list[str], value: Any) -> None:
    """Schema and model agree on a wrong value."""
    document = json.loads(json.dumps(VALID[name]))
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(ValidationError):
        PUBLISHED[name].validate_python(document)
    assert not published(name).is_valid(document)
