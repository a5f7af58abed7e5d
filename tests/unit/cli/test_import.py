"""`aigateway import`: what goes in comes out again, but for what the report says; nothing is lost without a line."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigateway_operator.cli.exits import Exit
from tests.cli_suite import Result, run_cli

CONFIG = Path(__file__).resolve().parents[2] / "data" / "config.yml"


def import_text(tmp_path: Path, text: str, *flags: str) -> Result:
    """Import a configuration given as text."""
    (tmp_path / "config.yml").write_text(text)
    return run_cli("import", str(tmp_path / "config.yml"), *flags)


def objects_of(result: Result) -> dict[tuple[str, str], Any]:
    """Return the printed manifests by kind and name."""
    found = [obj for obj in yaml.safe_load_all(result.out) if obj]
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in found}


def round_trip(tmp_path: Path, result: Result) -> dict[str, Any]:
    """Check and render imported manifests and put the secrets back, as a program with one plain file would see them."""
    file = tmp_path / "imported.yaml"
    file.write_text(result.out)
    checked = run_cli("check", str(file), "--strict")
    assert checked.code == Exit.FINE, checked.out
    assert run_cli("render", str(file), "-o", str(tmp_path / "out"), "--with-secrets").code == Exit.FINE
    folder = tmp_path / "out" / "default" / "main"
    resolved: dict[str, Any] = resolve(json.loads((folder / "config" / "config.yml").read_text()), folder / "credentials")
    return resolved


def resolve(value: Any, credentials: Path) -> Any:
    """Replace each `*_ref` by its value and spread parameters into their backend; nulls are as good as absent."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key.endswith("_ref"):
            if inner is not None:
                found[key.removesuffix("_ref")] = (credentials / inner).read_text()
        elif key == "parameters":
            found |= inner
        elif inner is not None:
            found[key] = resolve(inner, credentials)
    return found


def without_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what rendering adds to the sample: defaults that a plain configuration may leave unsaid."""
    del config["storage"]["mongodb"]["auth_source"]
    del config["web_search"]["options"]
    for stream in config["log"].values():
        del stream["storage"]["sinks"]
    return config


def test_sample_configuration_survives_import_check_and_render(tmp_path: Path) -> None:
    """Every value is there again, keys and passwords too; what differs is exactly what the report names."""
    imported = run_cli("import", str(CONFIG))
    assert imported.code == Exit.FINE
    expected = yaml.safe_load(CONFIG.read_text())
    expected["log"]["system"]["retention"] = 30
    assert without_defaults(round_trip(tmp_path, imported)) == expected
    *report, summary = imported.err.splitlines()
    assert [line.split(": ")[1:3] for line in report] == [
        ["renamed", 'ai-gateway.virtual_models["org/Chat_v2.1"]'],
        ["changed", "log.system.retention"],
    ]
    assert report[0].startswith(f"{CONFIG}:23: ")
    assert report[1].startswith(f"{CONFIG}:30: ")
    assert summary == "1 GatewayConfig, 2 VirtualModels, 3 Secrets written; 1 changed, 1 renamed, 0 refused."


def test_keys_end_in_secrets_and_nowhere_else(tmp_path: Path) -> None:
    """No resource holds a key, and equal keys are kept once."""
    text = CONFIG.read_text().replace("sk-big", "sk-small")
    objects = objects_of(import_text(tmp_path, text))
    others = json.dumps([obj for (kind, _), obj in objects.items() if kind != "Secret"])
    assert not any(secret in others for secret in ("sk-small", "demo1-key", "demo2-key", "mongo-pw"))
    assert objects["Secret", "main-backends"]["stringData"] == {"demo1.small": "sk-small"}
    backends = objects["VirtualModel", "demo1"]["spec"]["backends"]
    assert [backend["apiKeySecretRef"]["key"] for backend in backends] == ["demo1.small", "demo1.small"]


def test_folder_holds_a_file_an_object_and_secrets_apart(tmp_path: Path) -> None:
    """Manifests can go to git, Secrets cannot: another folder, readable by their owner alone; nothing is overwritten."""
    out = tmp_path / "out"
    done = run_cli("import", str(CONFIG), "--output-dir", str(out), "--name", "edge", "-n", "ai")
    assert (done.code, done.out) == (Exit.FINE, "")
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.yaml"))
    assert names == [
        "gatewayconfig-edge.yaml",
        "secrets/secret-edge-backends.yaml",
        "secrets/secret-edge-callers.yaml",
        "secrets/secret-edge-storage.yaml",
        "virtualmodel-demo1.yaml",
        "virtualmodel-org-chat-v2.1.yaml",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out / "secrets").iterdir()} == {0o600}
    assert yaml.safe_load((out / "virtualmodel-demo1.yaml").read_text())["metadata"] == {"name": "demo1", "namespace": "ai"}
    again = run_cli("import", str(CONFIG), "--output-dir", str(out), "--name", "edge")
    assert again.code == Exit.USAGE
    assert "would be overwritten" in again.err
    assert run_cli("import", str(CONFIG), "--output-dir", str(out), "--name", "edge", "--force").code == Exit.FINE
    assert run_cli("check", str(out), "-R", "--strict").code == Exit.FINE


MODEL = """\
ai-gateway:
  virtual_models:
    m:
      use: true
      current: a
      proxy_key: caller
      a: {model: x, base_url: "https://api.example.com/v1"%s}
