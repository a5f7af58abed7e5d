"""What the chart renders, over a matrix of values, without a server: names, labels, references, variables, nothing secret."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from typing import Any, Final

import pytest
import yaml

from aigateway_gateway.settings import GatewaySettings
from aigateway_operator import __version__
from aigateway_operator.admission.webhook_configuration import Endpoint, webhook_configuration
from aigateway_operator.cli.mounting import deployment_patch
from aigateway_operator.settings import Settings
from tests.chart.rendering import CHART, NAMESPACE, PRESETS, ROOT, Object, Values, merged, one, pods, preset, render, template

SERVES: Final[Values] = {
    "gateway": {
        "enabled": True,
        "models": {
            "chat": {
                "use": True,
                "current": "small",
                "baseUrl": "https://api.example.com/v1",
                "proxyKeySecretRef": {"name": "callers", "key": "chat"},
                "backends": [{"name": "small", "model": "m"}],
            }
        },
    }
}
CERT_MANAGER: Final[Values] = {"webhook": {"certificates": "cert-manager"}}
MONGODB: Final[Values] = {"logs": {"mongodb": {"existingSecret": "logs"}}}
WEBHOOKS: Final[dict[str, Values]] = {
    "separate": {},
    "controller": {"webhook": {"mode": "controller"}},
    "none": {"webhook": {"mode": "none"}},
    "cert-manager": CERT_MANAGER,
    "cert-manager in the controller": {"webhook": {"mode": "controller", "certificates": "cert-manager"}},
}
LOGS: Final[dict[str, Values]] = {
    "": {},
    "mongodb": MONGODB,
    "volumes": merged(MONGODB, {"logs": {"volume": {"persistent": True}}}),
}
GATEWAYS: Final[dict[str, Values]] = {"": {}, "gateway": SERVES}
MATRIX: Final[dict[str, Values]] = {
    " ".join(filter(None, names)): merged(*parts)
    for (names, parts) in (
        (tuple(name for name, _ in chosen), tuple(part for _, part in chosen))
        for chosen in product(WEBHOOKS.items(), LOGS.items(), GATEWAYS.items())
    )
} | {
    "namespaces": merged(CERT_MANAGER, {"watch": {"namespaces": ["b", "a"], "secretSelector": "team=a"}}),
    "namespaces without webhook": {"watch": {"namespaces": [NAMESPACE]}, "webhook": {"mode": "none"}, **SERVES},
    "gateway alone": merged(SERVES, {"operator": {"enabled": False}, "crds": {"install": False}}),
    "gateway as manifests": merged(SERVES, {"gateway": {"apply": "manifests", "keep": False}}),
    "gateway in shards": merged(
        SERVES, {"gateway": {"config": {"delivery": {"shards": 3, "statusPort": 9081}}, "apiWatch": True}}
    ),
    "chosen namespaces": {"watch": {"namespaceSelector": {"matchLabels": {"team": "a"}}}},
    "no rights": merged(SERVES, {"rbac": {"create": False}, "controller": {"serviceAccount": {"create": False}}}),
    "no CRDs": {"crds": {"install": False}, "networkPolicy": {"enabled": False}, "test": {"enabled": False}},
    "issuer": merged(CERT_MANAGER, {"webhook": {"certManager": {"issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}}}),
    **{f"preset {name}": yaml.safe_load(preset(name).read_text()) for name in PRESETS},
}
"""30 combinations of where the webhook is, where logs go and whether there is a gateway; and what stands alone."""


@pytest.mark.parametrize("combination", MATRIX)
def test_every_combination_is_whole_restricted_and_set_up_rightly(combination: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test a combination, since it is rendered once: see the asserts below, each of which says its claim."""
    without_crds = {} if combination.startswith("preset") else {"crds": {"install": False}}  # they are tested below
    objects = render(merged(without_crds, MATRIX[combination]))
    _assert_whole(objects)
    _assert_labelled(objects)
    _assert_references(objects)
    _assert_selected(objects)
    _assert_restricted(objects)
    _assert_variables(objects)
    _assert_settings(objects, monkeypatch)


def _assert_whole(objects: list[Object]) -> None:
    """No object twice, and nothing secret in any."""
    keys = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    assert not [key for key in keys if key[0] == "Secret"]
    assert "caBundle" not in {word for obj in objects for word in _keys(obj) if obj["kind"] != "CustomResourceDefinition"}


