"""Namespaces split over several releases: two operators share a cluster and leave each other's objects alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.audit import WRITES, AuditRecord
from hack.controlplane import ControlPlane
from tests.apiserver.world import World, gateway_config, secret, virtual_model
from tests.eventually import eventually
from tests.operators import InProcess, Process, operator_kubeconfig

ACCOUNT = "split-operator"
"""Not named as the chart's, whose every right and refusal is accounted for: these have others."""
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"


@dataclass(frozen=True)
class Release:
    """An operator's namespace, with a ServiceAccount that has the operator's rights there and nowhere else."""

    world: World
    user: str
    kubeconfig: Path

    @classmethod
    def make(cls, plane: ControlPlane, namespace: str, folder: Path) -> Release:
        """Grant the rights: a RoleBinding to the operator's ClusterRole, and a Lease in the namespace itself."""
        account, space = ACCOUNT, f"/api/v1/namespaces/{namespace}"
        subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
        lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lease"}
        everything = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "aigateway-operator"}
        for path, body in (
            (f"{space}/serviceaccounts", {"metadata": {"name": account}}),
            (f"{RBAC}/{namespace}/roles", {"metadata": {"name": "lease"}, "rules": [lease]}),
            (f"{RBAC}/{namespace}/rolebindings", {"metadata": {"name": "lease"}, "subjects": subjects, "roleRef": role}),
            (f"{RBAC}/{namespace}/rolebindings", {"metadata": {"name": "all"}, "subjects": subjects, "roleRef": everything}),
        ):
            made = plane.request("POST", path, body)
            assert made.status == 201, made.body
        token = plane.token_for_service_account(namespace, account)
        world, file = World(plane, namespace), folder / f"{namespace}.kubeconfig"

        def in_force() -> None:  # the authorizer learns of a binding by a watch of its own
            assert plane.request("GET", world.path("VirtualModel"), token=token).status == 200

        eventually(in_force, within_seconds=30)
        return cls(world, f"system:serviceaccount:{namespace}:{account}", plane.kubeconfig_for(account, token, file))

    def widen(self) -> None:
        """Let it work in the whole cluster and see namespaces, as AIGATEWAY_NAMESPACE_SELECTOR needs it."""
        plane, name = self.world.plane, f"namespaces-of-{self.world.namespace}"
        account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.world.namespace}
        group = "rbac.authorization.k8s.io"
        rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}]
        objects = [{"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}]
        for role in (name, "aigateway-operator"):
            reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
            metadata = {"name": f"{role}-of-{self.world.namespace}"}
            objects.append({"kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [account]})
        items = [{"apiVersion": f"{group}/v1", **one} for one in objects]
        plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), check=True)

        def in_force() -> None:
            for what in ("namespaces", "virtualmodels.ai-gateway.io"):
                said = plane.kubectl("auth", "can-i", "list", what, "-A", kubeconfig=self.kubeconfig)
                assert said.returncode == 0, said.stdout + said.stderr

        eventually(in_force, within_seconds=30)

    def wrote_in(self, world: World, since: object) -> list[AuditRecord]:
        """Return what it wrote in a namespace, but for its Lease."""
        asked = [record for record in self.asked(since) if record.verb in WRITES and record.resource != "leases"]
        return [record for record in asked if record.namespace == world.namespace]

    def asked(self, since: object) -> list[AuditRecord]:
        """Return what the operator has asked for, but for what is of no namespace and no kind, such as the API's groups."""
        records = self.world.plane.audit_since(since, user=self.user)  # type: ignore[arg-type]  # an AuditMark
        return [record for record in records if record.resource]


@pytest.fixture
def releases(plane: ControlPlane, tmp_path: Path) -> Iterator[tuple[Release, Release]]:
    """Two namespaces, each with the rights of an operator of its own."""
    operator_kubeconfig(plane, tmp_path)  # the ClusterRole
    names = [f"split-{one}-{tmp_path.name[-12:].lower().strip('_').replace('_', '-')}" for one in "ab"]
    for name in names:
        assert plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    first, second = (Release.make(plane, name, tmp_path) for name in names)
    yield first, second
    for name in names:
        plane.request("DELETE", f"/api/v1/namespaces/{name}")


def test_two_operators_share_a_cluster_without_touching_each_others_objects(
    releases: tuple[Release, Release], start_operator: Callable[..., InProcess]
) -> None:
    """With the same names in both namespaces, each operator serves its own, asks for nothing else, and is refused nothing;
    what changes where no operator works is left as it is.
    """
    first, second = releases
    mark = first.world.plane.audit_mark()
    for release in releases:
        release.world.create(secret(), gateway_config(), virtual_model("chat", modelName=f"chat-{release.world.namespace}"))
    operators = [
        start_operator(
            kubeconfig=release.kubeconfig,
            namespaces=(release.world.namespace,),
            lease_namespace=release.world.namespace,
            lease_name="aigateway-operator",
            webhook_certificates="off",
        )
        for release in releases
    ]
    for release in releases:
        release.world.wait_ready("chat", within_seconds=30)
        assert set(release.world.models()) == {f"chat-{release.world.namespace}"}

    operators[1].stop()
    second.world.patch_spec("VirtualModel", "chat", current="big")
    first.world.patch_spec("VirtualModel", "chat", current="big")
    eventually(lambda: _serves(first.world, "big"), within_seconds=20)
    assert second.world.get("VirtualModel", "chat")["status"]["observedGeneration"] == 1
    _serves(second.world, "small")

    for release in releases:
        asked = release.asked(mark)
        assert {record.namespace for record in asked} == {release.world.namespace}
        assert [record for record in asked if record.denied] == []
        assert {"configmaps", "secrets", "virtualmodels/status"} <= {record.resource for record in asked}


def test_namespaces_are_split_by_label_and_followed_as_labels_change(
    releases: tuple[Release, Release], plane: ControlPlane, tmp_path: Path
) -> None:
    """An operator with a selector works nowhere while no namespace has the label, begins where it is put, leaves alone where it
    is taken away, and writes nothing anew where it worked all along.
    """
    release, first, second = releases[0], releases[0].world, releases[1].world
    label = f"team-{first.namespace}"
    release.widen()
    for world in (first, second):
        world.create(secret(), gateway_config(), virtual_model("chat", modelName=f"chat-{world.namespace}"))
    operator = Process.start(
        release.kubeconfig, tmp_path / "operator.log", namespace_selector=f"{label}=yes",
        lease_namespace=first.namespace, webhook_certificates="off",
    )  # fmt: skip
    try:
        eventually(lambda: _leads(operator), within_seconds=40)
        _label(first, label, "yes")
        first.wait_ready("chat", within_seconds=30)
        assert not second.exists("ConfigMap", "main-config"), operator.output()
        mark = plane.audit_mark()
        _label(second, label, "yes")
        second.wait_ready("chat", within_seconds=30)
        assert release.wrote_in(first, mark) == []

        _label(first, label, None)
        eventually(lambda: _works_only_in(operator, second.namespace), within_seconds=20)
        for world in (first, second):
            world.patch_spec("VirtualModel", "chat", current="big")
        eventually(lambda: _serves(second, "big"), within_seconds=30)
        _serves(first, "small")
        assert release.wrote_in(first, mark) == []
        assert operator.stop() == 0, operator.output()
    finally:
        operator.kill()


def _leads(operator: Process) -> None:
    assert "leads now" in operator.output(), operator.output()


def _works_only_in(operator: Process, namespace: str) -> None:
    said = [line for line in operator.output().splitlines() if "Working in namespaces" in line]
    assert f"namespaces {namespace} " in f"{said[-1]} ", said


def _label(world: World, label: str, value: str | None) -> None:
    body = {"metadata": {"labels": {label: value}}}
    path = f"/api/v1/namespaces/{world.namespace}"
    answer = world.plane.request("PATCH", path, body, content_type="application/merge-patch+json")
    assert answer.status == 200, answer.body


def _serves(world: World, current: str) -> None:
    assert world.models()[f"chat-{world.namespace}"]["current"] == current