"""


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("app: {port: 8000, colour: red}\n", "app.colour", "is not known and was left out"),
        ("apps: {}\n", "apps", "is not known and was left out. Known here: app, storage"),
        ("app: 3\n", "app", "is no mapping"),
        ("app: {port: 99999}\n", "app.port", "GatewayConfig 'main' was not written"),
        ("storage: {mongodb: {host: m, password: 5}}\n", "storage.mongodb.password", "is not text and was left out"),
        ("storage: {redis: {host: r, password_ref: _0123}}\n", "storage.redis.password_ref", "cannot be read back"),
        ("log: {system: {retention: a month}}\n", "log.system.retention", "GatewayConfig 'main' was not written"),
        ("log: {system: {storage: {path: /var/log}}}\n", "log.system.storage.path", "GatewayConfig 'main' was not written"),
        (
            "web_search: {provider: s, base_url: 'http://s', options: {api_key: x}}\n",
            "web_search.options.api_key",
            "was left out",
        ),
        ("ai-gateway: {virtual_models: {m: 1}}\n", "ai-gateway.virtual_models.m", "is no mapping"),
        (MODEL % ", stream: true", "ai-gateway.virtual_models.m.a.stream", "was left out"),
        (MODEL % ", parameters: {x: 1}, x: 2", "ai-gateway.virtual_models.m.a.parameters.x", "with another value"),
        (
            MODEL.replace("current: a", "current: b") % "",
            "ai-gateway.virtual_models.m.current",
            "VirtualModel 'm' was not written",
        ),
        (MODEL.replace("proxy_key: caller", "proxy_key: ''") % "", "ai-gateway.virtual_models.m", "proxyKeySecretRef"),
        (MODEL.replace("https", "http") % "", "ai-gateway.virtual_models.m.a.base_url", "VirtualModel 'm' was not written"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_with_its_place(tmp_path: Path, text: str, path: str, words: str) -> None:
    """Each with line, place and reason; what is written passes the check all the same."""
    done = import_text(tmp_path, text)
    assert done.code == Exit.REFUSED
    refused = [line for line in done.err.splitlines() if f": refused: {path}: " in line]
    assert refused, done.err
    assert words in refused[0]
    (tmp_path / "imported.yaml").write_text(done.out)
    assert " error" not in run_cli("check", str(tmp_path / "imported.yaml")).out


def test_everything_refused_is_told_at_once(tmp_path: Path) -> None:
    """A user mends the lot; the objects that are fine are written."""
    text = f"app: {{port: 0, host: ''}}\n{MODEL % ', n: 1, stream: true'}    bad: {{use: true}}\n"
    done = import_text(tmp_path, text)
    assert set(objects_of(done)) == {("Secret", "main-callers"), ("VirtualModel", "m")}
    for path in ("app.port", "app.host", "ai-gateway.virtual_models.m.a.stream", "ai-gateway.virtual_models.bad"):
        assert f" refused: {path}: " in done.err
    assert objects_of(done)["VirtualModel", "m"]["spec"]["backends"][0]["parameters"] == {"n": 1}


@pytest.mark.parametrize(
    ("given", "days"),
    [("30", 30), ("'30'", 30), ("'30 days'", 30), ("7d", 7), ("1 day", 1), ("'2 weeks'", 14), ("90 DAYS", 90)],
)
def test_retention_becomes_days(tmp_path: Path, given: str, days: int) -> None:
    """Words that people write; every change is reported."""
    done = import_text(tmp_path, f"log: {{operation: {{retention: {given}}}}}\n")
    assert objects_of(done)["GatewayConfig", "main"]["spec"]["log"]["operation"]["retentionDays"] == days
    assert ("changed: log.operation.retention" in done.err) == (given != "30")


def test_names_that_kubernetes_does_not_take_are_made_into_others(tmp_path: Path) -> None:
    """Models and backends keep their meaning: spec.modelName, `current` follows its backend, and no two collide."""
    text = """\
