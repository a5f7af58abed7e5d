"""`aigateway check`: every fault with file and line, the rules' own words, and what only objects together can break."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aigateway_operator.cli.exits import Exit
from aigateway_operator.rules import RuleContext, check_virtual_model
from tests.cli_suite import gateway, keys, model, run_cli, write_manifests

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file `m.yaml` and returns its path."""

    def write_text(text: str) -> str:
        (tmp_path / "m.yaml").write_text(text)
        return str(tmp_path / "m.yaml")

    return write_text


BROKEN = """\
apiVersion: ai-gateway.io/v1alpha1
kind: VirtualModel
metadata: {name: chat}
spec:
  gatewayRef: {name: main}
  use: true
  current: huge
  baseUrl: http://example.com/v1
  proxyKeySecretRef: {name: keys, key: proxy}
  backends:
  - name: small
    model: gpt-4o-mini
    parameters:
      stream: true
    colour: red
"""


def test_violations_name_file_and_line_of_the_field(write: Write) -> None:
    """An editor can jump to each place; the order is that of the file."""
    file = write(BROKEN)
    checked = run_cli("check", file)
    assert checked.code == Exit.REFUSED
    *lines, summary = checked.out.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        [f"{file}:7", "VirtualModel/chat", "spec.current"],
        [f"{file}:8", "VirtualModel/chat", "spec.baseUrl"],
        [f"{file}:14", "VirtualModel/chat", "spec.backends[0].parameters.stream"],
        [f"{file}:15", "VirtualModel/chat", "spec.backends[0].colour"],
    ]
    assert summary == "1 VirtualModel checked: 4 errors."


def test_texts_are_the_rules_own(write: Write) -> None:
    """Webhook, controller and command line say the same, word for word."""
    expected = check_virtual_model(yaml.safe_load(BROKEN)["spec"], RuleContext("chat"))
    data = run_cli("check", write(BROKEN), "-o", "json").data
    assert {(one["path"], one["reason"], one["rule"], one["message"]) for one in data} == {
        (violation.path, violation.reason.value, violation.rule, violation.message) for violation in expected
    }
    assert {(one["kind"], one["name"], one["severity"]) for one in data} == {("VirtualModel", "chat", "error")}


def test_quickstart_example_passes() -> None:
    """What the documentation shows is accepted; a Namespace beside it is a note and no error."""
    root = Path(__file__).resolve().parents[3]
    checked = run_cli("check", str(root / "examples" / "01-quickstart"))
    assert checked.code == Exit.FINE, checked.out
    assert "Namespace/ai: note: Namespace of v1 is not looked at." in checked.out


def test_public_name_that_is_given_twice_is_an_error_at_the_younger_one(tmp_path: Path) -> None:
    """The first in the files wins, as the one applied first would; a gateway that is not among them does not hide it."""
    second = model("second", modelName="chat")
    for others in ([gateway()], []):
        file = write_manifests(tmp_path / "m.yaml", *others, keys(), model(), second)
        data = run_cli("check", file, "-o", "json").data
        errors = [(one["name"], one["path"], one["reason"]) for one in data if one["severity"] == "error"]
        assert errors == [("second", "spec.modelName", "ModelNameConflict")]


def test_what_may_be_in_the_cluster_is_a_note_and_with_strict_an_error(tmp_path: Path) -> None:
    """A gateway or Secret kept elsewhere does not fail a pipeline, unless it says that everything is there."""
    file = write_manifests(tmp_path / "m.yaml", model())
    lenient, strict = run_cli("check", file), run_cli("check", file, "--strict")
    assert (lenient.code, strict.code) == (Exit.FINE, Exit.REFUSED)
    for checked in (lenient, strict):
        assert "GatewayConfig 'main' does not exist in namespace 'default'" in checked.out
        assert "Secret 'keys' does not exist" in checked.out
        assert checked.out.count("(Looked for in these files only.)") == 2


def test_secret_in_the_files_must_have_the_referenced_key(tmp_path: Path) -> None:
    """A reference is followed into Secrets of the files, `data` and `stringData` alike."""
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"proxy": "eA=="}}
    file = write_manifests(tmp_path / "m.yaml", gateway(), model(), other)
    assert "Secret 'keys' has no key 'openai'" in run_cli("check", file, "--strict").out
    file = write_manifests(tmp_path / "m.yaml", gateway(), model(), {**other, "stringData": {"openai": "text"}})
    assert run_cli("check", file, "--strict").code == Exit.FINE


def test_secret_of_a_type_that_is_never_read_is_an_error(tmp_path: Path) -> None:
    """A service account's token would be sent to a backend."""
    file = write_manifests(tmp_path / "m.yaml", gateway(), model(), {**keys(), "type": "kubernetes.io/service-account-token"})
    checked = run_cli("check", file)
    assert checked.code == Exit.REFUSED
    assert "is of type kubernetes.io/service-account-token, which is never read" in checked.out


