"""Values of the chart: each is documented, typed and does something; wrong ones are refused by name, all at once."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from hack.chart.files import files
from hack.chart.values import Undocumented, Value, read_values
from tests.chart.rendering import CHART, KUBE_VERSION, PRESETS, ROOT, Values, at, helm, merged, preset, refusal, template
from tests.chart.test_chart_templates import CERT_MANAGER, MATRIX, SERVES

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
OTHER: Final[dict[str, Any]] = {
    "fullnameOverride": "gw",
    "crds.annotations": {"a": "b"},
    "imagePullSecrets": [{"name": "pull"}],
    "image.digest": f"sha256:{'a' * 64}",
    "gateway.image.digest": f"sha256:{'b' * 64}",
    "watch.namespaces": ["aigateway-system"],
    "watch.namespaceSelector": {"matchLabels": {"team": "a"}},
    "allowAddresses": ["10.0.0.0/8"],
    "gateway.config": {"app": {"port": 8001}},
    "gateway.models": {"chat": {"use": False}},
    "gateway.networkPolicy.egress": [{}],
    "networkPolicy.extraEgress": [{}],
    "webhook.certManager.issuerRef": {"name": "ours"},
    "logs.mongodb.existingSecret": "other",
    "logs.volume.size": "3Gi",
    "gateway.logs.size": "3Gi",
    "metrics.serviceMonitor.interval": "31s",
    "extraManifests": ["apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: more\n"],
}
"""Another value, where one cannot be made from the schema."""
NEEDS: Final[dict[str, Values]] = {
    "webhook.certManager.issuerRef": CERT_MANAGER,
    "watch.namespaces": CERT_MANAGER,
    "watch.secretSelector": {},
    "crds.keep": {"crds": {"install": True}},
    "crds.annotations": {"crds": {"install": True}},
    "logs.volume.storageClassName": {"logs": {"volume": {"persistent": True}}},
    "logs.volume.whenDeleted": {"logs": {"volume": {"persistent": True}}},
    "webhook.serviceAccount.name": {},
    "gateway.keep": {"gateway": {"apply": "manifests"}},
}
"""Values that do something only beside others."""
BASE: Final = merged(
    SERVES,
    {
        "crds": {"install": False},
        "controller": {"replicas": 2},
        "logs": {"files": {"enabled": True}, "mongodb": {"existingSecret": "logs"}},
        "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
        "gateway": {"logs": {"files": True}, "adminKey": {"existingSecret": "admin"}, "metrics": {"podMonitor": True}},
    },
)
"""Everything on, but for CRDs, which take long to render."""


def test_files_made_of_the_values_are_up_to_date() -> None:
    """Schema, page and copies say what values.yaml and config/monitoring say."""
    differing = [name for name, text in files().items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert differing == [], "run `python -m hack.chart`"


def test_a_value_without_a_comment_is_told_by_its_name(tmp_path: Path) -> None:
    """And so is a comment without a value."""
    file = tmp_path / "values.yaml"
    file.write_text("# -- Told.\na: 1\nb:\n  c: 2\n# -- Of a section.\nd:\n  # -- Told.\n  e: 1\n")
    with pytest.raises(Undocumented, match=r"\['b.c'\]"):
        read_values(file)


@pytest.mark.parametrize("name", ["", *PRESETS])
def test_lint_is_strict_and_clean(name: str) -> None:
    """With the defaults and each preset."""
    more = ("-f", str(preset(name))) if name else ()
    done = helm("lint", "--strict", "--quiet", str(CHART), "--kube-version", KUBE_VERSION, *more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_value_is_read() -> None:
    """A value that no template names is a promise that is not kept."""
    sources = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    named = set(re.findall(r"\w+", sources))
    assert [value.dotted for value in read_values() if value.path[-1] not in named] == []


@pytest.mark.slow
def test_every_value_changes_what_is_rendered() -> None:
    """The same, but for sure: a rendering a value."""
    values = read_values()
    with ThreadPoolExecutor(2) as pool:
        bases = dict(zip(NEEDS, pool.map(lambda more: template(merged(BASE, more)), NEEDS.values()), strict=True))
        plain = template(BASE)
        changed = list(pool.map(_changed, values))
    idle = [value.dotted for value, text in zip(values, changed, strict=True) if text == bases.get(value.dotted, plain)]
    assert idle == []


def _changed(value: Value) -> str:
    return template(merged(BASE, NEEDS.get(value.dotted, {}), at(value.dotted, _another(value))))


def _another(value: Value) -> Any:
    """Return a value that the schema accepts and the base does not have."""
    schema = SCHEMA
    for step in value.path:
        schema = schema["properties"][step]
    present: Any = BASE
    for step in value.path:
        present = present.get(step, value.default) if isinstance(present, dict) else value.default
    if value.dotted in OTHER:
        return OTHER[value.dotted]
    if "enum" in schema:
        return next(one for one in schema["enum"] if one != present)
    if isinstance(present, bool):
        return not present
    if isinstance(present, int):
        return present + 1
    if isinstance(present, list):
        return [1234] if schema["items"].get("type") == "integer" else [{"name": "more"}]
    if isinstance(present, dict):
        return {"requests": {"cpu": "11m"}} if value.path[-1] == "resources" else {"more": "yes"}
    return f"{present}x" if present else "more"


WRONG: Final[tuple[tuple[str, Any, str], ...]] = (
    ("contoller", {"replicas": 2}, "contoller"),
    ("controller.replica", 2, "replica"),
    ("controller.replicas", "2", "/controller/replicas"),
    ("controller.replicas", -1, "/controller/replicas"),
    ("controller.resources.request", {}, "request"),
    ("controller.resources.limits", {"memory": "lots"}, "/controller/resources/limits/memory"),
    ("controller.extraEnv", [{"name": "A", "value": 1}], "/controller/extraEnv/0/value"),
    ("controller.podLabels", {"a": 1}, "/controller/podLabels/a"),
    ("image.repository", "registry.example.com:5000/aigateway", "/image/repository"),
    ("image.registry", "https://registry.example.com", "/image/registry"),
    ("image.digest", "sha256:1", "/image/digest"),
    ("image.pullPolicy", "always", "/image/pullPolicy"),
    ("imagePullSecrets", ["pull"], "/imagePullSecrets/0"),
    ("crds.install", "yes", "/crds/install"),
    ("watch.namespaces", "a,b", "/watch/namespaces"),
    ("watch.namespaces", ["A_B"], "/watch/namespaces/0"),
    ("allowAddresses", ["localhost"], "/allowAddresses/0"),
    ("webhook.mode", "off", "/webhook/mode"),
    ("webhook.certificates", "certmanager", "/webhook/certificates"),
    ("webhook.failurePolicy", "fail", "/webhook/failurePolicy"),
    ("webhook.timeoutSeconds", 31, "/webhook/timeoutSeconds"),
    ("webhook.port", 0, "/webhook/port"),
    ("webhook.podDisruptionBudget.maxUnavailable", "all", "/webhook/podDisruptionBudget/maxUnavailable"),
    ("logs.level", "info", "/logs/level"),
    ("logs.volume.size", "big", "/logs/volume/size"),
    ("logs.mongodb.uri", "mongodb://user:password@host", "uri"),
    ("metrics.serviceMonitor.interval", "often", "/metrics/serviceMonitor/interval"),
    ("networkPolicy.storePorts", [], "/networkPolicy/storePorts"),
    ("networkPolicy.storePorts", [27017, 27017], "/networkPolicy/storePorts"),
    ("gateway.name", "Main", "/gateway/name"),
    ("gateway.apply", "hook", "/gateway/apply"),
    ("gateway.config", {"app": {"prot": 1}}, "prot"),
    ("gateway.config", {"app": {"port": 70000}}, "/gateway/config/app/port"),
    ("gateway.config", {"log": {"system": {"level": "LOUD"}}}, "/gateway/config/log/system/level"),
    ("gateway.models", {"Chat": {}}, "Chat"),
    ("gateway.models", {"chat": {"gatewayRef": {"name": "x"}}}, "gatewayRef"),
    ("gateway.models", {"chat": {"use": True}}, "backends"),
    ("gateway.models", {"chat": {"backends": [{"name": "a", "apiKey": "sk-1"}]}}, "apiKey"),
)


@pytest.mark.parametrize(("path", "value", "named"), WRONG, ids=[f"{path}={json.dumps(value)}" for path, value, _ in WRONG])
def test_a_wrong_value_is_refused_by_name(path: str, value: Any, named: str) -> None:
    """By the schema that Helm reads; the next test has Helm read it."""
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(at(path, value)))
    texts = [
        f"/{'/'.join(map(str, inner.absolute_path))} {inner.message}" for error in errors for inner in (error, *error.context)
    ]
    assert [text for text in texts if named in text], texts


def test_helm_refuses_wrong_values_by_name_and_all_at_once() -> None:
    """A misspelt section, a wrong type and a key no gateway knows, in one answer."""
    said = refusal(merged({"contoller": {}}, at("controller.replicas", "x"), at("gateway.config", {"ap": {}})))
    assert [text in said for text in ("'contoller' not allowed", "/controller/replicas", "'ap' not allowed")] == [True] * 3


def test_values_that_contradict_each_other_are_refused_with_a_remedy_all_at_once() -> None:
    """What a schema cannot say."""
    said = refusal(
        {
            "watch": {"namespaces": ["a"], "namespaceSelector": {"matchLabels": {"team": "a"}}},
            "webhook": {"port": 8080, "terminationGracePeriodSeconds": 5, "hostNetwork": True, "mode": "controller"},
            **SERVES,
        }
    )
    for text in (
        "watch.namespaces: with Roles only",
        "gateway.enabled: the operator does not work in namespace aigateway-system",
        "watch.namespaces and watch.namespaceSelector: both",
        "webhook.hostNetwork: needs webhook.mode: separate",
        "webhook.terminationGracePeriodSeconds: 5 must be more than webhook.drainSeconds, 5",
        "webhook.port and metrics.port: both are 8080",
    ):
        assert text in said
    assert "nothing would be installed" in refusal({"operator": {"enabled": False}, "crds": {"install": False}})


def test_defaults_and_combinations_hold_to_the_schema() -> None:
    """Helm checks defaults and values together; editors check a values file alone."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)  # and every pattern is one that Python knows too
    for name, values in {"defaults": yaml.safe_load((CHART / "values.yaml").read_text()), **MATRIX}.items():
        assert [error.message for error in validator.iter_errors(values)] == [], name


def test_an_older_cluster_is_refused() -> None:
    """CRDs and policies need Kubernetes 1.32."""
    done = helm("template", "aigateway", str(CHART), "--kube-version", "1.31.0")
    assert done.returncode != 0
    assert ">=1.32.0-0" in done.stderr


def test_notes_tell_the_next_command(tmp_path: Path) -> None:
    """For an operator alone, a gateway, and what was left out."""
    chart = tmp_path / "aigateway"
    shutil.copytree(CHART, chart)
    # `helm template` leaves notes out, and `helm install --dry-run` needs a cluster.
    (chart / "templates" / "shown.yaml").write_text('notes: |\n{{ include "aigateway/templates/NOTES.txt" . | indent 2 }}\n')
    for values, texts in (
        ({}, ("helm test aigateway", "kubectl apply -f examples/03-gateway/", "deployment/aigateway-operator")),
        (SERVES, ("kubectl get gwc,vmodel", "service/aigateway-gateway 8000:80")),
        ({"webhook": {"mode": "none"}, "crds": {"install": False}}, ("There is no webhook", "--server-side -f crds/")),
    ):
        notes = template(values, "--show-only", "templates/shown.yaml", chart=chart)
        assert [text for text in texts if text not in notes] == []