ai-gateway:
  virtual_models:
    gpt-4: &m {use: true, current: GPT_4o, proxy_key: k, GPT_4o: &b {model: x, base_url: 'https://e.example.com'}, gpt-4o: *b}
    GPT_4: *m
    "日本": *m
"""
    done = import_text(tmp_path, text)
    assert done.code == Exit.FINE, done.err
    objects = objects_of(done)
    models = {name: obj["spec"] for (kind, name), obj in objects.items() if kind == "VirtualModel"}
    assert {name: spec.get("modelName") for name, spec in models.items()} == {
        "gpt-4": None,
        "gpt-4-2": "GPT_4",
        "model": "日本",
    }
    assert [backend["name"] for backend in models["gpt-4"]["backends"]] == ["gpt-4o-2", "gpt-4o"]
    assert models["gpt-4"]["current"] == "gpt-4o-2"
    assert done.err.count(" renamed: ") == 5


def test_references_that_stand_there_already_are_read_back(tmp_path: Path) -> None:
    """A resolved tree of a pod comes back as the references it was made from, with the values in those Secrets."""
    text = (MODEL % ', api_key_ref: openai.api-key, api_key: "sk-1"').replace("proxy_key: caller", "proxy_key_ref: callers.m.x")
    objects = objects_of(import_text(tmp_path, text))
    spec = objects["VirtualModel", "m"]["spec"]
    assert spec["proxyKeySecretRef"] == {"name": "callers", "key": "m.x"}
    assert spec["backends"][0]["apiKeySecretRef"] == {"name": "openai", "key": "api-key"}
    assert [key for key in objects if key[0] == "Secret"] == [("Secret", "openai")]
    assert objects["Secret", "openai"]["stringData"] == {"api-key": "sk-1"}


def test_stores_with_tls_and_keys_of_web_search_are_taken_over(tmp_path: Path) -> None:
    """What a resolved tree of a pod holds beyond the sample."""
    text = """\
storage:
  qdrant: {host: q, port: '6334', collection: c, api_key: qk, tls: {enabled: true, ca_ref: qdrant-ca.ca.crt}}
  redis: null
web_search: {provider: tavily, base_url: 'https://api.tavily.com', api_key: wk, options: {max_results: 3}, api_key_ref: null}
"""
    done = import_text(tmp_path, text)
    assert done.code == Exit.FINE, done.err
    assert "changed: storage.qdrant.port: is text; taken as the number 6334." in done.err
    spec = objects_of(done)["GatewayConfig", "main"]["spec"]
    assert spec["storage"] == {
        "qdrant": {
            "host": "q",
            "port": 6334,
            "collection": "c",
            "apiKeySecretRef": {"name": "main-storage", "key": "qdrant-api-key"},
            "tls": {"enabled": True, "caSecretRef": {"name": "qdrant-ca", "key": "ca.crt"}},
        }
    }
    assert spec["webSearch"]["apiKeySecretRef"] == {"name": "main-storage", "key": "web-search-api-key"}
    assert spec["webSearch"]["options"] == {"max_results": 3}


def test_reference_with_another_value_gets_a_secret_of_its_own(tmp_path: Path) -> None:
    """Two values under one reference cannot both be right: none is lost, and the change is told."""
    one = "{use: true, current: a, proxy_key: %s, proxy_key_ref: callers.x, a: {model: x, base_url: 'https://e.example.com'}}"
    done = import_text(tmp_path, f"ai-gateway: {{virtual_models: {{m: {one % 'k1'}, n: {one % 'k2'}}}}}\n")
    assert done.code == Exit.FINE, done.err
    objects = objects_of(done)
    assert objects["Secret", "callers"]["stringData"] == {"x": "k1"}
    assert objects["Secret", "main-callers"]["stringData"] == {"n": "k2"}
    assert objects["VirtualModel", "n"]["spec"]["proxyKeySecretRef"] == {"name": "main-callers", "key": "n"}
    assert "changed: ai-gateway.virtual_models.n.proxy_key_ref" in done.err


def test_secrets_are_hidden_on_a_terminal_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe to kubectl gets them; somebody's shoulder does not."""
    monkeypatch.setattr("aigateway_operator.cli.import_config.on_terminal", lambda stream: True)
    hidden = run_cli("import", str(CONFIG))
    assert "sk-small" not in hidden.out
    assert "<redacted>" in hidden.out
    assert "sk-small" in run_cli("import", str(CONFIG), "--with-secrets").out