def test_set_that_is_too_large_for_its_config_map_is_found(tmp_path: Path) -> None:
    """The limit of 1 MiB is met before the apply, not after."""
    big = {"text": "x" * 200_000}
    models = [model(f"m{n}", backends=[{"name": "small", "model": "m", "parameters": big}]) for n in range(6)]
    file = write_manifests(tmp_path / "m.yaml", gateway(), keys(), *models)
    data = run_cli("check", file, "-o", "json").data
    assert {one["reason"] for one in data} == {"TooLarge"}
    assert "GatewayConfig" in {one["kind"] for one in data}


def test_addresses_are_allowed_by_flag_and_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is refused unless somebody says otherwise; a wrong network is a usage error."""
    file = write_manifests(tmp_path / "m.yaml", model(baseUrl="http://127.0.0.1:8000/v1"))
    assert run_cli("check", file).code == Exit.REFUSED
    assert run_cli("check", file, "--allow-address", "127.0.0.0/8").code == Exit.FINE
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "10.0.0.0/8, 127.0.0.0/8")
    assert run_cli("check", file).code == Exit.FINE
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "everywhere")
    assert "$AIGATEWAY_ALLOW_ADDRESSES" in run_cli("check", file).err
    assert run_cli("check", file, "--allow-address", "127.0.0.1/8").code == Exit.USAGE


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("kind: VirtualModel\n", 1, "has no apiVersion or kind"),
        ("- 1\n", 1, "is no Kubernetes object"),
        ("apiVersion: ai-gateway.io/v1\nkind: VirtualModel\n", 1, "apiVersion ai-gateway.io/v1 is not known"),
        ("apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModels\n", 1, "kind VirtualModels is not known"),
        ("apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nspec: {}\n", 1, "metadata: is missing"),
        (
            "apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nmetadata:\n  name: Chat_v2\n",
            4,
            "metadata.name: is not a name",
        ),
        ("apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nmetadata:\n  name:\n", 4, "metadata.name: is missing"),
        ("apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nmetadata:\n  name: n\n", 4, "Put it in quotes."),
        (
            "apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nmetadata:\n  name: a\n  namespace: a.b\n",
            5,
            "metadata.namespace: is not a name",
        ),
        (
            "apiVersion: ai-gateway.io/v1alpha1\nkind: GatewayConfig\nmetadata: {name: a}\nspecs: {}\n",
            4,
            "specs: is no key of a GatewayConfig",
        ),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  k: '%'\n", 5, "data.k: is not base64"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  k: yes\n", 5, "stringData.k: is not text"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: []\n", 4, "stringData: is no mapping"),
        ("a: 1\na: 2\n", 2, "a: is there twice, on lines 1 and 2"),
        ("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n", 4, "metadata: is missing"),
    ],
)
def test_object_that_no_api_server_would_take_is_an_error(write: Write, text: str, line: int, words: str) -> None:
    """What can be said of an object before its spec, with its line."""
    file = write(text)
    checked = run_cli("check", file)
    assert checked.code == Exit.REFUSED
    assert checked.out.startswith(f"{file}:{line}: "), checked.out
    assert words in checked.out


def test_lists_are_looked_into_with_the_lines_of_their_items(write: Write) -> None:
    """`kubectl get -o yaml` writes a List; a violation in it is pointed at like any other."""
    items = "\n".join(f"  {line}" for line in BROKEN.splitlines()).replace("  apiVersion", "- apiVersion", 1)
    checked = run_cli("check", write(f"apiVersion: v1\nkind: List\nitems:\n{items}\n"))
    assert "m.yaml:10: VirtualModel/chat: spec.current" in checked.out


def test_same_object_twice_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    """Which of two would win depends on the order of the apply; another namespace is another object."""
    elsewhere = model()
    elsewhere["metadata"]["namespace"] = "other"
    file = write_manifests(tmp_path / "m.yaml", model(), elsewhere, model())
    checked = run_cli("check", file)
    doubles = [line for line in checked.out.splitlines() if "already" in line]
    assert len(doubles) == 1
    assert f"is in namespace 'default' already: {file}:1. Remove or rename one." in doubles[0]


def test_folders_files_and_standard_input_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `kubectl apply -f` does: a folder without those inside it unless -R says so; `-` is standard input."""
    (tmp_path / "inner").mkdir()
    write_manifests(tmp_path / "a.yaml", model("a"))
    write_manifests(tmp_path / "inner" / "b.yml", model("b"))
    (tmp_path / "c.json").write_text(json.dumps(model("c")))
    (tmp_path / "notes.txt").write_text("not: [yaml")
    assert run_cli("check", str(tmp_path)).out.splitlines()[-1].startswith("2 VirtualModels checked")
    assert run_cli("check", str(tmp_path), "-R").out.splitlines()[-1].startswith("3 VirtualModels checked")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BROKEN.encode())))
    assert "-:7: VirtualModel/chat: spec.current" in run_cli("check", "-").out