def _assert_labelled(objects: list[Object]) -> None:
    """Everything carries the labels that Kubernetes recommends."""
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart", "app.kubernetes.io/managed-by"}
    ours = [obj for obj in objects if obj["kind"] not in {"GatewayConfig", "VirtualModel"}]
    assert [obj["metadata"]["name"] for obj in ours if not wanted <= obj["metadata"]["labels"].keys()] == []


def _assert_references(objects: list[Object]) -> None:
    """Assert that accounts, roles and ConfigMaps of the chart's own names are in it."""
    names = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    for where, pod in pods(objects):
        account = pod["spec"]["serviceAccountName"]
        assert account == "default" or ("ServiceAccount", account) in names, where
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names, where
    for binding in (obj for obj in objects if obj["kind"].endswith("Binding") and "roleRef" in obj):
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in names
    for hook in (obj for obj in objects if obj["kind"] == "ValidatingWebhookConfiguration"):
        assert ("Service", hook["webhooks"][0]["clientConfig"]["service"]["name"]) in names


def _assert_selected(objects: list[Object]) -> None:
    """Assert that everything that selects pods selects some, and that ports it names are theirs."""
    templates = [pod for _, pod in pods(objects)]
    for obj in objects:
        selector = {
            "Service": lambda spec: spec["selector"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
        }.get(obj["kind"])
        if selector is None:
            continue
        labels = selector(obj["spec"]).items()
        chosen = [pod for pod in templates if labels <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1, f"{obj['kind']}/{obj['metadata']['name']} selects {len(chosen)} workloads"
        ports = {port["name"] for port in chosen[0]["spec"]["containers"][0].get("ports", [])}
        named = {port for port in _named_ports(obj["spec"]) if isinstance(port, str)}
        assert named <= ports, obj["metadata"]["name"]


def _named_ports(spec: Object) -> list[Any]:
    return [
        *(port["targetPort"] for port in spec.get("ports", [])),
        *(port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]),
        *(endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])),
    ]


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []


def _assert_restricted(objects: list[Object]) -> None:
    """Pod Security `restricted`, a read-only root with a /tmp, requests and limits, and a token only where it is used."""
    for where, pod in pods(objects):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert isinstance(spec["automountServiceAccountToken"], bool), where
        assert spec["enableServiceLinks"] is False, where
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False), where
            assert rights["capabilities"] == {"drop": ["ALL"]}, where
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys(), where
            assert "cpu" not in container["resources"]["limits"], f"{where}: throttling delays edits"
            assert "memory" in container["resources"]["limits"], where
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == _volumes(spec, where), where
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], where


def _volumes(spec: Object, where: str) -> set[str]:
    claimed = {"logs"} if where.startswith("StatefulSet/") else set()
    return {volume["name"] for volume in spec["volumes"]} | claimed


def _assert_variables(objects: list[Object]) -> None:
    """A misspelt variable is ignored in silence, and one that stands twice is refused by server-side apply."""
    operator = {f"AIGATEWAY_{name.upper()}" for name in Settings.model_fields}
    gateway = {f"AIGATEWAY_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields} | {
        "AIGATEWAY_CONFIG_DIR",
        "AIGATEWAY_CREDENTIALS_DIR",
        "AIGATEWAY_WORKERS_DIR",
        "AIGATEWAY_ALLOW_ADDRESSES",
    }
    for where, pod in pods(objects):
        (container,) = pod["spec"]["containers"]
        names = [entry["name"] for entry in container["env"]]
        assert [name for name, count in Counter(names).items() if count > 1] == [], where
        assert set(names) <= (gateway if container["name"] == "gateway" else operator), where
        values = [entry["value"] for entry in container["env"] if "value" in entry]
        assert [value for value in values if not isinstance(value, str)] == [], where