def test_report_is_data_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o json` is one List that kubectl takes, with the report beside the items; `-` is standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(CONFIG.read_text()))
    data = run_cli("import", "-", "-o", "json").data
    assert (data["kind"], len(data["items"])) == ("List", 6)
    assert [one["what"] for one in data["report"]] == ["changed", "renamed"]


@pytest.mark.parametrize("name", ["Main", "a" * 52, "-", "a.b", ""])
def test_name_that_generated_objects_cannot_have_is_a_usage_error(name: str) -> None:
    """Names of Secrets and the gateway are made from it."""
    assert run_cli("import", str(CONFIG), f"--name={name}").code == Exit.USAGE


def test_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """No traceback for a typo, nor for a file in another encoding."""
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
    assert "cannot be read" in run_cli("import", str(tmp_path / "missing.yml")).err
    assert "is not UTF-8" in run_cli("import", str(tmp_path / "latin.yml")).err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: *nowhere\n", "config.yml:1: is not YAML: found an undefined alias"),
        ("a: [\n", "config.yml:2: is not YAML"),
        ("- 1\n", "holds no single mapping"),
        ("a: 1\n---\nb: 1\n", "holds no single mapping"),
        ("apiVersion: v1\nkind: Secret\n", "is a Kubernetes manifest already"),
    ],
)
def test_file_that_is_no_configuration_is_a_usage_error(tmp_path: Path, text: str, words: str) -> None:
    """Nothing is written, and the text says what was expected."""
    done = import_text(tmp_path, text)
    assert (done.code, done.out) == (Exit.USAGE, "")
    assert words in done.err


def test_many_keys_are_spread_over_secrets_that_fit(tmp_path: Path) -> None:
    """A Secret has a limit of 1 MiB; nobody should learn that from a refused apply."""
    models = "".join(f"    m{n}: {{use: true, current: a, proxy_key: '{n:0>9000}', a: {{model: x}}}}\n" for n in range(100))
    objects = objects_of(import_text(tmp_path, f"ai-gateway:\n  virtual_models:\n{models}"))
    secrets = {name: obj["stringData"] for (kind, name), obj in objects.items() if kind == "Secret"}
    assert set(secrets) == {"main-callers", "main-callers-2"}
    assert sum(map(len, secrets.values())) == 100
    assert all(sum(map(len, values.values())) < 750_000 for values in secrets.values())


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn", "Co"]), min_size=1, max_size=20)
parameters = st.dictionaries(
    st.sampled_from(["temperature", "top_p", "n", "stop", "yes", "1", "logit bias"]),
    st.booleans() | st.integers(-100, 100) | st.floats(-9, 9, allow_subnormal=False) | texts | st.lists(texts, max_size=2),
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    models=st.dictionaries(
        st.text(st.sampled_from("aB1-._/:é"), min_size=1, max_size=12),
        st.tuples(texts, texts, parameters, st.booleans()),
        max_size=4,
    )
)
def test_any_models_survive_import_check_and_render(tmp_path: Path, models: dict[str, Any]) -> None:
    """Whatever names, keys and parameters: each comes back under its public name with its values."""
    entries = {
        name: {
            "use": use,
            "current": "one",
            "proxy_key": caller,
            "one": {"model": "x", "base_url": "https://api.example.com/v1", "api_key": key, **given_parameters},
        }
        for name, (caller, key, given_parameters, use) in models.items()
    }
    imported = import_text(tmp_path, json.dumps({"ai-gateway": {"virtual_models": entries}}))
    assert imported.code == Exit.FINE, imported.err
    assert round_trip(tmp_path, imported)["ai-gateway"]["virtual_models"] == entries