def test_files_that_cannot_be_read_are_errors_beside_the_others(tmp_path: Path) -> None:
    """One broken file does not hide what is wrong in the next."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "m.yaml").write_text(BROKEN)
    names = ("missing.yaml", "empty", "latin.yaml", "m.yaml")
    checked = run_cli("check", *(str(tmp_path / name) for name in names))
    assert checked.code == Exit.REFUSED
    for words in ("missing.yaml: cannot be read", "empty: holds no manifest", "latin.yaml:2: is not UTF-8", "m.yaml:7: "):
        assert words in checked.out


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_number_of_five_thousand_digits_is_a_violation_with_its_place(suffix: str, tmp_path: Path) -> None:
    """Python refuses to read one by an error of its own; people get the rule."""
    manifest = model(backends=[{"name": "a", "baseUrl": "https://a.example.com", "model": "m", "parameters": {"seed": 7}}])
    text = json.dumps({**manifest, "spec": {**manifest["spec"], "current": "a"}}).replace('"seed": 7', '"seed": ' + "9" * 5000)
    (tmp_path / f"m.{suffix}").write_text(text)
    checked = run_cli("check", str(tmp_path / f"m.{suffix}"))
    assert (checked.code, checked.err) == (Exit.REFUSED, "")
    assert "spec.backends[0].parameters.seed" in checked.out


def test_values_of_secrets_are_never_printed(tmp_path: Path) -> None:
    """Neither for people nor for programs, whatever is wrong."""
    bad = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"proxy": "sk-very-secret"}}
    file = write_manifests(tmp_path / "m.yaml", bad, bad, gateway(), model())
    for output in ((), ("-o", "json"), ("-o", "yaml")):
        checked = run_cli("check", file, *output)
        assert "sk-very-secret" not in checked.out + checked.err


def test_key_that_kubectl_reads_as_a_truth_value_is_a_warning(write: Write) -> None:
    """`n` is a parameter of OpenAI's API and, without quotes, false to kubectl: legal, and hardly meant."""
    checked = run_cli(
        "check", write(BROKEN.replace("stream: true", "n: 2").replace("huge", "small").replace("http:", "https:"))
    )
    warnings = [line for line in checked.out.splitlines() if ": warning: " in line]
    assert len(warnings) == 1
    assert "m.yaml:14: warning: spec.backends[0].parameters.n: the key n is read as 'false'" in warnings[0]


@pytest.mark.parametrize("number", ["99999999999999999999", "1e400", "-.inf"])
def test_number_that_json_cannot_carry_is_refused_and_no_crash(write: Write, number: str) -> None:
    """What no JSON encoder takes ends as a fault with its line."""
    checked = run_cli("check", write(BROKEN.replace("stream: true", f"top_p: {number}")))
    assert checked.code == Exit.REFUSED
    assert "m.yaml:14: " in checked.out


@pytest.mark.parametrize("indented", [False, True], ids=["alone", "in a List"])
def test_what_cannot_be_read_hides_nothing_else(write: Write, *, indented: bool) -> None:
    """Faults come all at once, also those of an object with a value that JSON cannot say or a key that stands twice."""
    text = (
        "apiVersion: ai-gateway.io/v1alpha1\nkind: VirtualModel\nmetadata: {name: chat, name: chat}\nspec:\n  use: 'true'\n"
        "  current: big\n  current: .nan\n  backends:\n  - {name: small, model: x, parameters: {temperature: .nan}}\n"
    )
    if indented:
        text = "apiVersion: v1\nkind: List\nitems:\n- " + text.replace("\n", "\n  ")
    checked = run_cli("check", write(text))
    assert checked.code == Exit.REFUSED
    assert checked.out.count("is there twice") == 2
    assert "parameters.temperature: is not a finite number" in checked.out
    assert "VirtualModel/chat: spec.use: must be true or false" in checked.out
    assert "missing required fields: gatewayRef, proxyKeySecretRef [" in checked.out
    assert "names no backend" not in checked.out, "of what could not be read nothing more is known"
    assert checked.out.endswith("1 VirtualModel checked: 7 errors.\n")


def test_an_object_that_cannot_be_read_whole_is_rendered_nowhere(write: Write) -> None:
    """What stands for a value is for looking at other faults alone."""
    rendered = run_cli("render", write(manifest_with_nan()))
    assert rendered.code == Exit.REFUSED
    assert (rendered.out, "is not a finite number" in rendered.err) == ("", True)


def manifest_with_nan() -> str:
    """Return a gateway that is sound but for one value."""
    head = "apiVersion: ai-gateway.io/v1alpha1\nkind: GatewayConfig\nmetadata: {name: main, namespace: ai}\n"
    return head + "spec: {webSearch: {provider: x, baseUrl: 'https://s.example.com', options: {n: .nan}}}\n"
