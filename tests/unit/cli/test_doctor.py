"""What `doctor` says of what a local API server cannot be: an old cluster, a dead leader; and that its needs are the roles'."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.checkup import State
from aigateway_operator.cli.doctor_cluster import NEEDS, Need, check_api, check_leader, check_rights
from aigateway_operator.cli.doctor_gateways import check_gateway, check_pods
from aigateway_operator.cli.doctor_host import check_disk, read_settings
from aigateway_operator.cli.doctor_webhook import check_webhook
from aigateway_operator.cli.mount import parse_delivery
from aigateway_operator.errors import Forbidden, NotFound
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, JsonObject, Resource
from aigateway_operator.settings import Settings
from tests.cli_suite import run_cli
from tests.unit.cli.test_screens import make_object

ROLES = Path(__file__).resolve().parents[3] / "hack" / "manifests" / "operator.yaml"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Patient:
    """A cluster that says what a test wants. lease: its spec."""

    def __init__(self, version: str = "v1.34.1", lease: dict[str, Any] | None = None, denied: str = "") -> None:
        self.said, self.lease, self.denied = version, lease, denied

    async def version(self) -> str:
        return self.said

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        return {"spec": self.lease or {}}

    async def list_all(
        self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
    ) -> tuple[list[JsonObject], str]:
        return [], "1"

    async def can_i(self, verb: str, resource: Resource, namespace: str | None, **_: Any) -> bool:
        if self.denied:
            raise Forbidden(self.denied, status=403)
        return namespace != "closed"

    async def try_create(self, resource: Resource, namespace: str, body: JsonObject) -> None:
        """Accept everything."""


@pytest.mark.parametrize(("version", "state"), [("v1.31.9", State.WRONG), ("v1.32.0", State.FINE), ("v2.0.0+k3s1", State.FINE)])
async def test_a_cluster_that_is_too_old_is_wrong(version: str, state: State) -> None:
    """The fixed structure needs 1.32."""
    assert (await check_api(Patient(version))).state is state


@pytest.mark.parametrize(
    ("lease", "state", "text"),
    [
        ({"holderIdentity": "a", "renewTime": "2026-01-01T11:59:58Z", "leaseDurationSeconds": 4}, State.FINE, "held by a"),
        ({"holderIdentity": "a", "renewTime": "2026-01-01T11:59:00Z", "leaseDurationSeconds": 4}, State.WRONG, "60 s ago"),
        ({"holderIdentity": "", "renewTime": "2026-01-01T11:59:58Z"}, State.WRONG, "by nobody"),
        ({}, State.WRONG, "by nobody"),
    ],
)
async def test_a_lease_that_nobody_renews_is_wrong(lease: dict[str, Any], state: State, text: str) -> None:
    """A holder that is gone leads no more."""
    found = await check_leader(Patient(lease=lease), "system", "op", NOW)
    assert (found.state, text in found.message) == (state, True)


async def test_a_dry_run_in_a_namespace_that_is_not_there_says_so() -> None:
    """Nobody else has answered: a typing error of `-n` is no fault of the webhook."""

    class Elsewhere(Patient):
        async def try_create(self, resource: Resource, namespace: str, body: JsonObject) -> None:
            raise NotFound(f'namespaces "{namespace}" not found', status=404)

    *_, check = [check async for check in check_webhook(Elsewhere(), "op", None, "nowhere")]
    assert (check.state, check.subject) == (State.DOUBT, "dry run in namespace nowhere")
    assert "no such namespace" in check.message
    assert "-n NAMESPACE" in check.remedy


async def test_rights_are_asked_for_each_namespace_and_named() -> None:
    """One namespace without a Role is told by its name."""
    checks = await check_rights(Patient(), ["open", "closed"], "system", {"webhook_configuration": "op"}, None)
    wrong = [check for check in checks if check.state is State.WRONG]
    assert len(wrong) == len([need for need in NEEDS if need.where == "work"])
    assert all("namespace closed" in check.message and "open" not in check.message for check in wrong)


async def test_rights_of_a_person_are_not_taken_for_the_operators() -> None:
    """Somebody who looks with an account of their own is told whose rights these are, and how to ask about the other's."""
    for account, words in ((None, "ask about its own with --account"), (("system", "operator"), "Apply the operator's roles")):
        [first, *_] = await check_rights(Patient(), ["closed"], "system", {}, account)
        assert first.state is State.WRONG
        assert words in first.remedy
        assert ("--account" in first.remedy) == (account is None)


async def test_rights_that_may_not_be_asked_about_are_one_doubt() -> None:
    """And no fault of the installation."""
    [check] = await check_rights(Patient(denied="no"), [], "system", {}, ("system", "op"))
    assert check.state is State.DOUBT