def _assert_settings(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The program starts with what the chart gives it."""
    for _, pod in pods(objects):
        (container,) = pod["spec"]["containers"]
        with monkeypatch.context() as environment:
            for entry in container["env"]:
                environment.setenv(entry["name"], entry.get("value", "given"))
            GatewaySettings() if container["name"] == "gateway" else Settings()


def test_the_chart_is_of_the_programs_version() -> None:
    """Its images are those of the same release."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__


def test_images_name_no_host_and_any_registry_can_be_named() -> None:
    """Where images come from is the user's choice; digests decide over tags."""
    assert set(_images(render(SERVES))) == {"aigateway-operator:0.1.0", "aigateway-gateway:0.1.0"}
    digest = f"sha256:{'a' * 64}"
    image = {"registry": "registry.example.com/ai", "tag": "1.2"}
    values = merged(SERVES, {"image": image, "gateway": {"image": {"digest": digest}}})
    wanted = {"registry.example.com/ai/aigateway-operator:1.2", f"registry.example.com/ai/aigateway-gateway@{digest}"}
    assert set(_images(render(values))) == wanted


def _images(objects: list[Object]) -> list[str]:
    return [container["image"] for _, pod in pods(objects) for container in pod["spec"]["containers"]]


def test_webhook_configuration_is_the_one_that_the_program_prints() -> None:
    """But for labels: rules, conditions, policy, time-out, Service and path."""
    for values, namespaces in (({}, ()), (merged(CERT_MANAGER, {"watch": {"namespaces": ["b", "a"]}}), ("a", "b"))):
        found = one(render(values), "ValidatingWebhookConfiguration", "aigateway-operator")
        printed = webhook_configuration(Endpoint("aigateway-webhook", NAMESPACE), namespaces=namespaces)
        assert found["webhooks"] == printed["webhooks"]


def test_crds_are_those_of_the_repository_and_are_kept_unless_told_otherwise() -> None:
    """Going through Helm's YAML changes no number and no text."""
    policy = "helm.sh/resource-policy"
    for keep in (True, False):
        found = [obj for obj in render({"crds": {"keep": keep}}) if obj["kind"] == "CustomResourceDefinition"]
        assert len(found) == 2
        for crd in found:
            source = yaml.safe_load((ROOT / "crds" / f"{crd['spec']['names']['plural']}.yaml").read_text())
            assert crd["spec"] == source["spec"]
            assert (crd["metadata"].get("annotations") or {}).get(policy) == ("keep" if keep else None)


@pytest.mark.parametrize("shards", [1, 3])
def test_gateway_pods_mount_what_the_program_says(shards: int) -> None:
    """Volumes, mounts, variables, status port and labels are those of `aigateway mount`."""
    values = merged(SERVES, {"gateway": {"config": {"delivery": {"shards": shards, "statusPort": 9081}}}})
    objects = render(values)
    spec = one(objects, "Deployment", "aigateway-gateway")["spec"]["template"]
    config = yaml.safe_load(one(objects, "ConfigMap", "aigateway-gateway-manifests")["data"]["gateway.yaml"].split("---")[0])
    labels = config["spec"]["delivery"]["podSelector"]["matchLabels"]
    patch = deployment_patch("main", shards=shards, status_port=9081, labels=labels, container="gateway")
    wanted, (container,) = patch["spec"]["template"], spec["spec"]["containers"]
    (patched,) = wanted["spec"]["containers"]
    assert wanted["metadata"]["labels"].items() <= spec["metadata"]["labels"].items()
    for key, found in (("env", container), ("ports", container), ("volumeMounts", container)):
        assert [entry for entry in patched[key] if entry not in found[key]] == []
    assert [volume for volume in wanted["spec"]["volumes"] if volume not in spec["spec"]["volumes"]] == []


def test_a_selector_of_ones_own_is_left_alone() -> None:
    """Pods of another Deployment may read the gateway too."""
    selector = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    objects = render(merged(SERVES, {"gateway": {"config": {"delivery": {"podSelector": selector}}}}))
    text = one(objects, "ConfigMap", "aigateway-gateway-manifests")["data"]["gateway.yaml"]
    assert next(yaml.safe_load_all(text))["spec"]["delivery"]["podSelector"] == selector


def test_the_job_is_another_one_only_when_what_it_does_is() -> None:
    """Jobs cannot be changed; one that is replaced for nothing would run for nothing."""

    def job(*more: Values, release: str = "aigateway") -> str:
        names = [obj["metadata"]["name"] for obj in render(merged(SERVES, *more), release=release) if obj["kind"] == "Job"]
        (found,) = [name for name in names if "-apply-" in name]
        return str(found)

    assert job() == job({"controller": {"replicas": 2}})
    changes: list[Values] = [
        {"gateway": {"models": {"chat": {"use": False}}}},
        {"image": {"tag": "1.2"}},
        {"allowAddresses": ["10.0.0.0/8"]},
    ]
    assert len({job(), *map(job, changes)}) == 4
    assert max(map(len, (job(release="r" * 53), job()))) <= 63


def test_names_stay_legal_with_the_longest_release() -> None:
    """A Service's name has 63 characters at most."""
    for obj in render(SERVES, release="r" * 53):
        name = obj["metadata"]["name"]
        assert len(name) <= 63 or obj["kind"] == "CustomResourceDefinition"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name)


