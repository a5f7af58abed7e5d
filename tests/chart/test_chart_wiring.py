"""What hangs together across objects of the chart, and what no cluster here enforces: tokens, rights, policies, probes,
certificates. Rendered by real Helm, without a server.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import pytest

from aigateway_operator.api.gatewayconfig import Delivery
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.mounting import network_policy
from tests.chart.rendering import NAMESPACE, ROOT, Object, Values, merged, one, pods, render
from tests.chart.test_chart_templates import CERT_MANAGER, MATRIX, MONGODB, SERVES

Rule = tuple[str, str, str, str]
"""API group, resource, name ("" for any) and verb."""

OURS: Final = ("gatewayconfigs", "virtualmodels")
OBSERVED: Final[Values] = {"metrics": {"serviceMonitor": {"enabled": True}}}
"""With what Prometheus is told."""
FILES: Final[Values] = {"logs": {"files": {"enabled": True}}}
DNS, API, STORE, STATUS = 1053, 1443, 1379, 1081
PORTS: Final[Values] = {
    "networkPolicy": {"dnsPorts": [DNS], "apiServerPorts": [API], "storePorts": [STORE], "statusPorts": [STATUS]}
}
"""A port for each purpose, so that they can be told apart."""
KEPT: Final[Values] = {"logs": {"files": True, "mongodb": True}, "adminKey": {"existingSecret": "admin"}}
"""What a gateway keeps, and a key that it is given."""


@cache
def rendered(name: str) -> list[Object]:
    """Return the objects of a combination of values, without CRDs; nobody may change them."""
    special: dict[str, Values] = {
        "everything": merged(SERVES, MONGODB, FILES, OBSERVED, PORTS, {"gateway": {"apiWatch": True, **KEPT}}),
        "cert-manager everywhere": merged(SERVES, CERT_MANAGER),
    }
    return render(merged({"crds": {"install": False}}, special.get(name) or MATRIX[name]))


def account_rules(objects: list[Object], account: str) -> set[Rule]:
    """Return every right that roles and bindings of these objects give to a ServiceAccount."""
    roles = {(obj["kind"], obj["metadata"]["name"]): obj["rules"] for obj in objects if obj["kind"] in ("Role", "ClusterRole")}
    bound = [
        (obj["roleRef"]["kind"], obj["roleRef"]["name"])
        for obj in objects
        for subject in obj.get("subjects") or []
        if subject["name"] == account
    ]
    return {right for role in bound for right in rights_of(roles[role])}


def rights_of(rules: list[Object]) -> set[Rule]:
    """Return rules one by one."""
    return {
        (group, resource, name, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("combination", [name for name in MATRIX if name != "no rights" and not name.startswith("preset")])
def test_a_token_is_mounted_exactly_where_its_account_has_rights(combination: str) -> None:
    """A pod that is taken over has no token to take unless it needs one, and none that needs one lacks it."""
    objects = rendered(combination)
    for where, pod in pods(objects):
        spec = pod["spec"]
        mounted, needed = spec["automountServiceAccountToken"], bool(account_rules(objects, spec["serviceAccountName"]))
        assert mounted == needed, f"{where}: token {mounted}, rights {needed}"


def test_rights_of_gateway_job_and_helm_test_are_these_and_no_more() -> None:
    """Those of operator and webhook are held against what is used (tests/rights.py); these pods may do nothing else either."""
    objects = rendered("everything")
    assert account_rules(objects, "aigateway-gateway") == {("", "configmaps", "", verb) for verb in ("list", "watch")}
    gateways, models = (("ai-gateway.io", plural, "") for plural in OURS)
    assert account_rules(objects, "aigateway-gateway-apply") == {
        *((*gateways, verb) for verb in ("create", "patch")),
        *((*models, verb) for verb in ("list", "create", "patch", "delete")),
    }
    crds = "apiextensions.k8s.io", "customresourcedefinitions"
    assert account_rules(objects, "aigateway-test") == {
        *((*crds, f"{plural}.ai-gateway.io", "get") for plural in OURS),
        ("authorization.k8s.io", "subjectaccessreviews", "", "create"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "aigateway-operator", "get"),
        ("coordination.k8s.io", "leases", "aigateway-operator", "get"),
        *((*kind, verb) for kind in (gateways, models) for verb in ("get", "list")),
        (*gateways, "create"),
        ("", "pods", "", "list"),
    }


def test_people_are_given_our_kinds_and_nothing_else() -> None:
    """Whoever may edit a namespace edits gateways and models, and writes no status; whoever may view it writes nothing."""
    objects = rendered("separate")
    edit, view = (one(objects, "ClusterRole", f"aigateway-{name}") for name in ("edit", "view"))
    writes = ("create", "delete", "deletecollection", "patch", "update")
    assert rights_of(edit["rules"]) == {("ai-gateway.io", plural, "", verb) for plural in OURS for verb in writes}
    seen = [*OURS, *(f"{plural}/status" for plural in OURS)]
    assert rights_of(view["rules"]) == {("ai-gateway.io", what, "", verb) for what in seen for verb in ("get", "list", "watch")}
    into = {
        role["metadata"]["name"]: {
            label.rpartition("-")[2] for label in role["metadata"]["labels"] if label.startswith("rbac.authorization.k8s.io/")
        }
        for role in (edit, view)
    }
    assert into == {"aigateway-edit": {"admin", "edit"}, "aigateway-view": {"admin", "edit", "view"}}


def directions(policy: Object) -> dict[str, list[Object]]:
    """Return the rules of a NetworkPolicy by direction; one that is not named is open."""
    spec = policy["spec"]
    return {kind: spec.get(kind.lower(), []) for kind in spec["policyTypes"]}


def ports_of(rules: list[Object]) -> set[Any]:
    """Return the ports that rules allow."""
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_policies_close_both_directions_and_leave_open_what_each_pod_needs() -> None:
    """No network here enforces them: what is listed is compared with what the pods connect to."""
    objects = rendered("everything")
    policies = {obj["metadata"]["name"]: directions(obj) for obj in objects if obj["kind"] == "NetworkPolicy"}
    assert {name: ports_of(rules["Egress"]) for name, rules in policies.items() if "Egress" in rules} == {
        "aigateway-operator": {DNS, API, STORE, STATUS},
        "aigateway-webhook": {DNS, API, STORE},
        "aigateway-gateway-apply": {DNS, API},
        "aigateway-test": {DNS, API},
    }
    ingress = {name: ports_of(rules["Ingress"]) for name, rules in policies.items()}
    assert ingress == {
        "aigateway-operator": {"metrics"},
        "aigateway-webhook": {"webhook", "metrics"},
        "aigateway-gateway": {"http", "config-status", "metrics"},
        "aigateway-gateway-apply": set(),
        "aigateway-test": set(),
    }
    for name, rules in policies.items():
        for rule in rules.get("Egress", []):
            if ports_of([rule]) == {DNS}:
                assert {port["protocol"] for port in rule["ports"]} == {"UDP", "TCP"}, name
            if ports_of([rule]) == {STATUS}:
                assert rule["to"] == [{"namespaceSelector": {}}], "what gateway pods run is asked inside the cluster only"


def test_the_operator_may_reach_the_ports_that_the_gateway_of_the_same_values_names() -> None:
    """An own status or store port in `gateway.config` needs no second value, and one that is open already stands once."""
    config = {"delivery": {"statusPort": 9000}, "storage": {"redis": {"port": 6380}, "mongodb": {"port": STORE}, "qdrant": {}}}
    values = merged(SERVES, PORTS, {"crds": {"install": False}, "gateway": {"config": config}})
    egress = directions(one(render(values), "NetworkPolicy", "aigateway-operator"))["Egress"]
    listed = [[port["port"] for port in rule["ports"]] for rule in egress]
    assert listed[1:] == [[API], [STORE, 6380], [STATUS, 9000]]


def test_a_configuration_that_is_null_is_an_empty_one() -> None:
    """Helm takes a key away by null; a values file may say so of the whole configuration."""
    values = merged(SERVES, PORTS, {"crds": {"install": False}, "gateway": {"config": None}})
    egress = directions(one(render(values), "NetworkPolicy", "aigateway-operator"))["Egress"]
    assert ports_of(egress) == {DNS, API, STORE, STATUS}


def test_the_status_port_is_open_to_the_operator_alone() -> None:
    """The same peer as in the policy that `aigateway mount --network-policy` prints."""
    (found,) = [
        rule["from"]
        for rule in one(rendered("everything"), "NetworkPolicy", "aigateway-gateway")["spec"]["ingress"]
        if ports_of([rule]) == {"config-status"}
    ]
    delivery = Delivery.model_validate({"podSelector": {"matchLabels": {"app": "gateway"}}})
    printed = network_policy(GatewayKey(NAMESPACE, "main"), delivery, NAMESPACE)
    assert printed is not None
    assert found == printed["spec"]["ingress"][0]["from"]


def test_pods_run_as_the_user_of_the_images_and_their_volumes_are_that_users() -> None:
    """By number, so that a node can tell that it is not root; without the group a volume of one's own could not be written."""
    (user,) = set(re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for where, pod in pods(rendered("everything")):
        found = pod["spec"]["securityContext"]
        assert [found[key] for key in ("runAsUser", "runAsGroup", "fsGroup")] == [int(user)] * 3, where


@pytest.mark.parametrize("combination", ["everything", "controller"])
def test_probes_ask_for_life_and_for_readiness_each_in_its_place(combination: str) -> None:
    """A pod that is not ready must not be restarted for it, and one that lives is not ready for that alone."""
    ways = {"gateway": ("/api/v1/health/live", "/api/v1/health/ready")}
    asked = 0
    for where, pod in pods(rendered(combination)):
        (container,) = pod["spec"]["containers"]
        if "livenessProbe" not in container:
            assert where.startswith("Job/"), where
            continue
        live, ready = ways.get(container["name"], ("/healthz", "/readyz"))
        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert paths == {"startup": live, "liveness": live, "readiness": ready}, where
        ports = {port["name"] for port in container["ports"]}
        assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} <= ports, where
        asked += 1
    assert asked == (3 if combination == "everything" else 1)