def test_needs_are_what_the_roles_grant() -> None:
    """A right that is granted in vain, or needed and not granted, shows here."""
    granted: set[tuple[str, str, str]] = set()
    for document in yaml.safe_load_all(ROLES.read_text()):
        if document["kind"] in ("ClusterRole", "Role") and document["metadata"]["name"].startswith("aigateway-operator"):
            granted |= {
                (group, resource, verb)
                for rule in document["rules"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    # These roles' operator is no StatefulSet and follows no namespaces by labels.
    needs = [need for need in NEEDS if need.named != "StatefulSet" and not need.only_with]
    assert {(need.resource.group, _plural(need), verb) for need in needs for verb in need.verbs} == granted


def _plural(need: Need) -> str:
    return f"{need.resource.plural}/{need.subresource}" if need.subresource else need.resource.plural


def test_a_generation_that_nobody_has_looked_at_is_wrong() -> None:
    """The operator does not run, or not here."""
    gateway = make_object("GatewayConfig", "main", Ready="True Ready")
    gateway["metadata"]["generation"] = 3
    [check] = check_gateway(gateway, [])
    assert (check.state, "has not looked" in check.message) == (State.WRONG, True)


def test_models_that_are_not_ready_are_counted_and_some_named() -> None:
    """A doubt, since each has its own owner."""
    gateway = make_object("GatewayConfig", "main", Ready="True Ready")
    models = [make_object(name=f"m{number}", Ready="False Invalid") for number in range(5)]
    found = [check for check in check_gateway(gateway, models) if check.subject == "models"]
    assert [(check.state, check.message) for check in found] == [(State.DOUBT, "5 models not Ready: m0, m1, m2 and 2 more")]


def test_a_gateway_that_models_name_and_that_is_not_there_is_wrong() -> None:
    """A typing error in gatewayRef serves nobody, and no GatewayConfig tells of it."""

    class Misspelt(Patient):
        async def list_all(
            self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
        ) -> tuple[list[JsonObject], str]:
            made = {"a": "main", "b": "mian", "c": "mian"}
            models = [make_object(name=name, spec={"gatewayRef": {"name": gateway}}) for name, gateway in made.items()]
            gateways = [make_object("GatewayConfig", "main", Ready="True Ready")]
            return {VIRTUAL_MODELS: models, GATEWAY_CONFIGS: gateways}.get(resource, []), "1"

        async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
            raise Forbidden("get is forbidden", status=403)

    @asynccontextmanager
    async def connect(_args: Namespace) -> AsyncIterator[Misspelt]:
        yield Misspelt()

    checks = run_cli("doctor", "-n", "ai", "-o", "json", connect=connect).data["checks"]
    assert [one["message"] for one in checks if (one["area"], one["subject"]) == ("ai/main", "Ready")] == ["about Ready"]
    found = [one for one in checks if one["subject"] == "GatewayConfig"]
    assert [(one["area"], one["state"]) for one in found] == [("ai/mian", State.WRONG)]
    assert found[0]["message"] == "does not exist; named by 2 models: b, c"
    assert "spec.gatewayRef.name" in found[0]["remedy"]


def test_pods_with_the_same_fault_are_one_row() -> None:
    """Two hundred pods of one Deployment fail the same way."""
    gateway = make_object("GatewayConfig", "main", Ready="True Ready")
    delivery = parse_delivery(GatewayKey("ai", "main"), {"delivery": {"podSelector": {"matchLabels": {"app": "x"}}}})
    pods = [{"metadata": {"name": f"p{number}"}, "spec": {"volumes": []}} for number in range(9)]
    [check] = check_pods(gateway, delivery, pods)
    assert (check.state, check.message) == (
        State.DOUBT,
        "9 pods (p0, p1, p2 and 6 more): mounts none of the gateway's documents",
    )


def test_a_volume_that_takes_only_some_files_counts_as_missing() -> None:
    """`items` without the manifest looks like a mount, and never verifies."""
    gateway = make_object("GatewayConfig", "main", Ready="True Ready")
    delivery = parse_delivery(GatewayKey("ai", "main"), {"delivery": {"podSelector": {"matchLabels": {"app": "x"}}}})
    part = {"name": "c", "configMap": {"name": "main-config", "items": [{"key": "config.yml", "path": "config.yml"}]}}
    spec = {"volumes": [part, {"name": "k", "secret": {"secretName": "main-credentials"}}]}
    [check] = check_pods(gateway, delivery, [{"metadata": {"name": "p"}, "spec": spec}])
    assert (check.state, "configMap/main-config" in check.message) == (State.WRONG, True)


def test_a_name_that_is_no_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable has no effect and no error of its own."""
    monkeypatch.setenv("AIGATEWAY_NAMESPACE", "ai")
    _, checks = read_settings()
    assert [check.subject for check in checks if check.state is State.DOUBT] == ["AIGATEWAY_NAMESPACE"]


def test_folders_of_the_logs_are_looked_at(tmp_path: Path) -> None:
    """One that is there and large enough is fine; a URI file that is not there is wrong."""
    settings = Settings(log_spool_dir=tmp_path, log_spool_mebibytes=4, log_mongodb_uri_file=tmp_path / "uri")
    assert [(check.subject, check.state) for check in check_disk(settings)] == [
        ("AIGATEWAY_LOG_SPOOL_DIR", State.FINE),
        ("AIGATEWAY_LOG_MONGODB_URI_FILE", State.WRONG),
    ]


def test_whoever_may_not_list_gateways_still_sees_the_rest() -> None:
    """One refusal is one row with what to do, not the end of the table; seen as people without the right see it."""

    class Closed(Patient):
        async def list_all(
            self, resource: Resource, namespace: str | None, *, label_selector: str | None = None
        ) -> tuple[list[JsonObject], str]:
            raise Forbidden("gatewayconfigs is forbidden", status=403)

        async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
            raise Forbidden("get is forbidden", status=403)

    @asynccontextmanager
    async def connect(_args: Namespace) -> AsyncIterator[Closed]:
        yield Closed()

    done = run_cli("doctor", "-n", "ai", "-o", "json", connect=connect)
    rows = {(one["area"], one["subject"]): one for one in done.data["checks"]}
    assert rows["api", "version"]["state"] == State.FINE
    assert rows["gateways", "GatewayConfig"]["state"] == State.DOUBT
    assert "a context that has it" in rows["gateways", "GatewayConfig"]["remedy"]
    assert ("api", "access") not in rows