def test_two_releases_share_no_object_but_crds() -> None:
    """A second operator for other namespaces takes nothing from the first."""

    def keys(release: str, namespace: str) -> set[tuple[str, str, str]]:
        values = {"watch": {"namespaces": [namespace]}, "webhook": {"mode": "none"}, "crds": {"install": False}}
        found = render(values, "-n", namespace, release=release)
        return {(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for obj in found}

    assert keys("one", "a") & keys("two", "b") == set()


def test_namespaced_rights_are_roles_alone() -> None:
    """But for those of people (aggregated) and of `helm test`, nothing is granted across namespaces."""
    objects = render(MATRIX["namespaces"])
    cluster = {obj["metadata"]["name"] for obj in objects if obj["kind"] in {"ClusterRole", "ClusterRoleBinding"}}
    assert cluster == {"aigateway-edit", "aigateway-view", "aigateway-test"}
    roles = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in objects if obj["kind"] == "Role"}
    assert roles == {("a", "aigateway-operator"), ("b", "aigateway-operator"), (NAMESPACE, "aigateway-operator-home")}


def test_without_volumes_of_their_own_pods_are_deployments() -> None:
    """Records that outlive a pod need a volume for each replica, which StatefulSets have."""
    plain, kept = render(MONGODB), render(LOGS["volumes"])
    for name in ("aigateway-operator", "aigateway-webhook"):
        assert "persistentVolumeClaimRetentionPolicy" not in one(plain, "Deployment", name)["spec"]
        spec = one(kept, "StatefulSet", name)["spec"]
        assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "logs"
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
        assert ("Service", spec["serviceName"]) in {(obj["kind"], obj["metadata"]["name"]) for obj in kept}


def test_extra_manifests_are_templates_too() -> None:
    """As objects and as text."""
    values = {
        "extraManifests": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-object"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
        ]
    }
    text = template(values)
    assert ("name: 'aigateway-object'" in text or "name: aigateway-object" in text, "name: aigateway-text" in text) == (
        True,
        True,
    )


def test_rendering_is_the_same_each_time() -> None:
    """Nothing random, and nothing read from a cluster: `helm template`, Argo CD and Flux render what Helm installs."""
    assert template(MATRIX["preset full"]) == template(MATRIX["preset full"])
    sources = "".join(path.read_text() for path in (ROOT / "charts/aigateway/templates").rglob("*") if path.is_file())
    assert re.findall(r"\b(lookup|rand[A-Z]\w+|genSelfSignedCert|genCA|genSignedCert|uuidv4|now)\b", sources) == []


def test_alerts_are_those_of_the_repository_and_lead_to_ones_own_runbooks() -> None:
    """Templates of Prometheus inside them are left as they are."""
    on = {"metrics": {"prometheusRule": {"enabled": True, "runbookPrefix": "https://docs.example.com/"}}}
    source = yaml.safe_load((ROOT / "config/monitoring/prometheus-rules.yaml").read_text())["spec"]
    found = one(render(on), "PrometheusRule", "aigateway-operator")["spec"]
    urls = [
        rule["annotations"].pop("runbook_url")
        for spec in (source, found)
        for group in spec["groups"]
        for rule in group["rules"]
    ]
    half = len(urls) // 2
    assert urls[half:] == [f"https://docs.example.com/{url}" for url in urls[:half]]
    assert found == source


def test_namespaces_are_chosen_alike_by_program_and_webhook() -> None:
    """One selector, as text for the one and as an object for the other; the right to look at namespaces comes with it alone."""
    expressions = [
        {"key": "tier", "operator": "NotIn", "values": ["x", "y"]},
        {"key": "live", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"team": "a"}, "matchExpressions": expressions}
    objects = render({"watch": {"namespaceSelector": selector}, "crds": {"install": False}})
    (container,) = one(objects, "Deployment", "aigateway-operator")["spec"]["template"]["spec"]["containers"]
    text = next(entry["value"] for entry in container["env"] if entry["name"] == "AIGATEWAY_NAMESPACE_SELECTOR")
    assert text == "team=a,tier notin (x,y),live,!old"
    assert Settings(namespace_selector=text).namespace_selector == text
    assert one(objects, "ValidatingWebhookConfiguration", "aigateway-operator")["webhooks"][0]["namespaceSelector"] == selector

    def looks(objects: list[Object]) -> bool:
        rules = one(objects, "ClusterRole", "aigateway-operator")["rules"]
        return any("namespaces" in rule["resources"] for rule in rules)

    assert (looks(objects), looks(render({"crds": {"install": False}}))) == (True, False)