@pytest.mark.parametrize("combination", ["cert-manager everywhere", "cert-manager in the controller", "issuer"])
def test_certificates_of_cert_manager_are_for_the_address_that_is_called_and_reach_the_pods(combination: str) -> None:
    """cert-manager is not here: names of Issuers, Secrets and mounts have to meet, and the leaf has to be the Service's."""
    objects = rendered(combination)
    leaf = one(objects, "Certificate", "aigateway-webhook-certificates")
    hook = one(objects, "ValidatingWebhookConfiguration", "aigateway-operator")
    service = hook["webhooks"][0]["clientConfig"]["service"]
    assert f"{service['name']}.{service['namespace']}.svc" in leaf["spec"]["dnsNames"]
    assert leaf["spec"]["usages"] == ["server auth"]
    assert hook["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{leaf['metadata']['namespace']}/{leaf['metadata']['name']}"
    }
    mounted = [
        (where, volume["secret"]["secretName"])
        for where, pod in pods(objects)
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "certificate"
    ]
    component = "operator" if combination == "cert-manager in the controller" else "webhook"
    assert mounted == [(f"Deployment/aigateway-{component}", leaf["spec"]["secretName"])]
    issuers = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "Issuer"}
    if combination == "issuer":
        assert (leaf["spec"]["issuerRef"]["name"], issuers) == ("ours", {})
        return
    authority = one(objects, "Certificate", "aigateway-webhook-authority")["spec"]
    assert issuers[leaf["spec"]["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    assert authority["isCA"] is True


@pytest.mark.parametrize("combination", ["separate", "controller"])
def test_the_webhooks_service_has_the_port_that_is_called_and_leads_to_the_one_that_is_served(combination: str) -> None:
    """From the configuration over the Service to the container and its variable, each by the other's number or name."""
    objects = rendered(combination)
    called = one(objects, "ValidatingWebhookConfiguration", "aigateway-operator")["webhooks"][0]["clientConfig"]["service"]
    (service,) = one(objects, "Service", called["name"])["spec"]["ports"]
    assert service["port"] == called["port"]
    name = "webhook" if combination == "separate" else "operator"
    (container,) = one(objects, "Deployment", f"aigateway-{name}")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert given["AIGATEWAY_WEBHOOK_PORT"] == str(ports[service["targetPort"]])
    assert given["AIGATEWAY_HEALTH_PORT"] == str(ports["metrics"])


def test_files_and_folders_that_programs_are_told_of_are_on_their_volumes() -> None:
    """The root file system is read-only, and a file that is not there is found out at the first use."""
    objects = rendered("everything")
    for where, pod in pods(objects):
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for entry in container["env"]:
            path = entry.get("value", "")
            if not path.startswith("/"):
                continue
            (mount,) = [mounts[base] for base in mounts if path == base or path.startswith(f"{base}/")]
            secret = volumes[mount["name"]].get("secret")
            if entry["name"].endswith("_FILE"):
                assert secret is not None, f"{where}: {path}"
                assert path == f"{mount['mountPath']}/{secret['items'][0]['path']}", where
            elif "LOG" in entry["name"]:
                assert not mount.get("readOnly"), f"{where}: {path}"
    (optional,) = {
        volume["secret"].get("optional")
        for _, pod in pods(objects)
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "mongodb"
    }
    assert optional is True, "logs never keep the operator from starting"


def test_the_lease_that_is_asked_for_is_the_one_that_is_allowed() -> None:
    """Its name stands in a variable and in a Role, and so does the owner's."""
    objects = rendered("everything")
    (container,) = one(objects, "Deployment", "aigateway-operator")["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    rights = account_rules(objects, "aigateway-operator")
    assert {name for _, resource, name, verb in rights if (resource, verb) == ("leases", "update")} == {
        given["AIGATEWAY_LEASE_NAME"]
    }
    assert {name for _, resource, name, _ in rights if resource == "deployments"} == {
        str(given["AIGATEWAY_OWNER"]).removeprefix("Deployment/")
    }


def test_pods_are_replaced_one_by_one_and_nodes_can_be_drained() -> None:
    """A new pod is ready before an old one goes; one replica has no budget, which would only stop a drain; a small cluster
    takes all replicas, as far apart as it can.
    """
    objects = render(merged({"crds": {"install": False}, "controller": {"replicas": 1}, "webhook": {"replicas": 2}}, SERVES))
    budgets = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "PodDisruptionBudget"}
    assert budgets.keys() == {"aigateway-webhook", "aigateway-gateway"}
    assert {budget["unhealthyPodEvictionPolicy"] for budget in budgets.values()} == {"AlwaysAllow"}
    deployments = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "Deployment"}
    assert len(deployments) == 3
    for name, spec in deployments.items():
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, name
        pod = spec["template"]["spec"]
        spread = pod.get("topologySpreadConstraints", [])
        assert {one["whenUnsatisfiable"] for one in spread} == ({"ScheduleAnyway"} if name in budgets else set()), name
        kinds = {kind for rules in pod.get("affinity", {}).values() for kind in rules}
        assert kinds == ({"preferredDuringSchedulingIgnoredDuringExecution"} if name in budgets else set()), name


def test_a_webhook_on_the_nodes_network_still_finds_services_and_can_be_upgraded() -> None:
    """MongoDB for logs is one; the node's resolver does not know it. With a node a replica none has free ports for one more."""
    spec = one(render({"crds": {"install": False}, "webhook": {"hostNetwork": True}}), "Deployment", "aigateway-webhook")[
        "spec"
    ]
    pod = spec["template"]["spec"]
    assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_what_prometheus_is_told_to_ask_is_there() -> None:
    """A ServiceMonitor chooses Services by labels and a port by name: each Service that it means has both."""
    objects = rendered("everything")
    spec = one(objects, "ServiceMonitor", "aigateway-operator")["spec"]
    labels = spec["selector"]["matchLabels"].items()
    chosen = [obj for obj in objects if obj["kind"] == "Service" and labels <= obj["metadata"]["labels"].items()]
    asked = {
        service["metadata"]["name"]
        for service in chosen
        if {endpoint["port"] for endpoint in spec["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}
    }
    assert asked == {"aigateway-operator", "aigateway-webhook-metrics"}
    assert all(endpoint["honorLabels"] for endpoint in spec["endpoints"]), "`namespace` is that of the gateway it is about"
    assert spec["namespaceSelector"] == {"matchNames": [NAMESPACE]}
